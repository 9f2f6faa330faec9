//! Requests for approval.

use serde::{Deserialize, Serialize};

/// The pending approval requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Approvals {
    /// Oldest first.
    pub pending: Vec<Approval>,
}

/// A program that asks for a profile with `confirm`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Approval {
    pub id: u64,
    pub profile: String,
    /// `/usr/bin/python3 (process 42, by /usr/bin/bash)`
    pub program: String,
    /// The call of `rolekeeper iam` that it asks for, instead of the profile's credentials. The call could bypass the
    /// profile's rules.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub call: Option<String>,
    pub uid: u32,
    pub since_seconds: u64,
    /// After this time the request is denied.
    pub expires_in_seconds: u64,
}
