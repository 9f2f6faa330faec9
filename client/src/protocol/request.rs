//! Requests of the client.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::EndpointKind;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request<'a> {
    /// The credentials of a profile: [`Reply::Lease`](super::Reply::Lease).
    Lease {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// The daemon and its profiles, in order of name: a [`StatusPage`](super::StatusPage).
    Status {
        /// The last profile of the previous page.
        #[serde(borrow, default)]
        after: Option<Cow<'a, str>>,
    },
    /// One call of an upstream's API. The reply is the upstream's, in parts.
    Iam(#[serde(borrow)] IamCall<'a>),
    /// Why a profile's role can or cannot be assumed: an [`Explanation`](super::Explanation) in parts.
    Explain {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// The calls made with a profile's sessions: an [`Audit`](super::Audit) in parts.
    Audit {
        #[serde(borrow)]
        profile: Cow<'a, str>,
        /// The age of the oldest call to report.
        since_seconds: u64,
    },
    /// A [`ProfileUpdate`](super::ProfileUpdate) at once and after every change, until the client disconnects. If the
    /// client reads slowly, several changes are reported as one.
    Watch {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// Fetch a new session now: a [`ProfileUpdate`](super::ProfileUpdate) in parts.
    Refresh {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// Serve a held profile again: a [`ProfileUpdate`](super::ProfileUpdate) in parts.
    Resume {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// A service rejected credentials of this profile. The daemon asks the upstream whether its session is revoked:
    /// a [`ProfileUpdate`](super::ProfileUpdate) in parts.
    ReportRejected {
        #[serde(borrow)]
        profile: Cow<'a, str>,
    },
    /// Drop the session of one profile, or of all, and hold it: a [`LogoutReport`](super::LogoutReport) in parts.
    Logout {
        #[serde(borrow, default)]
        profile: Option<Cow<'a, str>>,
        /// Also revoke the session at the upstream.
        revoke: bool,
    },
    /// The HTTP endpoint for a profile's credentials, opened if necessary: an [`Endpoint`](super::Endpoint) in parts.
    Endpoint {
        #[serde(borrow)]
        profile: Cow<'a, str>,
        kind: EndpointKind,
    },
    /// The path of the journal, after all pending records are written: a [`JournalLocation`](super::JournalLocation) in
    /// parts.
    Journal {
        #[serde(default)]
        since_seconds: Option<u64>,
    },
    /// The pending approval requests: [`Approvals`](super::Approvals) in parts.
    Approvals,
    /// The user's decision on one of them. The reply lists those that are still pending: [`Approvals`](super::Approvals)
    /// in parts.
    Approve { id: u64, allow: bool },
    /// The answer to [`Reply::Challenge`](super::Reply::Challenge). The reply to the original request follows.
    ChallengeResponse {
        #[serde(borrow)]
        nonce: Cow<'a, str>,
    },
    /// Where an upstream's token is stored: a [`TokenSourceInfo`](super::TokenSourceInfo) in parts.
    TokenSource {
        /// Optional if there is only one upstream.
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
    },
    /// Check a token with its upstream, and store it: a [`LoginReport`](super::LoginReport) in parts.
    Login {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        #[serde(borrow)]
        token: SecretText<'a>,
        /// The passphrase of an encrypted file.
        #[serde(borrow, default)]
        passphrase: Option<SecretText<'a>>,
    },
    /// Start a session with a code of the principal's MFA device: a [`MfaReport`](super::MfaReport) in parts.
    StartMfaSession {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        #[serde(borrow)]
        code: SecretText<'a>,
    },
    /// Decrypt a file with its passphrase, or ask again to unlock the keyring: a [`LoginReport`](super::LoginReport) in
    /// parts.
    Unlock {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        passphrase: Option<SecretText<'a>>,
    },
    /// Replace a service account's credential by a new one: a [`RotationReport`](super::RotationReport) in parts.
    Rotate {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        /// The id of the credential to replace, if the daemon cannot identify it.
        #[serde(borrow, default)]
        old: Option<Cow<'a, str>>,
    },
    /// The principal's active sessions at an upstream: [`Sessions`](super::Sessions) in parts.
    Sessions {
        /// Optional if there is only one upstream.
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
    },
    /// Revoke a session at an upstream, and drop it here if it belongs to a profile: a
    /// [`SessionRevocation`](super::SessionRevocation) in parts.
    RevokeSession {
        #[serde(borrow, default)]
        upstream: Option<Cow<'a, str>>,
        #[serde(borrow)]
        session_id: Cow<'a, str>,
        #[serde(borrow, default)]
        reason: Option<Cow<'a, str>>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IamCall<'a> {
    /// The upstream whose principal makes the call. Optional if there is only one upstream.
    #[serde(borrow, default)]
    pub upstream: Option<Cow<'a, str>>,
    /// Make the call with this profile's session instead.
    #[serde(borrow, default)]
    pub profile: Option<Cow<'a, str>>,
    /// The documented name: `listRoles`.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    pub parameters: Map<String, Value>,
}

/// A token or a passphrase. `Debug` hides it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl fmt::Debug for SecretText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}
