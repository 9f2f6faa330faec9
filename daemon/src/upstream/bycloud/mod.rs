//! ByCloud IAM: a client for its 60 methods, a file a resource. What its reference does not say is assumed as A1 to A15
//! of the contract, and stands only in here.

mod audit_logs;
pub(crate) mod caller_identity;
mod error;
mod groups;
mod http;
mod invitations;
mod pages;
mod policies;
mod roles;
mod service_accounts;
mod sts;
mod users;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::{IssuedSession, IssuedSessionStatus, Upstream, UpstreamError};
use crate::clock::ServerClock;
use crate::config::{Endpoint, HttpTransport, RoleRequest};
use crate::token_source::TokenSource;

pub use audit_logs::*;
pub use error::{IamError, NEW_TOKEN, ServiceError};
pub use groups::*;
#[cfg(fuzzing)]
pub(crate) use http::Call;
pub use http::{Answer, SetupError};
pub use invitations::*;
pub use policies::*;
pub use roles::*;
pub use service_accounts::*;
pub use sts::*;
pub use users::*;
pub use wire::*;

/// A client for one principal at one endpoint.
#[derive(Debug)]
pub struct ByCloud {
    http: ArcSwap<reqwest::Client>,
    endpoint: Endpoint,
    way: HttpTransport,
    key: Arc<TokenSource>,
    /// Used instead of what the key's place holds.
    given: Option<SecretString>,
    server_clock: ServerClock,
    /// Who calls, as the last session said: one text for all of them.
    principal: Mutex<Arc<str>>,
}

impl ByCloud {
    pub fn new(
        endpoint: Endpoint,
        way: HttpTransport,
        key: TokenSource,
    ) -> Result<Self, SetupError> {
        let http = ArcSwap::from_pointee(http::client(&endpoint, &way)?);
        let (server_clock, principal) = (ServerClock::default(), Mutex::new("".into()));
        Ok(Self {
            http,
            endpoint,
            way,
            key: Arc::new(key),
            given: None,
            server_clock,
            principal,
        })
    }

    /// The same upstream for whoever has this token.
    pub fn holding(&self, token: SecretString) -> Self {
        Self {
            http: ArcSwap::new(self.http.load_full()),
            endpoint: self.endpoint.clone(),
            way: self.way.clone(),
            key: Arc::clone(&self.key),
            given: Some(token),
            server_clock: ServerClock::default(),
            principal: Mutex::new("".into()),
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where the principal's token lives.
    pub fn key(&self) -> &TokenSource {
        &self.key
    }
}

impl Upstream for ByCloud {
    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        self.grant(role).boxed()
    }

    fn server_clock(&self) -> &ServerClock {
        &self.server_clock
    }

    fn identity(&self) -> String {
        format!("{} {:?}", self.place(), self.key.source())
    }

    fn place(&self) -> String {
        format!("bycloud {}", self.endpoint)
    }

    fn ask_time(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        async {
            let one = ListStsSessions {
                limit: Some(1),
                ..ListStsSessions::default()
            };
            match self.list_sts_sessions(&one).await {
                Err(error) if error.said().is_none() => Err(error.into()),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn active_sessions<'a>(
        &'a self,
        principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        self.active(principal).boxed()
    }

    fn fate<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        self.become_of(session_id).boxed()
    }

    fn name_of<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<String>> {
        self.principal_by_id(id).boxed()
    }

    fn withdraw<'a>(
        &'a self,
        session_id: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        self.end(session_id, reason).boxed()
    }

    fn resumed(&self) {
        match http::client(&self.endpoint, &self.way) {
            Ok(fresh) => self.http.store(Arc::new(fresh)),
            Err(error) => {
                tracing::warn!(%error, "connections from before the suspend are used again")
            }
        }
    }

    fn bycloud(&self) -> Option<&ByCloud> {
        Some(self)
    }
}

/// Every method that there is.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    [
        sts::ROUTES,
        roles::ROUTES,
        policies::ROUTES,
        service_accounts::ROUTES,
        users::ROUTES,
        groups::ROUTES,
        invitations::ROUTES,
        audit_logs::ROUTES,
    ]
    .into_iter()
    .flatten()
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}
