//! ByCloud IAM: a client for its 60 methods, a file per resource, and what the daemon does with them. What the service's
//! reference does not specify is assumed (A1 to A15 of the contract), and only here.

mod audit_logs;
mod caller_identity;
mod error;
pub mod explain;
mod groups;
mod http;
mod invitations;
mod login;
mod management;
mod pages;
mod policies;
mod roles;
mod rotation;
mod service_accounts;
mod sts;
mod users;
mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::http::{HttpClient, SetupError};
use super::{
    AuditLog, CredentialRotation, Explainer, IssuedSession, IssuedSessionStatus, Login,
    ManagementApi, SessionAdmin, SessionRegistry, Upstream, UpstreamError,
};
use crate::clock::ServerClock;
use crate::config::{Endpoint, HttpTransport, RoleRequest};
use crate::token_source::{RunningTokenCommand, TokenSource, TokenWait};

pub use audit_logs::*;
pub use error::{IamError, ServiceError};
pub use groups::*;
pub(crate) use http::SentCall;
pub use invitations::*;
pub use management::routes;
pub use policies::*;
pub use roles::*;
pub use service_accounts::*;
pub use sts::*;
pub use users::*;
pub use wire::*;

/// A client for one principal at one endpoint.
#[derive(Debug)]
pub struct ByCloud {
    http: Arc<HttpClient>,
    token_source: Arc<TokenSource>,
    /// Used instead of the token source's: a token that is not stored yet.
    token: Option<SecretString>,
    server_clock: ServerClock,
    /// The principal of the last session. All sessions share its text.
    principal: Mutex<Arc<str>>,
}

impl ByCloud {
    /// # Errors
    /// When the HTTP client cannot be set up, for example because a certificate file is unreadable.
    pub fn new(
        endpoint: Endpoint,
        transport: HttpTransport,
        token_source: TokenSource,
    ) -> Result<Self, SetupError> {
        let http = HttpClient::new(endpoint, transport)?;
        let token_source = token_source.with_destination(http.destination());

        Ok(Self {
            http: Arc::new(http),
            token_source: Arc::new(token_source),
            token: None,
            server_clock: ServerClock::default(),
            principal: Mutex::new("".into()),
        })
    }

    /// The same upstream with another token.
    fn with_token(&self, token: SecretString) -> Self {
        Self {
            http: Arc::clone(&self.http),
            token_source: Arc::clone(&self.token_source),
            token: Some(token),
            server_clock: ServerClock::default(),
            principal: Mutex::new("".into()),
        }
    }

    fn endpoint(&self) -> &Endpoint {
        self.http.endpoint()
    }
}

impl Upstream for ByCloud {
    fn kind(&self) -> &'static str {
        "bycloud"
    }

    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
        _base: Option<&'a IssuedSession>,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        self.issue_session(role.role.id(), role.duration).boxed()
    }

    fn server_clock(&self) -> &ServerClock {
        &self.server_clock
    }

    fn identity(&self) -> String {
        format!(
            "bycloud {} {:?}",
            self.http.destination(),
            self.token_source.location()
        )
    }

    fn location(&self) -> String {
        format!("bycloud {}", self.endpoint())
    }

    fn sync_clock(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        async {
            let one = ListStsSessions {
                limit: Some(1),
                ..ListStsSessions::default()
            };
            match self.list_sts_sessions(&one).await {
                Err(error) if error.service_error().is_none() => Err(error.into()),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn name_of<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<String>> {
        self.principal_name(id).boxed()
    }

    fn token_wait(&self) -> Option<TokenWait> {
        self.token_source.wait()
    }

    fn token_command(&self) -> Option<RunningTokenCommand> {
        self.token_source.running_command()
    }

    fn resumed(&self) {
        self.http.reconnect();
    }

    fn login(&self) -> Option<&dyn Login> {
        Some(self)
    }

    fn rotation(&self) -> Option<&dyn CredentialRotation> {
        Some(self)
    }

    fn session_admin(&self) -> Option<&dyn SessionAdmin> {
        Some(self)
    }

    fn audit_log(&self) -> Option<&dyn AuditLog> {
        Some(self)
    }

    fn explainer(&self) -> Option<&dyn Explainer> {
        Some(self)
    }

    fn management(&self) -> Option<&dyn ManagementApi> {
        Some(self)
    }

    fn session_registry(&self) -> Option<&dyn SessionRegistry> {
        Some(self)
    }
}

impl SessionRegistry for ByCloud {
    fn active_sessions<'a>(
        &'a self,
        principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        self.list_active_ids(principal).boxed()
    }

    fn session_status<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        self.read_status(session_id).boxed()
    }

    fn revoke<'a>(
        &'a self,
        session_id: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        self.revoke_if_there(session_id, reason).boxed()
    }
}
