//! The reasons why there is no token, and what the user can do. No error contains a part of a token.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use rolekeeper::shell::quoted;
use thiserror::Error;

use crate::config::TokenLocation;
use crate::platform::private_file::{self, FileErrorKind, PrivateFileError};

#[derive(Debug)]
pub struct TokenError {
    pub(super) upstream: Arc<str>,
    pub(super) location: TokenLocation,
    pub(super) kind: TokenErrorKind,
}

/// A predicate: the location of the token is its subject.
#[derive(Debug, Error)]
pub(crate) enum TokenErrorKind {
    #[error("is not set in rolekeeperd's environment")]
    EnvNotSet,
    #[error("{0}")]
    File(PrivateFileError),
    #[error("contains no valid token: {0}")]
    InvalidToken(&'static str),
    #[error("has a token without its endpoint, which is not used")]
    NoDestination,
    #[error("is for {stored}, and the configuration names {configured}")]
    OtherDestination { stored: String, configured: String },
    #[error("cannot be used: {0}")]
    AwsFile(&'static str),
    #[error("is not available: systemd passed no credentials to rolekeeperd")]
    NoSystemdCredentials,

    #[error("is not available: no keyring service on this session's bus")]
    NoKeyringService,
    #[error("does not exist")]
    NoKeyringEntry,
    #[error("is locked, and the prompt to unlock it was dismissed")]
    KeyringLocked,
    #[error("is locked, and the prompt to unlock it is still open")]
    KeyringPromptOpen,
    #[error("cannot be used: {0}")]
    Keyring(String),

    #[error("is locked: rolekeeperd needs its passphrase")]
    PassphraseNeeded,
    #[error("cannot be decrypted: wrong passphrase")]
    WrongPassphrase,
    #[error("is not protected by a passphrase")]
    NoPassphrase,
    #[error("is not encrypted for the key in {0}")]
    WrongIdentity(String),
    #[error("cannot be decrypted: {0}")]
    DecryptionFailed(String),
    #[error("cannot be used: {0} contains no age key")]
    InvalidIdentity(String),
    #[error("cannot be encrypted: {0}")]
    EncryptionFailed(String),

    #[error("cannot be started: the configuration did not name it when rolekeeperd started")]
    CommandNotAllowed,
    #[error("cannot be started: the command helper process has exited")]
    CommandRunnerExited,
    #[error("cannot be started: {0}")]
    CommandNotStarted(std::io::Error),
    #[error("failed with {0}")]
    CommandFailed(ExitStatus),
    #[error("did not finish within {} s", super::command::TIME_LIMIT.as_secs())]
    CommandTimedOut,
    #[error("asks rolekeeper for a profile that needs the output of this program")]
    CommandRecursion,
    #[error("printed more than a token")]
    CommandOutputTooLong,
    #[error("has unreadable output: {0}")]
    CommandOutput(std::io::Error),

    #[error("cannot be written to {path}: {1}", path = .0.display())]
    WriteFailed(PathBuf, std::io::Error),
    #[error("cannot be written by rolekeeper")]
    ReadOnly,
    #[error("does not return the token that was stored")]
    StoredDiffers,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // It names the path itself.
            TokenErrorKind::File(error) => write!(f, "the token file {error}"),
            kind => write!(f, "{} {kind}", self.location),
        }
    }
}

impl std::error::Error for TokenError {}

impl TokenError {
    /// Why the text is not a token, if that is the error.
    pub(crate) fn invalid_token(&self) -> Option<&'static str> {
        match self.kind {
            TokenErrorKind::InvalidToken(reason) => Some(reason),
            _ => None,
        }
    }

    /// What the user can do, as an imperative.
    pub(crate) fn hint(&self) -> String {
        let upstream = &self.upstream;
        match &self.kind {
            TokenErrorKind::EnvNotSet
            | TokenErrorKind::File(_)
            | TokenErrorKind::InvalidToken(_)
            | TokenErrorKind::AwsFile(_)
            | TokenErrorKind::NoSystemdCredentials => self.location_hint(),
            TokenErrorKind::NoKeyringService => {
                "start rolekeeperd in the desktop session, or use token = { age = … }".into()
            }
            TokenErrorKind::NoKeyringEntry | TokenErrorKind::NoDestination => {
                format!("run rolekeeper login {upstream}")
            }
            TokenErrorKind::OtherDestination { .. } => format!(
                "run rolekeeper login {upstream} if you changed `endpoint` or `ca`, else correct [upstream.{upstream}]"
            ),
            TokenErrorKind::KeyringLocked => {
                format!("run rolekeeper unlock {upstream} to get the prompt again")
            }
            TokenErrorKind::KeyringPromptOpen => {
                "answer the prompt on the screen, and retry".into()
            }
            TokenErrorKind::Keyring(_) => {
                "read the log of the keyring service, or use token = { age = … }".into()
            }
            TokenErrorKind::PassphraseNeeded | TokenErrorKind::WrongPassphrase => {
                format!("run rolekeeper unlock {upstream}, and enter the passphrase")
            }
            TokenErrorKind::NoPassphrase => {
                "leave out unlock: the token is read without a passphrase".into()
            }
            TokenErrorKind::InvalidIdentity(path) => format!(
                "move {path} away, and store the token again with login, which creates a key"
            ),
            TokenErrorKind::WrongIdentity(_) | TokenErrorKind::DecryptionFailed(_) => format!(
                "run rolekeeper login {upstream}, or correct `age` and `identity` in [upstream.{upstream}]"
            ),
            TokenErrorKind::EncryptionFailed(_) | TokenErrorKind::StoredDiffers => {
                format!("run rolekeeper login {upstream} again")
            }
            TokenErrorKind::CommandRecursion => format!(
                "take the token of [upstream.{upstream}] from elsewhere, or from a profile of another upstream"
            ),
            TokenErrorKind::CommandNotAllowed => {
                "restart rolekeeperd instead of reloading it".into()
            }
            TokenErrorKind::CommandRunnerExited => "restart rolekeeperd".into(),
            TokenErrorKind::CommandNotStarted(_) => {
                "write the program's whole path, or correct PATH of rolekeeperd".into()
            }
            TokenErrorKind::CommandFailed(_)
            | TokenErrorKind::CommandTimedOut
            | TokenErrorKind::CommandOutputTooLong
            | TokenErrorKind::CommandOutput(_) => {
                format!("run the command by hand: {}", self.command())
            }
            TokenErrorKind::WriteFailed(path, error) => private_file::write_hint(path, error),
            TokenErrorKind::ReadOnly if matches!(self.location, TokenLocation::AwsFile { .. }) => {
                self.location_hint()
            }
            TokenErrorKind::ReadOnly => format!(
                "write the token yourself, or use token = {{ keyring = \"{upstream}\" }} in [upstream.{upstream}]"
            ),
        }
    }

    /// For errors that depend on where the token is.
    fn location_hint(&self) -> String {
        let upstream = &self.upstream;
        match (&self.kind, &self.location) {
            (TokenErrorKind::EnvNotSet, TokenLocation::Env(name)) => {
                format!(
                    "run kill {} and then, where {name} is set, rolekeeperd --detach; or use token = {{ keyring = … }}",
                    std::process::id()
                )
            }
            (TokenErrorKind::NoSystemdCredentials, TokenLocation::SystemdCredential(name)) => {
                format!("set LoadCredentialEncrypted={name}:PATH in the unit, and restart it")
            }
            (TokenErrorKind::File(error), TokenLocation::Age { .. })
                if matches!(error.kind, FileErrorKind::Missing) =>
            {
                format!("run rolekeeper login {upstream}")
            }
            (TokenErrorKind::File(error), _) => error.hint(),
            (_, TokenLocation::Keyring(_) | TokenLocation::Age { .. }) => {
                format!("run rolekeeper login {upstream}")
            }
            (_, TokenLocation::AwsFile { file, section }) => format!(
                "write aws_access_key_id and aws_secret_access_key into [{section}] of {}",
                file.display()
            ),
            (_, TokenLocation::Command { .. }) => format!(
                "run the command by hand, and make it print only the token: {}",
                self.command()
            ),
            (_, location) => format!("write the token, and nothing else, to {location}"),
        }
    }

    fn command(&self) -> String {
        match &self.location {
            TokenLocation::Command { words, .. } => command_line(words),
            _ => String::new(),
        }
    }
}

/// A token command as a person runs it in a shell.
pub(super) fn command_line(words: &[String]) -> String {
    crate::text::one_line(&quoted(words))
}
