//! A token in a file that age encrypts (age-encryption.org/v1), for machines without a keyring. The `age` command can read
//! and write it, too.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::TokenErrorKind;
use crate::platform::private_file;

/// The most scrypt work that is accepted, as a power of two. It takes seconds.
const MAX_WORK_FACTOR: u8 = 20;

/// The longest plain text, in bytes.
const MAX_PLAIN: u64 = 64 * 1024;

/// What encrypts and decrypts the file.
#[derive(Debug)]
pub(super) enum AgeKey {
    /// A file with a secret key, as `age-keygen` writes it. A missing one is created when a token is stored.
    Identity(PathBuf),
    Passphrase(SecretString),
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
        AgeKey::Passphrase(passphrase) => {
            let mut identity = scrypt::Identity::new(passphrase.clone());
            identity.set_max_work_factor(MAX_WORK_FACTOR);
            decryptor
                .decrypt(std::iter::once(&identity as &dyn Identity))
                .map_err(|error| passphrase_failed(&error))
        }
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
            encrypt(&scrypt::Recipient::new(passphrase.clone()), token)
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
