//! Services that issue sessions. [`Upstream`] is what all of them can do; what only some can do is a trait of its own in
//! `capability`. A new kind of upstream is a module here and a kind in `config`, and changes nothing else.

pub mod aws;
pub(crate) mod backoff;
pub mod bycloud;
pub(crate) mod call_limit;
mod capability;
pub(crate) mod circuit_breaker;
mod error;
pub mod handle;
mod http;
pub mod limiter;
pub(crate) mod list_limits;
mod registry;
mod transport_error;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::clock::ServerClock;
use crate::config::{RoleRequest, UpstreamConfig, UpstreamKind};
use crate::platform::memory::lock_in_memory;
use crate::sandbox::helper::command_runner::CommandRunner;
use crate::token_source::{RunningTokenCommand, TokenSource, TokenWait};

pub use capability::SessionRegistry;
pub(crate) use capability::{
    ActiveSession, ApiCaller, ApiMethod, ApiReply, AuditEntry, AuditLog, AuditQuery, Check,
    CredentialInfo, CredentialOwner, CredentialRotation, Explainer, Login, ManagementApi, MfaLogin,
    NewCredential, Outcome, PolicyStatement, RoleExplanation, SessionAdmin,
};
pub use error::{CallError, CallErrorKind, RefusalKind, UpstreamError};
pub(crate) use http::SetupError;
pub(crate) use registry::Upstreams;

/// How much longer than requested a session may last before the reply is rejected as invalid.
pub const SLACK: Duration = Duration::from_secs(60);

/// A service that issues sessions.
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Its `kind` in the configuration: `bycloud`.
    fn kind(&self) -> &'static str;

    /// Assumes a role once: no retry, no cache. With `base`, the keys of that session assume it, and else the principal's.
    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
        base: Option<&'a IssuedSession>,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>>;

    /// The upstream's time, estimated from its replies.
    fn server_clock(&self) -> &ServerClock;

    /// The service and the principal, without secrets. Sessions are interchangeable if this is equal.
    fn identity(&self) -> String;

    /// The service, the same for every principal.
    fn location(&self) -> String;

    /// Makes any call that changes nothing: its reply, even a refusal, updates the server clock.
    fn sync_clock(&self) -> BoxFuture<'_, Result<(), UpstreamError>>;

    /// The display name of a principal whose id a [`IssuedSessionStatus`] has, if it can be read.
    fn name_of<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Option<String>> {
        std::future::ready(None).boxed()
    }

    /// What the token comes from, while calls wait for it.
    fn token_wait(&self) -> Option<TokenWait> {
        None
    }

    /// The program that prints the token, while it runs.
    fn token_command(&self) -> Option<RunningTokenCommand> {
        None
    }

    /// The machine was suspended: connections from before are dead.
    fn resumed(&self) {}

    fn session_registry(&self) -> Option<&dyn SessionRegistry> {
        None
    }

    fn login(&self) -> Option<&dyn Login> {
        None
    }

    fn mfa(&self) -> Option<&dyn MfaLogin> {
        None
    }

    fn rotation(&self) -> Option<&dyn CredentialRotation> {
        None
    }

    fn session_admin(&self) -> Option<&dyn SessionAdmin> {
        None
    }

    fn audit_log(&self) -> Option<&dyn AuditLog> {
        None
    }

    fn explainer(&self) -> Option<&dyn Explainer> {
        None
    }

    fn management(&self) -> Option<&dyn ManagementApi> {
        None
    }
}

/// The client of an upstream in the configuration. `command_runner` starts token commands.
///
/// # Errors
/// When its HTTP client cannot be set up, for example because a certificate file is unreadable.
pub(crate) fn client(
    config: &UpstreamConfig,
    command_runner: Option<&Arc<CommandRunner>>,
) -> Result<Box<dyn Upstream>, SetupError> {
    let token_source = TokenSource::new(Arc::clone(&config.name), config.token.clone())
        .with_command_runner(command_runner.cloned());
    let endpoint = config.endpoint.clone();
    let transport = config.transport.clone();

    let settings = match &config.kind {
        UpstreamKind::ByCloud => {
            let client = bycloud::ByCloud::new(endpoint, transport, token_source)?;
            return Ok(Box::new(client));
        }
        UpstreamKind::Aws(settings) => (**settings).clone(),
    };

    // The second location, if there is one, is that of codes.
    let code_source = config.token_locations().nth(1).map(|location| {
        TokenSource::new(Arc::clone(&config.name), location.clone())
            .with_command_runner(command_runner.cloned())
            .never_sent()
    });
    let client = aws::Aws::new(
        Arc::clone(&config.name),
        endpoint,
        transport,
        settings,
        token_source,
        code_source,
    )?;

    Ok(Box::new(client))
}

/// A session as the upstream issued it.
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
    /// Locks its secrets in memory, as far as the limits allow.
    pub(crate) fn lock_in_memory(&self) {
        lock_in_memory(self.secret_access_key.expose_secret().as_bytes());
        lock_in_memory(self.session_token.expose_secret().as_bytes());
    }

    pub(crate) fn life(&self) -> Duration {
        Duration::try_from(self.expires_at.duration_since(self.issued_at)).unwrap_or_default()
    }
}

/// The status of a session at the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuedSessionStatus {
    Active,
    Expired,
    Revoked {
        /// By the upstream's clock.
        at: Option<Timestamp>,
        /// An id, for [`Upstream::name_of`].
        by: Option<String>,
        reason: Option<String>,
    },
    /// The upstream does not know the session, or does not show it.
    Unknown,
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
