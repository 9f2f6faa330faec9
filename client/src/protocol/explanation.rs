//! Why a role can or cannot be assumed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a profile's role can or cannot be assumed, by the upstream's current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub profile: String,
    pub upstream: String,
    pub role_id: String,
    /// Absent if the role could not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role_name: Option<String>,
    /// `user/dev@example.test`. Absent if the token's owner is unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<String>,
    pub verdict: Outcome,
    /// Every condition, in the order in which the upstream evaluates them.
    pub checks: Vec<Check>,
    /// The error of the daemon's last attempt, if it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Yes,
    No,
    /// The condition could not be read.
    Unknown,
}

/// One condition for assuming a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `account`, `own policies`, `trust policy`.
    pub condition: String,
    pub outcome: Outcome,
    /// A sentence for people.
    pub reason: String,
    /// The statement that decides, if one does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<DecidingStatement>,
}

/// A statement of a policy document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidingStatement {
    /// `policy AssumeProjectRoles of group developers`
    pub document: String,
    /// The statement's position in the document, from 1.
    pub number: usize,
    /// The statement as written in the document.
    pub text: Value,
}
