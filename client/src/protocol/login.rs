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
    /// What is stored: `token`, or `access key (KEYID:SECRET)`.
    pub form: String,
    /// The MFA device whose code starts a session, if a person enters it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mfa: Option<MfaDevice>,
}

/// An MFA device of a principal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MfaDevice {
    pub serial: String,
    /// Whether the principal's token is stored, so that a code is all that a login needs.
    pub is_token_stored: bool,
}

/// A session that a code of an MFA device has started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MfaReport {
    pub upstream: String,
    pub serial: String,
    /// RFC 3339.
    pub expires_at: String,
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
