//! A token in a file that age encrypts (age-encryption.org/v1), for machines without a keyring. The `age` command can read
//! and write it, too.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use age_core::format::{FileKey, Stanza};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::TokenErrorKind;
use crate::platform::memory::lock_in_memory;
use crate::platform::private_file;
use crate::sync::lock;

/// The most scrypt work that is accepted, as a power of two. It takes seconds.
const MAX_WORK_FACTOR: u8 = 20;

/// The longest plain text, in bytes.
const MAX_PLAIN: u64 = 64 * 1024;

/// What encrypts and decrypts the file.
#[derive(Debug)]
pub(super) enum AgeKey {
    /// A file with a secret key, as `age-keygen` writes it. A missing one is created when a token is stored.
    Identity(PathBuf),
    Passphrase(Arc<Passphrase>),
}

/// A passphrase, and the key that was derived from it last: deriving takes a second.
pub(super) struct Passphrase {
    pub(super) text: SecretString,
    derived: Mutex<Option<DerivedKey>>,
}

struct DerivedKey {
    /// The part of the file's header that the key was derived for, which changes with each write.
    arguments: Vec<String>,
    body: Vec<u8>,
    file_key: FileKey,
}

impl Passphrase {
    pub(super) fn new(text: SecretString) -> Self {
        lock_in_memory(text.expose_secret().as_bytes());

        Self {
            text,
            derived: Mutex::default(),
        }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Passphrase").finish_non_exhaustive()
    }
}

impl Identity for &Passphrase {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        // Others wait for the key instead of deriving it, too.
        let mut derived = lock(&self.derived);
        if let Some(derived) = &*derived
            && derived.arguments == stanza.args
            && derived.body == stanza.body
        {
            return Some(Ok(copy(&derived.file_key)));
        }

        let mut identity = scrypt::Identity::new(self.text.clone());
        identity.set_max_work_factor(MAX_WORK_FACTOR);
        let unwrapped = identity.unwrap_stanza(stanza)?;

        *derived = unwrapped.as_ref().ok().map(|file_key| DerivedKey {
            arguments: stanza.args.clone(),
            body: stanza.body.clone(),
            file_key: copy(file_key),
        });
        if let Some(derived) = &*derived {
            lock_in_memory(derived.file_key.expose_secret());
        }

        Some(unwrapped)
    }
}

/// Without a copy on the stack.
fn copy(file_key: &FileKey) -> FileKey {
    FileKey::init_with_mut(|copy| copy.copy_from_slice(file_key.expose_secret()))
}

pub(super) fn read(file: &Path, key: &AgeKey) -> Result<SecretString, TokenErrorKind> {
    let text = private_file::read_bytes(file).map_err(TokenErrorKind::File)?;
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(&*text))
        .map_err(|error| decryption_failed(&error))?;
    let decrypted = match key {
        AgeKey::Identity(path) => {
            let identity = read_identity(path)?;
            decryptor
                .decrypt(std::iter::once(&identity as &dyn Identity))
                .map_err(|error| identity_failed(&error, path))
        }
        AgeKey::Passphrase(passphrase) => decryptor
            .decrypt(std::iter::once(&&**passphrase as &dyn Identity))
            .map_err(|error| passphrase_failed(&error)),
    };

    let mut plain = Zeroizing::new(Vec::with_capacity(4096));
    decrypted?
        .take(MAX_PLAIN)
        .read_to_end(&mut plain)
        .map_err(|error| TokenErrorKind::DecryptionFailed(error.to_string()))?;
    super::from_utf8(&plain)
}

pub(super) fn write(file: &Path, key: &AgeKey, token: &SecretString) -> Result<(), TokenErrorKind> {
    let encrypted = match key {
        AgeKey::Identity(path) => {
            if !path.exists() {
                create_identity(path)?;
            }
            encrypt(&read_identity(path)?.to_public(), token)
        }
        AgeKey::Passphrase(passphrase) => {
            encrypt(&scrypt::Recipient::new(passphrase.text.clone()), token)
        }
    };

    let encrypted =
        encrypted.map_err(|error| TokenErrorKind::EncryptionFailed(error.to_string()))?;
    write_private(file, &encrypted)
}

fn encrypt(to: &dyn Recipient, token: &SecretString) -> io::Result<Vec<u8>> {
    let encryptor = Encryptor::with_recipients(std::iter::once(to)).map_err(io::Error::other)?;
    let mut encrypted = Vec::new();
    let armor = ArmoredWriter::wrap_output(&mut encrypted, Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armor)?;
    writer.write_all(token.expose_secret().as_bytes())?;
    writer.finish()?.finish()?;
    Ok(encrypted)
}

/// The first secret key of a file. Lines that start with `#` are comments.
fn read_identity(path: &Path) -> Result<x25519::Identity, TokenErrorKind> {
    let text = Zeroizing::new(private_file::read(path).map_err(TokenErrorKind::File)?);
    let mut lines = text
        .trim_start_matches(super::BYTE_ORDER_MARK)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identity = lines.next().and_then(|line| line.parse().ok());
    identity.ok_or_else(|| TokenErrorKind::InvalidIdentity(path.display().to_string()))
}

fn create_identity(path: &Path) -> Result<(), TokenErrorKind> {
    let identity = x25519::Identity::generate();
    let text = Zeroizing::new(format!(
        "# public key: {}\n{}\n",
        identity.to_public(),
        identity.to_string().expose_secret()
    ));
    write_private(path, text.as_bytes())
}

fn write_private(path: &Path, text: &[u8]) -> Result<(), TokenErrorKind> {
    let created = path.parent().map_or(Ok(()), private_file::create_folder);
    created
        .and_then(|()| private_file::replace(path, text))
        .map_err(|error| TokenErrorKind::WriteFailed(path.into(), error))
}

fn decryption_failed(error: &DecryptError) -> TokenErrorKind {
    TokenErrorKind::DecryptionFailed(error.to_string())
}

fn identity_failed(error: &DecryptError, path: &Path) -> TokenErrorKind {
    match error {
        DecryptError::NoMatchingKeys => TokenErrorKind::WrongIdentity(path.display().to_string()),
        error => decryption_failed(error),
    }
}

fn passphrase_failed(error: &DecryptError) -> TokenErrorKind {
    match error {
        DecryptError::NoMatchingKeys => TokenErrorKind::DecryptionFailed(
            "it is encrypted with a key, not with a passphrase".into(),
        ),
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            TokenErrorKind::WrongPassphrase
        }
        error => decryption_failed(error),
    }
}

/// Runs work in a thread that may block: deriving a key from a passphrase takes a second.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TokenErrorKind> + Send + 'static,
) -> Result<T, TokenErrorKind> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_panicked| TokenErrorKind::DecryptionFailed("internal error".into()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the key that was derived before can decrypt the file for a wrong passphrase.
    #[test]
    fn key_is_derived_once_for_each_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token.age");
        let token = SecretString::from("canary-token");
        let right = Arc::new(Passphrase::new("right".into()));
        write(&file, &AgeKey::Passphrase(Arc::clone(&right)), &token).unwrap();
        read(&file, &AgeKey::Passphrase(Arc::clone(&right))).unwrap();

        let derived = lock(&right.derived).take();
        let wrong = AgeKey::Passphrase(Arc::new(Passphrase {
            text: "wrong".into(),
            derived: Mutex::new(derived),
        }));
        let again = read(&file, &wrong).unwrap();
        assert_eq!(again.expose_secret(), "canary-token");

        write(&file, &AgeKey::Passphrase(right), &token).unwrap();
        assert!(matches!(
            read(&file, &wrong),
            Err(TokenErrorKind::WrongPassphrase)
        ));
    }
}
