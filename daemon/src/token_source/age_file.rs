//! A token in an encrypted file, for machines without a keyring. The format is that of age (age-encryption.org/v1), so that
//! other tools can make and open it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient, scrypt, x25519};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::TokenErrorKind;
use crate::platform::private_file;

/// The most work for a passphrase, as a power of two: what others write takes a second or so, and never minutes.
const WORK: u8 = 20;

/// What opens it.
#[derive(Debug)]
pub(super) enum Sealed {
    /// A file with a secret key, as `age-keygen` makes it. One that is not there is made when a token is stored.
    Identity(PathBuf),
    Passphrase(SecretString),
}

pub(super) fn read(file: &Path, key: &Sealed) -> Result<SecretString, TokenErrorKind> {
    let text = private_file::read_bytes(file).map_err(TokenErrorKind::File)?;
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(&*text)).map_err(|error| unsealable(&error))?;
    let mut plain = Zeroizing::new(Vec::with_capacity(4096));
    let reader = match key {
        Sealed::Identity(path) => {
            let key = identity(path)?;
            decryptor
                .decrypt(std::iter::once(&key as &dyn Identity))
                .map_err(|error| match error {
                    DecryptError::NoMatchingKeys => {
                        TokenErrorKind::OtherIdentity(path.display().to_string())
                    }
                    error => unsealable(&error),
                })
        }
        Sealed::Passphrase(passphrase) => {
            let mut key = scrypt::Identity::new(passphrase.clone());
            key.set_max_work_factor(WORK);
            decryptor
                .decrypt(std::iter::once(&key as &dyn Identity))
                .map_err(|error| match error {
                    DecryptError::NoMatchingKeys => TokenErrorKind::Unsealable(
                        "it is encrypted to a key, not with a passphrase".into(),
                    ),
                    DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
                        TokenErrorKind::WrongPassphrase
                    }
                    error => unsealable(&error),
                })
        }
    };
    reader?
        .take(64 * 1024)
        .read_to_end(&mut plain)
        .map_err(|error| TokenErrorKind::Unsealable(error.to_string()))?;
    super::text(std::mem::take(&mut *plain))
        .ok_or(TokenErrorKind::NotAToken("it is not UTF-8 text"))
}

pub(super) fn write(file: &Path, key: &Sealed, token: &SecretString) -> Result<(), TokenErrorKind> {
    let sealed = match key {
        Sealed::Identity(path) => {
            if !path.exists() {
                make_identity(path)?;
            }
            seal(&identity(path)?.to_public(), token)
        }
        Sealed::Passphrase(passphrase) => seal(&scrypt::Recipient::new(passphrase.clone()), token),
    };
    let sealed = sealed.map_err(|error| TokenErrorKind::Unsealable(error.to_string()))?;
    put(file, &sealed)
}

fn seal(to: &dyn Recipient, token: &SecretString) -> std::io::Result<Vec<u8>> {
    let encryptor =
        Encryptor::with_recipients(std::iter::once(to)).map_err(std::io::Error::other)?;
    let mut sealed = Vec::new();
    let mut writer =
        encryptor.wrap_output(ArmoredWriter::wrap_output(&mut sealed, Format::AsciiArmor)?)?;
    writer.write_all(token.expose_secret().as_bytes())?;
    writer.finish()?.finish()?;
    Ok(sealed)
}

/// The first secret key in a file of lines, of which those that begin with `#` are comments.
fn identity(path: &Path) -> Result<x25519::Identity, TokenErrorKind> {
    let text = Zeroizing::new(private_file::read(path).map_err(TokenErrorKind::File)?);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let key = lines.next().and_then(|line| line.parse().ok());
    key.ok_or_else(|| {
        TokenErrorKind::Unsealable(format!("there is no key of age in {}", path.display()))
    })
}

fn make_identity(path: &Path) -> Result<(), TokenErrorKind> {
    let key = x25519::Identity::generate();
    let text = Zeroizing::new(format!(
        "# public key: {}\n{}\n",
        key.to_public(),
        key.to_string().expose_secret()
    ));
    put(path, text.as_bytes())
}

fn put(path: &Path, text: &[u8]) -> Result<(), TokenErrorKind> {
    let written = path.parent().map_or(Ok(()), private_file::create_folder);
    written
        .and_then(|()| private_file::replace(path, text))
        .map_err(|error| TokenErrorKind::Unwritten(path.into(), error))
}

fn unsealable(error: &DecryptError) -> TokenErrorKind {
    TokenErrorKind::Unsealable(error.to_string())
}

/// Deriving a key from a passphrase takes a core for a second.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TokenErrorKind> + Send + 'static,
) -> Result<T, TokenErrorKind> {
    let crashed = |_| TokenErrorKind::Unsealable("it failed unexpectedly".into());
    tokio::task::spawn_blocking(work).await.map_err(crashed)?
}
