//! What the daemon reports of tokens, approvals and the journal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where an upstream's token lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenSourceInfo {
    pub upstream: String,
    /// `https://iam.example.test`
    pub endpoint: String,
    /// `the keyring's entry `work``
    pub location: String,
    /// Whether `login` can put one there.
    pub is_writable: bool,
    /// Whether it opens with a passphrase that a person has to say.
    #[serde(default)]
    pub has_passphrase: bool,
}

/// A token that the upstream takes, and whose it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginReport {
    pub upstream: String,
    pub location: String,
    /// `user/dev@example.test`; absent if the token's owner may read nothing that says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<String>,
}

/// A service account's credential that has taken the place of another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RotationReport {
    pub upstream: String,
    pub location: String,
    pub principal: String,
    /// The ids of the new credential and of those that are no more.
    pub credential_id: String,
    pub deleted: Vec<String>,
    /// Those that should be no more, and why they still are; the next rotation tries again.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_deleted: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

/// The journal's file: one JSON object a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalLocation {
    pub path: PathBuf,
    /// RFC 3339 as in the journal: the start of the requested time span, if the request has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
}

/// What people are asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Approvals {
    /// Oldest first.
    pub pending: Vec<Approval>,
}

/// A program that wants a profile which is given on a person's word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Approval {
    pub id: u64,
    pub profile: String,
    /// `/usr/bin/python3 (process 42, by /usr/bin/bash)`
    pub program: String,
    pub uid: u32,
    pub since_seconds: u64,
    /// Nobody's word by then is no.
    pub expires_in_seconds: u64,
}
