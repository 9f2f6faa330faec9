//! Where principals' long-lived tokens come from, and how `rolekeeper login` puts them there. A token is read at each use
//! and wiped after it; only what a slow program printed is kept for a while.

mod age_file;
mod command;
mod error;
mod keyring;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rolekeeper::connect;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroize;

use crate::clock::{BootTime, Clock};
use crate::config::TokenLocation;
use crate::platform::private_file;
use crate::platform::sys::keep_in_memory;
use crate::sync::lock;

use crate::sandbox::helper::command_runner::CommandRunner;
use age_file::Sealed;
use command::Kept;
pub use error::{TokenError, TokenErrorKind};

/// The token of one principal, wherever it lives.
#[derive(Debug)]
pub struct TokenSource {
    upstream: Arc<str>,
    source: TokenLocation,
    /// Who starts the program that prints it, if it is one's.
    starter: Option<Arc<CommandRunner>>,
    /// One asks at a time: a person is not to be asked twice, nor a program started twice.
    turn: Arc<tokio::sync::Mutex<()>>,
    keyring: keyring::Asked,
    kept: Mutex<Option<Kept>>,
    /// What opens an encrypted file, once a person has said it.
    passphrase: Mutex<Option<SecretString>>,
}

impl TokenSource {
    pub fn new(upstream: Arc<str>, source: TokenLocation) -> Self {
        Self {
            upstream,
            source,
            starter: None,
            turn: Arc::default(),
            keyring: keyring::Asked::default(),
            kept: Mutex::default(),
            passphrase: Mutex::default(),
        }
    }

    /// With whoever starts the program that prints the token, where it is one's.
    pub fn started_by(self, starter: Option<Arc<CommandRunner>>) -> Self {
        Self { starter, ..self }
    }

    pub fn source(&self) -> &TokenLocation {
        &self.source
    }

    /// Whether `login` can put a token there; elsewhere somebody else does.
    pub fn is_writable(&self) -> bool {
        matches!(
            self.source,
            TokenLocation::Keyring(_) | TokenLocation::Age { .. }
        )
    }

    /// Whether it opens with a passphrase that a person has to say.
    pub fn has_passphrase(&self) -> bool {
        matches!(self.source, TokenLocation::Age { identity: None, .. })
    }

    /// The token as it is now.
    pub async fn token(&self) -> Result<SecretString, TokenError> {
        let text = match &self.source {
            TokenLocation::Env(name) => match std::env::var_os(name) {
                Some(value) => value.to_string_lossy().into_owned().into(),
                None => return Err(self.fails(TokenErrorKind::NoVariable)),
            },
            TokenLocation::File(path) => private_file::read(path)
                .map_err(|error| self.fails(TokenErrorKind::File(error)))?
                .into(),
            TokenLocation::SystemdCredential(name) => {
                let path = self.credential(name)?;
                private_file::read(&path)
                    .map_err(|error| self.fails(TokenErrorKind::File(error)))?
                    .into()
            }
            TokenLocation::Keyring(name) => {
                let turn = Arc::clone(&self.turn);
                keyring::read(name, turn, &self.keyring)
                    .await
                    .map_err(|why| self.fails(why))?
            }
            TokenLocation::Age { file, identity } => self.unseal(file, identity.as_deref()).await?,
            TokenLocation::Command { words, keep } => {
                let now = || Clock::System.now().boot;
                let _turn = self.turn.lock().await;
                if let Some(token) = self.kept(now()) {
                    return Ok(token);
                }
                let printed = command::run(words, self.starter.as_deref()).await;
                let token = self.parse(&printed.map_err(|why| self.fails(why))?)?;
                *lock(&self.kept) = Kept::new(&token, now(), *keep);
                return Ok(token);
            }
        };
        self.parse(&text)
    }

    /// Puts a token there in the place of the one that is there, and looks whether it can be read again.
    pub async fn store(
        &self,
        token: &SecretString,
        passphrase: Option<SecretString>,
    ) -> Result<(), TokenError> {
        match &self.source {
            TokenLocation::Keyring(name) => {
                let turn = Arc::clone(&self.turn);
                keyring::write(name, token.clone(), turn, &self.keyring)
                    .await
                    .map_err(|why| self.fails(why))?;
            }
            TokenLocation::Age { file, identity } => {
                let _turn = self.turn.lock().await;
                let said = passphrase.clone().or_else(|| self.passphrase());
                let key = self.opener(identity.as_deref(), said)?;
                let (file, token) = (file.clone(), token.clone());
                age_file::blocking(move || age_file::write(&file, &key, &token))
                    .await
                    .map_err(|why| self.fails(why))?;
                if let Some(passphrase) = passphrase {
                    self.opens_with(passphrase);
                }
            }
            _ => return Err(self.fails(TokenErrorKind::ReadOnly)),
        }
        let stored = self.token().await?;
        let is_same = stored.expose_secret() == token.expose_secret();
        if is_same {
            Ok(())
        } else {
            Err(self.fails(TokenErrorKind::Unstored))
        }
    }

    /// Takes the passphrase of an encrypted file, if it opens it.
    pub async fn unlock(&self, passphrase: SecretString) -> Result<(), TokenError> {
        let TokenLocation::Age {
            file,
            identity: None,
        } = &self.source
        else {
            return Err(self.fails(TokenErrorKind::NoPassphrase));
        };
        let (file, key) = (file.clone(), Sealed::Passphrase(passphrase.clone()));
        age_file::blocking(move || age_file::read(&file, &key))
            .await
            .map_err(|why| self.fails(why))?;
        self.opens_with(passphrase);
        Ok(())
    }

    /// What a person has said, for the process that comes next.
    pub fn passphrase(&self) -> Option<SecretString> {
        lock(&self.passphrase).clone()
    }

    /// Whose passphrase that is, and of which file.
    pub fn sealed_place(&self) -> Option<String> {
        match &self.source {
            TokenLocation::Age {
                file,
                identity: None,
            } => Some(format!("{} {}", self.upstream, file.display())),
            _ => None,
        }
    }

    pub fn opens_with(&self, passphrase: SecretString) {
        keep_in_memory(&passphrase);
        *lock(&self.passphrase) = Some(passphrase);
    }

    /// The upstream has refused it: what is kept in memory may be out of date.
    pub fn was_refused(&self) {
        lock(&self.kept).take();
    }

    /// A person is at the keyboard: whatever was dismissed before may be asked again.
    pub fn ask_again(&self) {
        self.keyring.ask_again();
    }

    fn kept(&self, now: BootTime) -> Option<SecretString> {
        lock(&self.kept).as_ref()?.at(now)
    }

    async fn unseal(
        &self,
        file: &Path,
        identity: Option<&Path>,
    ) -> Result<SecretString, TokenError> {
        let _turn = self.turn.lock().await;
        let passphrase = self.passphrase();
        let (key, file) = (self.opener(identity, passphrase)?, file.to_owned());
        age_file::blocking(move || age_file::read(&file, &key))
            .await
            .map_err(|why| self.fails(why))
    }

    fn opener(
        &self,
        identity: Option<&Path>,
        passphrase: Option<SecretString>,
    ) -> Result<Sealed, TokenError> {
        match (identity, passphrase) {
            (Some(path), _) => Ok(Sealed::Identity(path.into())),
            (None, Some(passphrase)) => Ok(Sealed::Passphrase(passphrase)),
            (None, None) => Err(self.fails(TokenErrorKind::Sealed)),
        }
    }

    fn credential(&self, name: &str) -> Result<PathBuf, TokenError> {
        let folder = connect::variable("CREDENTIALS_DIRECTORY")
            .ok_or_else(|| self.fails(TokenErrorKind::NoCredentials))?;
        Ok(Path::new(&folder).join(name))
    }

    /// Takes a text for this principal's token, if it can be one, without the white space around it.
    pub fn parse(&self, text: &SecretString) -> Result<SecretString, TokenError> {
        let token = SecretString::from(text.expose_secret().trim());
        match flaw(token.expose_secret()) {
            Some(why) => Err(self.fails(TokenErrorKind::NotAToken(why))),
            None => Ok(token),
        }
    }

    /// An error of this key's.
    pub(crate) fn fails(&self, why: TokenErrorKind) -> TokenError {
        TokenError {
            upstream: Arc::clone(&self.upstream),
            source: self.source.clone(),
            why,
        }
    }
}

/// Bytes that somebody gave us, as text; they are wiped either way.
fn text(mut bytes: Vec<u8>) -> Option<SecretString> {
    let text = std::str::from_utf8(&bytes).ok().map(SecretString::from);
    bytes.zeroize();
    text
}

/// What keeps a text from being a bearer token (RFC 6750, `b64token`, and whatever else is printable).
fn flaw(token: &str) -> Option<&'static str> {
    match token {
        "" => Some("it is empty"),
        _ if token.len() > 16 * 1024 => Some("it is longer than 16 KiB"),
        _ if !token.chars().all(|each| each.is_ascii_graphic()) => {
            Some("it has white space, control or non-ASCII characters inside")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
