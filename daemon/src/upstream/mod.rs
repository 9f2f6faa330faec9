//! Services that issue sessions. Their errors are named for what the broker does next, not for where they arose.

pub mod bycloud;
pub mod circuit_breaker;
pub mod handle;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;
use thiserror::Error;

use crate::clock::ServerClock;
use crate::config::RoleRequest;
use crate::platform::sys::keep_in_memory;

/// The most by which a session may be longer than what was asked for before it is taken for nonsense.
pub const SLACK: Duration = Duration::from_secs(60);

/// A service that issues sessions.
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Assumes a role once: no retry, no cache.
    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>>;

    /// What time it is there, as far as its replies told.
    fn server_clock(&self) -> &ServerClock;

    /// Where sessions come from and whose they are: one of another identity is another's. No secret is in it.
    fn identity(&self) -> String;

    /// Where sessions come from, whosever they are.
    fn place(&self) -> String;

    /// Any call that changes nothing: its answer tells the time, and so does a refusal.
    fn ask_time(&self) -> BoxFuture<'_, Result<(), UpstreamError>>;

    /// The ids of all active sessions of a principal. What it leaves out is expired or revoked, or was issued after it was
    /// asked.
    fn active_sessions<'a>(
        &'a self,
        principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>>;

    /// What has become of a session.
    fn fate<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>>;

    /// What people call a principal that a [`IssuedSessionStatus`] has by its id, if that can be read.
    fn name_of<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Option<String>> {
        std::future::ready(None).boxed()
    }

    /// Ends a session. One that has ended, or is not known, is no error.
    fn withdraw<'a>(
        &'a self,
        session_id: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>>;

    /// The machine has slept: connections from before lead nowhere.
    fn resumed(&self) {}

    /// The client of ByCloud IAM, if that is the service: only it has the 60 methods.
    fn bycloud(&self) -> Option<&bycloud::ByCloud> {
        None
    }
}

/// A session as the upstream granted it.
#[derive(Debug)]
pub struct IssuedSession {
    pub session_id: Box<str>,
    /// Who assumed the role, by type and id: `user/019…`, `service_account/019…`.
    pub principal: Arc<str>,
    pub access_key_id: Box<str>,
    pub secret_access_key: SecretString,
    pub session_token: SecretString,
    /// By the upstream's own clock.
    pub issued_at: Timestamp,
    /// Its true end, by the same clock. Not before `issued_at`.
    pub expires_at: Timestamp,
}

impl IssuedSession {
    /// Its secrets stay out of swap, as far as that can be had.
    pub fn keep_in_memory(&self) {
        keep_in_memory(&self.secret_access_key);
        keep_in_memory(&self.session_token);
    }

    pub fn life(&self) -> Duration {
        Duration::try_from(self.expires_at.duration_since(self.issued_at)).unwrap_or_default()
    }
}

/// What an upstream says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuedSessionStatus {
    Active,
    Expired,
    Revoked {
        /// By the upstream's clock.
        at: Option<Timestamp>,
        /// An id; [`Upstream::name_of`] may know more.
        by: Option<String>,
        reason: Option<String>,
    },
    /// The upstream does not know it, or does not say.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UpstreamError {
    /// Try again later: timeouts, refused connections, 5xx, 429, and every answer that is not the upstream's own.
    #[error("{what}")]
    Unavailable {
        what: String,
        retry_after: Option<Duration>,
    },
    /// The long-lived token is missing, expired or revoked: a person has to log in.
    #[error("{what}")]
    LoginNeeded { what: String, hint: String },
    /// The upstream understood and said no.
    #[error("{what}")]
    Refused { what: String, why: RefusalKind },
}

/// What a refusal is about, where that decides what is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such role, or session.
    NotFound,
    /// The role does not trust the principal.
    NotTrusted,
    /// The principal's account is disabled, and all of its sessions with it.
    AccountDisabled,
    Other,
}

impl UpstreamError {
    /// What the upstream asked for, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::LoginNeeded { .. } | Self::Refused { .. } => None,
        }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

#[cfg(test)]
impl IssuedSession {
    pub(crate) fn example() -> Self {
        Self {
            session_id: "s-1".into(),
            principal: "user/u-1".into(),
            access_key_id: "BYIAEXAMPLE".into(),
            secret_access_key: "canary-secret".into(),
            session_token: "canary-token".into(),
            issued_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH + Duration::from_secs(3600),
        }
    }
}
