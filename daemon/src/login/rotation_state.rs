//! The credentials that rolekeeper has created: what the next rotation continues from if one is interrupted. It has no
//! secrets: a token is identified by eight bytes of its hash.

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

/// The state file, and a lock that allows one rotation at a time.
#[derive(Debug)]
pub struct RotationStates {
    path: Option<PathBuf>,
    pub(super) turn: tokio::sync::Mutex<()>,
    file: Mutex<()>,
}

/// The state of one upstream's credentials.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RotationState {
    /// The name of a credential that is being created, until its id is stored.
    #[serde(default)]
    pub(super) requested: Option<String>,
    /// The ids of the credentials before that.
    #[serde(default)]
    pub(super) known: Vec<String>,
    /// Credentials that were created here, by id, with the fingerprints of their tokens.
    #[serde(default)]
    pub(super) created: BTreeMap<String, String>,
    /// Ids to be deleted.
    #[serde(default)]
    pub(super) replaced: Vec<String>,
}

/// Identifies a token.
pub(super) fn fingerprint(token: &SecretString) -> String {
    let hash = digest(&SHA256, token.expose_secret().as_bytes());
    hex(hash
        .as_ref()
        .first_chunk::<8>()
        .map_or(&[], <[u8; 8]>::as_slice))
}

impl RotationStates {
    /// Without a path every rotation is refused.
    pub(crate) fn at(path: Option<PathBuf>) -> Self {
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
                kind: FileErrorKind::Missing,
                ..
            }) => Ok(BTreeMap::new()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn path(&self) -> io::Result<&PathBuf> {
        self.path
            .as_ref()
            .ok_or_else(|| io::Error::other("there is no state folder: HOME is not set"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_a_round_trip_without_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.json");
        let records = RotationStates::at(Some(path.clone()));
        assert_eq!(records.of("up").unwrap(), RotationState::default());
        let token = SecretString::from("canary-token");
        let created = BTreeMap::from([("c-1".to_owned(), fingerprint(&token))]);
        let record = RotationState {
            known: Vec::new(),
            requested: Some("n".into()),
            created,
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
