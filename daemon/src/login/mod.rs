//! `rolekeeper login` and `unlock`: the upstream checks a token before it is stored, and names its principal.

mod rotation;
mod rotation_state;

use std::sync::Arc;

use rolekeeper::protocol::{LoginReport, TokenSourceInfo};
use secrecy::SecretString;

use crate::access::peer::Peer;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::journal::What;
use crate::token_source::{TokenError, TokenErrorKind};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{CallError, Login, UpstreamError};

pub use rotation::RotationError;
pub use rotation_state::RotationStates;

impl Broker {
    /// Where the token of an upstream is stored, so that a person sees it before they enter one.
    pub fn token_source(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
    ) -> Result<TokenSourceInfo, AccessError> {
        let (upstream, login) = self.login_of(peer, upstream)?;
        let source = login.token_source();

        Ok(TokenSourceInfo {
            upstream: upstream.name.to_string(),
            endpoint: login.endpoint(),
            place: source.source().to_string(),
            is_writable: source.is_writable(),
            has_passphrase: source.has_passphrase(),
        })
    }

    /// Stores a token that the upstream accepts.
    pub async fn login(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        token: SecretString,
        passphrase: Option<SecretString>,
    ) -> Result<LoginReport, AccessError> {
        let (upstream, login) = self.login_of(peer, upstream)?;
        let source = login.token_source();
        if !source.is_writable() {
            return Err(token_error(source.fails(TokenErrorKind::ReadOnly)));
        }
        let token = source.parse(&token).map_err(token_error)?;
        let principal = self.check_token(upstream, login, &token).await?;

        source.ask_again();
        source
            .store(&token, passphrase)
            .await
            .map_err(token_error)?;

        tracing::info!(upstream = %upstream.name, principal, pid = ?peer.pid, "logged in");
        self.journal.event(
            peer,
            What::LoggedIn,
            &upstream.name,
            None,
            principal.clone(),
            self.clock.now().wall,
        );
        self.retry_after_login(upstream);
        Ok(LoginReport {
            upstream: upstream.name.to_string(),
            place: source.source().to_string(),
            principal,
        })
    }

    /// Unlocks the token source, and checks the token in it.
    pub async fn unlock(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        passphrase: Option<SecretString>,
    ) -> Result<LoginReport, AccessError> {
        let (upstream, login) = self.login_of(peer, upstream)?;
        let source = login.token_source();
        source.ask_again();
        if let Some(passphrase) = passphrase {
            source.unlock(passphrase).await.map_err(token_error)?;
        }

        let token = source.token().await.map_err(token_error)?;
        let principal = self.check_token(upstream, login, &token).await?;

        self.retry_after_login(upstream);
        Ok(LoginReport {
            upstream: upstream.name.to_string(),
            place: source.source().to_string(),
            principal,
        })
    }

    /// The upstream and its login, for the owner of the daemon.
    fn login_of(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
    ) -> Result<(&Arc<UpstreamHandle>, &dyn Login), AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let upstream = self.upstream_named(upstream)?;

        Ok((upstream, login_of(upstream)?))
    }

    /// The name of the token's principal, if the upstream accepts the token and reveals it.
    async fn check_token(
        &self,
        upstream: &Arc<UpstreamHandle>,
        login: &dyn Login,
        token: &SecretString,
    ) -> Result<Option<String>, AccessError> {
        let entry = self.entries_of(upstream).next();
        let role = entry.map(|entry| &entry.profile.role);

        let principal = tokio::time::timeout(WAIT, login.check_token(token, role))
            .await
            .map_err(|_elapsed| AccessError::TooSlow)??;
        Ok(principal)
    }

    /// Retries at once what failed for want of a token.
    fn retry_after_login(self: &Arc<Self>, upstream: &Arc<UpstreamHandle>) {
        let now = self.clock.now();
        for entry in self.entries_of(upstream) {
            entry.health(|health| {
                let is_login_needed = health.failing().is_some_and(|failing| {
                    matches!(failing.error, UpstreamError::LoginNeeded { .. })
                });
                if is_login_needed {
                    health.succeeded();
                }
            });
            if entry.is_wanted(&now) {
                self.timer_queue.set_by(&entry.plan, now.boot);
            }
        }

        upstream.record_reply(now.boot);
        self.timer_queue.set_by(&upstream.feed.plan, now.boot);
    }
}

fn login_of(upstream: &UpstreamHandle) -> Result<&dyn Login, CallError> {
    upstream.require(upstream.client.login(), "login")
}

fn token_error(error: TokenError) -> AccessError {
    CallError::from(error).into()
}
