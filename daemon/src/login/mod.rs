//! `rolekeeper login`: a token is shown to the upstream before it is kept, and it is said whose it is.

mod rotate;
mod rotation_state;

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{LoginReport, TokenSourceInfo};
use secrecy::SecretString;

use crate::access::peer::Peer;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::iam::error::IamCallError;
use crate::journal::What;
use crate::token_source::{TokenError, TokenErrorKind};
use crate::upstream::bycloud::caller_identity::{Probed, probe};
use crate::upstream::bycloud::{ByCloud, IamError, ListStsSessions, Method, ServiceError};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{Upstream, UpstreamError};

pub use rotate::NotRotated;
pub use rotation_state::RotationStates;

/// How long a session may last that is only to say whose it is: the shortest that there is.
const SHORT: Duration = crate::config::SHORTEST_SESSION;

impl Broker {
    /// Where an upstream's token lives, so that a person knows before typing one.
    pub fn key_place(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
    ) -> Result<TokenSourceInfo, AccessError> {
        let (upstream, client) = self.owned(peer, upstream)?;
        let key = client.key();
        Ok(TokenSourceInfo {
            upstream: upstream.name.to_string(),
            endpoint: client.endpoint().to_string(),
            place: key.source().to_string(),
            is_writable: key.is_writable(),
            has_passphrase: key.has_passphrase(),
        })
    }

    pub async fn login(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        token: SecretString,
        passphrase: Option<SecretString>,
    ) -> Result<LoginReport, AccessError> {
        let (upstream, client) = self.owned(peer, upstream)?;
        let key = client.key();
        if !key.is_writable() {
            return Err(no_key(key.fails(TokenErrorKind::ReadOnly)));
        }
        let token = key.parse(&token).map_err(no_key)?;
        let principal = self.check(upstream, client, &token).await?;
        key.ask_again();
        key.store(&token, passphrase).await.map_err(no_key)?;
        tracing::info!(upstream = %upstream.name, principal, pid = ?peer.pid, "logged in");
        self.journal.event(
            peer,
            What::LoggedIn,
            &upstream.name,
            None,
            principal.clone(),
            self.clock.now().wall,
        );
        self.try_again(upstream);
        Ok(LoginReport {
            upstream: upstream.name.to_string(),
            place: key.source().to_string(),
            principal,
        })
    }

    /// Opens what a person has to open, and looks whether the token is good.
    pub async fn unlock(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        passphrase: Option<SecretString>,
    ) -> Result<LoginReport, AccessError> {
        let (upstream, client) = self.owned(peer, upstream)?;
        let key = client.key();
        key.ask_again();
        if let Some(passphrase) = passphrase {
            key.unlock(passphrase).await.map_err(no_key)?;
        }
        let token = key.token().await.map_err(no_key)?;
        let principal = self.check(upstream, client, &token).await?;
        self.try_again(upstream);
        Ok(LoginReport {
            upstream: upstream.name.to_string(),
            place: key.source().to_string(),
            principal,
        })
    }

    /// The upstream and its client, for the user whose daemon this is.
    fn owned(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
    ) -> Result<(&Arc<UpstreamHandle>, &ByCloud), AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let upstream = self.upstream_named(upstream)?;
        Ok((upstream, crate::iam::client_of(upstream)?))
    }

    /// Whose a token is that the upstream takes. Nobody's word but the upstream's counts: an answer of something in between
    /// is no answer.
    async fn check(
        &self,
        upstream: &Arc<UpstreamHandle>,
        client: &ByCloud,
        token: &SecretString,
    ) -> Result<Option<String>, AccessError> {
        let as_holder = client.holding(token.clone());
        let checking = async {
            let Probed {
                refused,
                principal,
                is_of_session,
            } = probe(&as_holder).await;
            if is_of_session {
                return Err(AccessError::OfSession);
            }
            match refused {
                // Not being allowed to list is no flaw of a token.
                None
                | Some(IamError::Service {
                    said: ServiceError::AccessDenied,
                    ..
                }) => {}
                Some(error) => {
                    return Err(IamCallError::failed(error, &ListStsSessions::ROUTE).into());
                }
            }
            let id = match principal {
                Some((_, id)) => Some(id),
                None => self.by_assuming(upstream, &as_holder).await,
            };
            match id {
                Some(id) => Ok(as_holder.name_of(&id).await.or(Some(id))),
                None => Ok(None),
            }
        };
        tokio::time::timeout(WAIT, checking)
            .await
            .map_err(|_| AccessError::TooSlow)?
    }

    /// Who may read nothing of that kind may still assume a role, whose session says who assumed it. It is ended at once.
    async fn by_assuming(
        &self,
        upstream: &Arc<UpstreamHandle>,
        client: &ByCloud,
    ) -> Option<String> {
        let entry = self
            .cache
            .entries()
            .iter()
            .find(|entry| Arc::ptr_eq(&entry.upstream, upstream))?;
        let role = crate::config::RoleRequest {
            role_id: entry.profile.role.role_id.clone(),
            duration: SHORT,
        };
        let granted = client.assume(&role).await.ok()?;
        if let Err(error) = client
            .withdraw(&granted.session_id, Some("assumed to see whose a token is"))
            .await
        {
            tracing::info!(session = %granted.session_id, %error, "the session of a login is left to expire");
        }
        granted
            .principal
            .split_once('/')
            .map(|(_, id)| id.to_owned())
    }

    /// What failed for want of a token need not wait any longer.
    fn try_again(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) {
        for entry in self
            .cache
            .entries()
            .iter()
            .filter(|entry| Arc::ptr_eq(&entry.upstream, upstream))
        {
            entry.health(|health| {
                if health.failing().is_some_and(|failing| {
                    matches!(failing.error, UpstreamError::LoginNeeded { .. })
                }) {
                    health.succeeded();
                }
            });
            // Whoever is served by it need not ask first.
            if entry.is_wanted(&self.clock.now()) {
                self.timer_queue.set_by(&entry.plan, self.clock.now().boot);
            }
        }
        upstream.answered(self.clock.now().boot);
        self.timer_queue
            .set_by(&upstream.feed.plan, self.clock.now().boot);
    }
}

fn no_key(error: TokenError) -> AccessError {
    IamCallError::failed(IamError::NoToken(error), &ListStsSessions::ROUTE).into()
}
