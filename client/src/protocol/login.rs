//! Tokens: where they are stored, and the results of `login`, `unlock` and `login --rotate`.

use serde::{Deserialize, Serialize};

/// Where an upstream's token is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenSourceInfo {
    pub upstream: String,
    /// `https://iam.example.test`
    pub endpoint: String,
    /// `the keyring's entry `work``
    pub location: String,
    /// Whether `login` can store a token there.
    pub is_writable: bool,
    /// Whether a passphrase of the user decrypts it.
    #[serde(default)]
    pub has_passphrase: bool,
}

/// A token that the upstream accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginReport {
    pub upstream: String,
    pub location: String,
    /// The token's owner: `user/dev@example.test`. Absent if the owner has no permission to read it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<String>,
}

/// A service account's new credential.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RotationReport {
    pub upstream: String,
    pub location: String,
    pub principal: String,
    /// The id of the new credential.
    pub credential_id: String,
    /// The ids of replaced credentials that were deleted.
    pub deleted: Vec<String>,
    /// The ids of replaced credentials that could not be deleted. The next rotation tries again.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_deleted: Vec<String>,
    /// Why they could not be deleted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}
