//! Where principals' long-lived tokens come from. A token is read at each use and wiped after it.

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use zeroize::Zeroize;

use crate::config::TokenSource;
use crate::private_file::{self, PrivateFileError};

/// Why there is no token to use.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("the variable {0} is not set for rolekeeperd")]
    NoVariable(String),
    #[error("the token file {0}")]
    File(#[from] PrivateFileError),
    #[error("{source_name} holds no token: {why}")]
    NotAToken { source_name: String, why: &'static str },
}

impl KeyError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoVariable(name) => {
                format!("set {name} for rolekeeperd and restart it, or use token = {{ file = … }}")
            }
            Self::File(error) => error.hint(),
            Self::NotAToken { source_name, .. } => format!("put the token, and nothing else, into {source_name}"),
        }
    }
}

/// The token of a source, without the white space around it.
pub fn token(source: &TokenSource) -> Result<SecretString, KeyError> {
    let (mut text, source_name) = match source {
        TokenSource::Env(name) => {
            let value = std::env::var_os(name).ok_or_else(|| KeyError::NoVariable(name.clone()))?;
            (value.to_string_lossy().into_owned(), format!("the variable {name}"))
        }
        TokenSource::File(path) => (private_file::read(path)?, path.display().to_string()),
    };
    let token = SecretString::from(text.trim());
    text.zeroize();
    match flaw(token.expose_secret()) {
        Some(why) => Err(KeyError::NotAToken { source_name, why }),
        None => Ok(token),
    }
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
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn from_file(text: &str, mode: u32) -> Result<SecretString, KeyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        token(&TokenSource::File(path))
    }

    #[test]
    fn a_file_gives_its_token_without_the_final_newline() {
        assert_eq!(from_file("canary-token\n", 0o600).unwrap().expose_secret(), "canary-token");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_without_showing_it() {
        for text in ["", " \n", "canary two", "canary\u{7f}", "canaryé"] {
            let error = from_file(text, 0o600).unwrap_err();
            assert!(matches!(error, KeyError::NotAToken { .. }), "{text:?}");
            assert!(!format!("{error} {} {error:?}", error.hint()).contains("canary"));
        }
        let open = from_file("canary", 0o644).unwrap_err();
        assert!(open.to_string().contains("mode 0644") && open.hint().starts_with("chmod 600"));
        let unset = token(&TokenSource::Env("ROLEKEEPER_TEST_UNSET".into())).unwrap_err();
        assert!(matches!(unset, KeyError::NoVariable(_)) && unset.hint().contains("ROLEKEEPER_TEST_UNSET"));
    }
}
