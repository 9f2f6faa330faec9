//! Where the long-lived tokens of principals come from, and how `rolekeeper login` stores them. A token is read at each use
//! and zeroized after it. Only the output of a token command is cached.

mod age_file;
mod aws_file;
mod command;
mod error;
mod keyring;
mod stored;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rolekeeper::connect;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::TokenLocation;
use crate::platform::private_file;
use crate::sandbox::helper::command_runner::CommandRunner;
use crate::sync::lock;
use age_file::{AgeKey, Passphrase};
use command::CachedToken;
use wait::Readers;

pub(crate) use error::TokenError;
pub(crate) use error::TokenErrorKind;
pub use wait::{RunningTokenCommand, TokenWait};

/// The longest token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

const NOT_UTF8: &str = "it is not UTF-8 text";
const UTF16: &str = "it is UTF-16 text; save it as UTF-8";
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The token of one principal.
#[derive(Debug)]
pub struct TokenSource {
    upstream: Arc<str>,
    location: TokenLocation,
    /// Where the token is sent. A stored token for another destination is not used. None: it is never sent.
    destination: Option<String>,
    /// For a token command.
    command_runner: Option<Arc<CommandRunner>>,
    /// One reader at a time, so that the user gets one prompt, and the command runs once.
    turn: Arc<tokio::sync::Mutex<()>>,
    unlock_prompt: keyring::UnlockPrompt,
    cached: Mutex<Option<CachedToken>>,
    readers: Readers,
    /// Of an encrypted file, once the user has entered it.
    passphrase: Mutex<Option<Arc<Passphrase>>>,
}

impl TokenSource {
    pub fn new(upstream: Arc<str>, location: TokenLocation) -> Self {
        Self {
            upstream,
            location,
            destination: Some(String::new()),
            command_runner: None,
            turn: Arc::default(),
            unlock_prompt: keyring::UnlockPrompt::default(),
            cached: Mutex::default(),
            readers: Readers::default(),
            passphrase: Mutex::default(),
        }
    }

    pub(crate) fn with_command_runner(self, command_runner: Option<Arc<CommandRunner>>) -> Self {
        Self {
            command_runner,
            ..self
        }
    }

    /// The name of the upstream whose token this is.
    pub(crate) fn upstream(&self) -> &str {
        &self.upstream
    }

    pub(crate) fn with_destination(self, destination: String) -> Self {
        Self {
            destination: Some(destination),
            ..self
        }
    }

    /// For a secret that is never sent, such as the seed of MFA codes. A person stores it without a destination.
    pub(crate) fn never_sent(self) -> Self {
        Self {
            destination: None,
            ..self
        }
    }

    pub(crate) fn location(&self) -> &TokenLocation {
        &self.location
    }

    /// Whether `rolekeeper login` can store a token.
    pub(crate) fn is_writable(&self) -> bool {
        matches!(
            self.location,
            TokenLocation::Keyring(_) | TokenLocation::Age { .. }
        )
    }

    /// Whether the user has to enter a passphrase.
    pub(crate) fn has_passphrase(&self) -> bool {
        matches!(self.location, TokenLocation::Age { identity: None, .. })
    }

    /// Reads the token.
    pub(crate) async fn token(&self) -> Result<SecretString, TokenError> {
        let _reading = self.readers.start();
        let text = match &self.location {
            TokenLocation::Env(name) => self.read_env(name)?,
            TokenLocation::File(path) => self.read_file(path)?,
            TokenLocation::SystemdCredential(name) => {
                self.read_file(&self.systemd_credential(name)?)?
            }
            TokenLocation::AwsFile { file, section } => {
                aws_file::read(file, section).map_err(|kind| self.error(kind))?
            }
            TokenLocation::Keyring(name) => {
                let turn = Arc::clone(&self.turn);
                let read = keyring::read(name, turn, &self.unlock_prompt);
                self.of_destination(&read.await.map_err(|kind| self.error(kind))?)?
            }
            TokenLocation::Age { file, identity } => {
                self.of_destination(&self.read_age_file(file, identity.as_deref()).await?)?
            }
            TokenLocation::Command { words, keep } => {
                let _turn = self.turn.lock().await;
                if let Some(token) = self.cached() {
                    return Ok(token);
                }
                let runner = self.command_runner.as_deref();
                let run = self.readers.start_command();
                let printed = command::run(words, runner, |pid| run.set_pid(pid)).await;
                let printed = printed.map_err(|kind| self.error(run.cause(kind)))?;
                let token = self.parse(&printed)?;
                *lock(&self.cached) = CachedToken::new(&token, Clock::System.now().boot, *keep);
                return Ok(token);
            }
        };

        self.parse(&text)
    }

    fn of_destination(&self, stored: &SecretString) -> Result<SecretString, TokenError> {
        match &self.destination {
            Some(destination) => {
                stored::token_for(stored, destination).map_err(|kind| self.error(kind))
            }
            None => Ok(stored.clone()),
        }
    }

    /// Replaces the stored token, and reads it back.
    pub(crate) async fn store(
        &self,
        token: &SecretString,
        passphrase: Option<SecretString>,
    ) -> Result<(), TokenError> {
        let text = match &self.destination {
            Some(destination) => stored::with_destination(token, destination),
            None => token.clone(),
        };
        match &self.location {
            TokenLocation::Keyring(name) => {
                let turn = Arc::clone(&self.turn);
                keyring::write(name, text, turn, &self.unlock_prompt)
                    .await
                    .map_err(|kind| self.error(kind))?;
            }
            TokenLocation::Age { file, identity } => {
                self.write_age_file(file, identity.as_deref(), text, passphrase)
                    .await?;
            }
            _ => return Err(self.error(TokenErrorKind::ReadOnly)),
        }

        let stored = self.token().await?;
        if stored.expose_secret() == token.expose_secret() {
            Ok(())
        } else {
            Err(self.error(TokenErrorKind::StoredDiffers))
        }
    }

    /// Remembers the passphrase of an encrypted file, if it decrypts the file.
    pub(crate) async fn unlock(&self, passphrase: SecretString) -> Result<(), TokenError> {
        let TokenLocation::Age {
            file,
            identity: None,
        } = &self.location
        else {
            return Err(self.error(TokenErrorKind::NoPassphrase));
        };

        let file = file.clone();
        let passphrase = Arc::new(Passphrase::new(passphrase));
        let key = AgeKey::Passphrase(Arc::clone(&passphrase));
        age_file::blocking(move || age_file::read(&file, &key))
            .await
            .map_err(|kind| self.error(kind))?;
        *lock(&self.passphrase) = Some(passphrase);

        Ok(())
    }

    /// The passphrase that the user has entered, for the daemon process that comes next.
    pub(crate) fn passphrase(&self) -> Option<SecretString> {
        lock(&self.passphrase)
            .as_ref()
            .map(|passphrase| passphrase.text.clone())
    }

    pub(crate) fn set_passphrase(&self, passphrase: SecretString) {
        *lock(&self.passphrase) = Some(Arc::new(Passphrase::new(passphrase)));
    }

    /// Identifies the file that the passphrase belongs to, and where its token is sent.
    pub(crate) fn passphrase_id(&self) -> Option<String> {
        match &self.location {
            TokenLocation::Age {
                file,
                identity: None,
            } => Some(format!(
                "{} {} {}",
                self.upstream,
                self.destination.as_deref().unwrap_or_default(),
                file.display()
            )),
            _ => None,
        }
    }

    /// What to do if the upstream does not accept the token.
    pub(crate) fn new_token_hint(&self) -> String {
        let upstream = &self.upstream;
        match &self.location {
            TokenLocation::Keyring(_) | TokenLocation::Age { .. } => {
                format!("run rolekeeper login {upstream}, and enter a new token")
            }
            TokenLocation::Env(name) => {
                format!("set {name} to a new token for rolekeeperd, and restart it")
            }
            location @ TokenLocation::Command { .. } => {
                format!("make {location} print a new token")
            }
            location => format!("put a new token into {location}"),
        }
    }

    /// What the token comes from, while it is being read.
    pub(crate) fn wait(&self) -> Option<TokenWait> {
        if !self.readers.is_reading() {
            return None;
        }

        let hint = match &self.location {
            TokenLocation::Command { words, .. } => format!(
                "run the command by hand, and make it print the token and exit: {}",
                error::command_line(words)
            ),
            _ => "answer its prompt, and run the command again".into(),
        };

        Some(TokenWait {
            location: self.location.to_string(),
            hint,
        })
    }

    /// The token command that runs now.
    pub(crate) fn running_command(&self) -> Option<RunningTokenCommand> {
        self.readers.command()
    }

    /// Must be called when the upstream has rejected the token: the cached one may be out of date.
    pub(crate) fn discard_cached(&self) {
        lock(&self.cached).take();
    }

    /// Allows a prompt to unlock the keyring after one was dismissed: a user is present.
    pub(crate) fn allow_prompt(&self) {
        self.unlock_prompt.reset();
    }

    /// A token of this source, without white space and a byte order mark around it. Fails for a text that cannot be a bearer token.
    pub(crate) fn parse(&self, text: &SecretString) -> Result<SecretString, TokenError> {
        let token = text.expose_secret().trim();
        // Editors and PowerShell put it before a text.
        let token = token.trim_start_matches(BYTE_ORDER_MARK).trim_start();
        match defect(token) {
            Some(reason) => Err(self.error(TokenErrorKind::InvalidToken(reason))),
            None => Ok(SecretString::from(token)),
        }
    }

    pub(crate) fn error(&self, kind: TokenErrorKind) -> TokenError {
        TokenError {
            upstream: Arc::clone(&self.upstream),
            location: self.location.clone(),
            kind,
        }
    }

    fn read_env(&self, name: &str) -> Result<SecretString, TokenError> {
        let value = std::env::var_os(name).ok_or_else(|| self.error(TokenErrorKind::EnvNotSet))?;
        Ok(value.to_string_lossy().into_owned().into())
    }

    fn read_file(&self, path: &Path) -> Result<SecretString, TokenError> {
        let bytes = private_file::read_bytes(path).map_err(TokenErrorKind::File);
        bytes
            .map(Zeroizing::new)
            .and_then(|bytes| from_utf8(&bytes))
            .map_err(|kind| self.error(kind))
    }

    fn systemd_credential(&self, name: &str) -> Result<PathBuf, TokenError> {
        let folder = connect::variable("CREDENTIALS_DIRECTORY")
            .ok_or_else(|| self.error(TokenErrorKind::NoSystemdCredentials))?;
        Ok(Path::new(&folder).join(name))
    }

    fn cached(&self) -> Option<SecretString> {
        lock(&self.cached).as_ref()?.get(Clock::System.now().boot)
    }

    async fn read_age_file(
        &self,
        file: &Path,
        identity: Option<&Path>,
    ) -> Result<SecretString, TokenError> {
        let _turn = self.turn.lock().await;
        let file = file.to_owned();
        let passphrase = lock(&self.passphrase).clone();
        let key = self.age_key(identity, passphrase)?;
        age_file::blocking(move || age_file::read(&file, &key))
            .await
            .map_err(|kind| self.error(kind))
    }

    async fn write_age_file(
        &self,
        file: &Path,
        identity: Option<&Path>,
        text: SecretString,
        passphrase: Option<SecretString>,
    ) -> Result<(), TokenError> {
        let _turn = self.turn.lock().await;
        let file = file.to_owned();
        let new = passphrase.map(Passphrase::new).map(Arc::new);
        let passphrase = new.clone().or_else(|| lock(&self.passphrase).clone());
        let key = self.age_key(identity, passphrase)?;
        age_file::blocking(move || age_file::write(&file, &key, &text))
            .await
            .map_err(|kind| self.error(kind))?;

        if let Some(new) = new {
            *lock(&self.passphrase) = Some(new);
        }

        Ok(())
    }

    fn age_key(
        &self,
        identity: Option<&Path>,
        passphrase: Option<Arc<Passphrase>>,
    ) -> Result<AgeKey, TokenError> {
        match (identity, passphrase) {
            (Some(path), _) => Ok(AgeKey::Identity(path.into())),
            (None, Some(passphrase)) => Ok(AgeKey::Passphrase(passphrase)),
            (None, None) => Err(self.error(TokenErrorKind::PassphraseNeeded)),
        }
    }
}

fn from_utf8(bytes: &Zeroizing<Vec<u8>>) -> Result<SecretString, TokenErrorKind> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) => {
            Err(TokenErrorKind::InvalidToken(UTF16))
        }
        Err(_) => Err(TokenErrorKind::InvalidToken(NOT_UTF8)),
    }
}

/// Why a text cannot be a bearer token (RFC 6750, `b64token`, and other printable ASCII).
fn defect(token: &str) -> Option<&'static str> {
    if token.is_empty() {
        Some("it is empty")
    } else if token.len() > MAX_TOKEN {
        Some("it is longer than 16 KiB")
    } else if token.contains('\0') {
        Some("it has NUL characters, as UTF-16 text has; save it as UTF-8")
    } else if !token.chars().all(|each| each.is_ascii_graphic()) {
        Some("it has white space, control or non-ASCII characters inside")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
