//! TokenErrorKind there is no token to use, and what to do about it.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::config::TokenLocation;
use crate::platform::private_file::{self, PrivateFileError};
use crate::sandbox::is_confined;

#[derive(Debug)]
pub struct TokenError {
    pub upstream: Arc<str>,
    pub source: TokenLocation,
    pub why: TokenErrorKind,
}

/// What is wrong with the place, or with what is in it. No part of a token is ever in here.
#[derive(Debug, Error)]
pub enum TokenErrorKind {
    #[error("is not set for rolekeeperd")]
    NoVariable,
    #[error("{0}")]
    File(PrivateFileError),
    #[error("holds no token: {0}")]
    NotAToken(&'static str),
    #[error("cannot be had: systemd passed no credentials to rolekeeperd")]
    NoCredentials,
    #[error("cannot be asked for: there is no keyring service on this session's bus")]
    NoKeyring,
    #[error("is not there")]
    NoEntry,
    #[error("is locked, and nobody has unlocked it when asked")]
    Locked,
    #[error("is locked, and the prompt that asks to unlock it has not been answered")]
    Waiting,
    #[error("cannot be used: {0}")]
    Keyring(String),
    #[error("is locked: nobody has said its passphrase since rolekeeperd was started")]
    Sealed,
    #[error("does not open with this passphrase")]
    WrongPassphrase,
    #[error("is not encrypted to the key in {0}")]
    OtherIdentity(String),
    #[error("cannot be decrypted: {0}")]
    Unsealable(String),
    #[error("cannot be written, at {path}: {1}", path = .0.display())]
    Unwritten(PathBuf, std::io::Error),
    #[error("has no passphrase")]
    NoPassphrase,
    #[error("cannot be started: {0}")]
    NotStarted(std::io::Error),
    #[error(
        "cannot be started: the configuration did not name it when rolekeeperd was started, and confined itself"
    )]
    NewProgram,
    #[error("cannot be started: the process that starts programs for rolekeeperd is gone: {0}")]
    NoStarter(std::io::Error),
    #[error("cannot be heard: {0}")]
    Unread(std::io::Error),
    #[error("ended with {0}")]
    Ended(String),
    #[error("has printed nothing that ends within {} s", super::command::DEADLINE.as_secs())]
    TooSlow,
    #[error("printed more than a token has")]
    TooLong,
    #[error("is not written by rolekeeper")]
    ReadOnly,
    #[error("gave another token than the one that was put there")]
    Unstored,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            // It names the path itself.
            TokenErrorKind::File(error) => write!(f, "the token file {error}"),
            why => write!(f, "{} {why}", self.source),
        }
    }
}

impl std::error::Error for TokenError {}

impl TokenError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let Self {
            upstream,
            source,
            why,
        } = self;
        match why {
            TokenErrorKind::NoVariable => {
                format!("set {} for rolekeeperd and restart it, or use token = {{ keyring = … }}", name(source))
            }
            TokenErrorKind::File(PrivateFileError { why: private_file::FileErrorKind::Missing, .. })
                if matches!(source, TokenLocation::Age { .. }) =>
            {
                format!("rolekeeper login {upstream}")
            }
            TokenErrorKind::File(error) => error.hint(),
            TokenErrorKind::Unwritten(_, error) if error.kind() == ErrorKind::PermissionDenied && is_confined() => {
                "restart rolekeeperd, which may write only where it was configured to when it was started".into()
            }
            TokenErrorKind::Unwritten(path, _) => format!("see who may write there: ls -ld {}", path.display()),
            TokenErrorKind::NotAToken(_) if matches!(source, TokenLocation::Keyring(_) | TokenLocation::Age { .. }) => {
                format!("rolekeeper login {upstream}")
            }
            TokenErrorKind::NotAToken(_) => format!("put the token, and nothing else, into {source}"),
            TokenErrorKind::NoCredentials => {
                format!("LoadCredentialEncrypted={}:PATH in the unit, and start it again", name(source))
            }
            TokenErrorKind::NoKeyring => {
                "a daemon that is started in the desktop's session, or token = { age = … } without one".into()
            }
            TokenErrorKind::NoEntry => format!("rolekeeper login {upstream}"),
            TokenErrorKind::Locked => format!("unlock the keyring, or rolekeeper unlock {upstream}, which asks once more"),
            TokenErrorKind::Waiting => "answer the prompt on the screen, and try again".into(),
            TokenErrorKind::Keyring(_) => "see the keyring's own log; token = { age = … } works without one".into(),
            TokenErrorKind::Sealed | TokenErrorKind::WrongPassphrase => {
                format!("rolekeeper unlock {upstream}, which asks for the passphrase")
            }
            TokenErrorKind::OtherIdentity(_) | TokenErrorKind::Unsealable(_) => {
                format!("see that the right files are named, or rolekeeper login {upstream}")
            }
            TokenErrorKind::NoPassphrase => "rolekeeper status, which says how things are".into(),
            TokenErrorKind::NotStarted(_) => {
                "see that the program is where PATH of rolekeeperd leads, or write its whole path".into()
            }
            TokenErrorKind::NewProgram => "restart rolekeeperd instead of reloading it".into(),
            TokenErrorKind::NoStarter(_) => "restart rolekeeperd".into(),
            TokenErrorKind::Ended(_) | TokenErrorKind::Unread(_) | TokenErrorKind::TooSlow | TokenErrorKind::TooLong => {
                format!("run it by hand, and see what it says: {}", words(source))
            }
            TokenErrorKind::ReadOnly => format!("put the token there yourself, or use token = {{ keyring = \"{upstream}\" }}"),
            TokenErrorKind::Unstored => format!("see whether something else writes it, and rolekeeper login {upstream} again"),
        }
    }
}

fn name(source: &TokenLocation) -> &str {
    match source {
        TokenLocation::Env(name) | TokenLocation::SystemdCredential(name) => name,
        _ => "it",
    }
}

/// Arguments may be long, and are in the configuration anyway.
fn words(source: &TokenLocation) -> String {
    match source {
        TokenLocation::Command { words, .. } => crate::one_line(&words.join(" ")),
        _ => String::new(),
    }
}
