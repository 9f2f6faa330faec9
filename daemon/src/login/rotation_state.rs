//! Which credentials of service accounts rolekeeper has made: what a rotation that was interrupted goes on from. There is
//! nothing secret in it: a token is known by eight bytes of its hash.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::platform::private_file::{self, FileErrorKind, PrivateFileError};
use crate::platform::random::hex;
use crate::sync::lock;

/// The file, and one rotation at a time.
#[derive(Debug)]
pub struct RotationStates {
    path: Option<PathBuf>,
    pub(super) turn: tokio::sync::Mutex<()>,
    file: Mutex<()>,
}

/// What is known of one upstream's credentials.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RotationState {
    /// The name of a credential that is asked for, from before it is made until it is known.
    #[serde(default)]
    pub(super) asked_for: Option<String>,
    /// Those that were made here, by their ids, with the marks of their tokens.
    #[serde(default)]
    pub(super) made: BTreeMap<String, String>,
    /// Those that are to be deleted.
    #[serde(default)]
    pub(super) replaced: Vec<String>,
}

/// What a token is recognized by.
pub(super) fn mark(token: &SecretString) -> String {
    let hash = digest(&SHA256, token.expose_secret().as_bytes());
    hex(hash
        .as_ref()
        .first_chunk::<8>()
        .map_or(&[], <[u8; 8]>::as_slice))
}

impl RotationStates {
    /// Without a path nothing is remembered, and no rotation begun.
    pub fn at(path: Option<PathBuf>) -> Self {
        Self {
            path,
            turn: tokio::sync::Mutex::default(),
            file: Mutex::default(),
        }
    }

    pub(super) fn of(&self, upstream: &str) -> io::Result<RotationState> {
        let _file = lock(&self.file);
        Ok(self.read()?.remove(upstream).unwrap_or_default())
    }

    /// It is on the disk when this returns.
    pub(super) fn set(&self, upstream: &str, record: &RotationState) -> io::Result<()> {
        let _file = lock(&self.file);
        let mut all = self.read()?;
        all.insert(upstream.into(), record.clone());
        private_file::replace(self.path()?, &serde_json::to_vec_pretty(&all)?)
    }

    fn read(&self) -> io::Result<BTreeMap<String, RotationState>> {
        match private_file::read(self.path()?) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(PrivateFileError {
                why: FileErrorKind::Missing,
                ..
            }) => Ok(BTreeMap::new()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn path(&self) -> io::Result<&PathBuf> {
        self.path
            .as_ref()
            .ok_or_else(|| io::Error::other("there is no place for it: HOME is not set"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_shows_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.json");
        let records = RotationStates::at(Some(path.clone()));
        assert_eq!(records.of("up").unwrap(), RotationState::default());
        let token = SecretString::from("canary-token");
        let made = BTreeMap::from([("c-1".to_owned(), mark(&token))]);
        let record = RotationState {
            asked_for: Some("n".into()),
            made,
            replaced: vec!["c-0".into()],
        };
        records.set("up", &record).unwrap();
        assert_eq!(
            RotationStates::at(Some(path.clone())).of("up").unwrap(),
            record
        );
        assert!(!std::fs::read_to_string(&path).unwrap().contains("canary"));
        std::fs::write(&path, "nonsense").unwrap();
        assert!(
            records.of("up").is_err() && records.set("up", &record).is_err(),
            "nothing is lost"
        );
        assert!(RotationStates::at(None).of("up").is_err());
    }
}
