//! Replies of the daemon.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Failure, ProfileUpdate, StatusPage};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<'a> {
    #[serde(borrow)]
    Lease(Lease<'a>),
    Status(StatusPage),
    #[serde(borrow)]
    Part(Part<'a>),
    ProfileUpdate(ProfileUpdate),
    /// The daemon waits for a user. The reply to the request follows.
    AwaitingUser {
        /// The maximum wait.
        seconds: u64,
        /// The upstream that needs a code of its principal's MFA device. Without it, an approval is needed.
        #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
        mfa_of: Option<Cow<'a, str>>,
    },
    /// The profile restricts its callers. The client returns the nonce, which the daemon sends after it has inspected the
    /// process: a process that called `exec` in between cannot know it.
    Challenge {
        #[serde(borrow)]
        nonce: Cow<'a, str>,
    },
    Error(Failure),
}

/// A part of a JSON document that may be longer than a frame. An empty document means that the upstream's reply was empty.
#[derive(Serialize, Deserialize)]
pub struct Part<'a> {
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// Whether another part follows.
    pub more: bool,
}

/// Hides the text, which may contain a secret.
impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("length", &self.text.len())
            .field("more", &self.more)
            .finish()
    }
}

/// A session's credentials. Times are RFC 3339 in UTC with a `Z`, in whole seconds.
#[derive(Serialize, Deserialize)]
pub struct Lease<'a> {
    #[serde(borrow)]
    pub access_key_id: Cow<'a, str>,
    #[serde(borrow)]
    pub secret_access_key: Cow<'a, str>,
    #[serde(borrow)]
    pub session_token: Cow<'a, str>,
    /// The advertised expiry, never later than `session_expires_at`.
    #[serde(borrow)]
    pub expires_at: Cow<'a, str>,
    #[serde(borrow)]
    pub session_id: Cow<'a, str>,
    /// The session's true expiry, for consumers that cannot renew.
    #[serde(borrow, default)]
    pub session_expires_at: Cow<'a, str>,
    /// The profile's generation when the session was requested. If the profile has a higher one, this session is revoked.
    #[serde(default)]
    pub generation: u64,
    /// The age of the last successful revocation check, if it is above the profile's limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub view_age_seconds: Option<u64>,
    /// The profile's region, if it is configured.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub region: Option<Cow<'a, str>>,
    /// The role's account, 12 digits, if it is known.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub account_id: Option<Cow<'a, str>>,
}

impl fmt::Debug for Lease<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("session_id", &self.session_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
