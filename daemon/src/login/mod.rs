//! `rolekeeper login` and `unlock`: the upstream checks a token before it is stored, and names its principal.

mod mfa_questions;
mod rotation;
mod rotation_state;

use std::sync::Arc;

use rolekeeper::protocol::{LoginReport, MfaDevice, MfaReport, TokenSourceInfo};
use secrecy::SecretString;
use tokio::runtime::Handle;

use crate::access::peer::Peer;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::error::{RequestError, WAIT};
use crate::journal::Journal;
use crate::model::to_rfc3339;
use crate::refresh::RefreshService;
use crate::token_source::{TokenError, TokenErrorKind};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{CallError, CallErrorKind, Login, Upstreams};

use mfa_questions::MfaQuestions;
pub(crate) use rotation_state::RotationStates;

const OTHER_TOKEN: &str =
    "copy the whole token, check that it has neither expired nor been revoked, and enter it again";

#[derive(Debug)]
pub(crate) struct LoginService {
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    journal: Arc<Journal>,
    refresh: Arc<RefreshService>,
    rotations: RotationStates,
    mfa_questions: MfaQuestions,
    runtime: Handle,
}

impl LoginService {
    pub(crate) fn new(
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        clock: Clock,
        journal: Arc<Journal>,
        refresh: Arc<RefreshService>,
        rotations: RotationStates,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache,
            upstreams,
            clock,
            journal,
            refresh,
            rotations,
            mfa_questions: MfaQuestions::default(),
            runtime,
        })
    }

    /// Where the token of an upstream is stored, so that a person sees it before they enter one.
    pub(crate) async fn token_source(
        &self,
        upstream: Option<&str>,
    ) -> Result<TokenSourceInfo, RequestError> {
        let (upstream, login) = self.login_of(upstream)?;
        let source = login.token_source();

        Ok(TokenSourceInfo {
            upstream: upstream.name.to_string(),
            endpoint: login.endpoint(),
            location: source.location().to_string(),
            is_writable: source.is_writable(),
            has_passphrase: source.has_passphrase(),
            form: login.token_form().into(),
            mfa: match upstream.client.mfa().filter(|mfa| mfa.asks_person()) {
                Some(mfa) => Some(MfaDevice {
                    serial: mfa.serial().into(),
                    is_token_stored: self.has_valid_token(upstream, login).await,
                }),
                None => None,
            },
        })
    }

    /// Whether a code is all that a login needs: there is a token, and the upstream does not reject it.
    async fn has_valid_token(&self, upstream: &Arc<UpstreamHandle>, login: &dyn Login) -> bool {
        let Ok(token) = login.token_source().token().await else {
            return false;
        };

        match self.check_token(upstream, login, &token).await {
            Err(RequestError::Call(error)) => !matches!(
                error.kind,
                CallErrorKind::LoginNeeded | CallErrorKind::Invalid
            ),
            _ => true,
        }
    }

    /// Starts a session that a code of the principal's MFA device confirms.
    pub(crate) async fn start_mfa_session(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
        code: &SecretString,
    ) -> Result<MfaReport, RequestError> {
        let upstream = self.upstreams.choose(upstream)?;
        let mfa = upstream.require(upstream.client.mfa(), "MFA")?;

        let expires_at = tokio::time::timeout(WAIT, mfa.start(code))
            .await
            .map_err(|_elapsed| RequestError::too_slow(upstream))??;
        tracing::info!(upstream = %upstream.name, pid = ?peer.pid, %expires_at, "MFA session started");

        self.refresh.retry_after_login(upstream);
        self.mfa_questions.answered(upstream);
        Ok(MfaReport {
            upstream: upstream.name.to_string(),
            serial: mfa.serial().into(),
            expires_at: to_rfc3339(expires_at),
        })
    }

    /// Stores a token that the upstream accepts.
    pub(crate) async fn login(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
        token: SecretString,
        passphrase: Option<SecretString>,
    ) -> Result<LoginReport, RequestError> {
        let (upstream, login) = self.login_of(upstream)?;
        let source = login.token_source();
        if !source.is_writable() {
            return Err(token_error(source.error(TokenErrorKind::ReadOnly)));
        }

        let token = source.parse(&token).map_err(|error| not_a_token(&error))?;
        let principal = self
            .check_token(upstream, login, &token)
            .await
            .map_err(wrong_token)?;

        source.allow_prompt();
        source
            .store(&token, passphrase)
            .await
            .map_err(token_error)?;

        tracing::info!(upstream = %upstream.name, principal, pid = ?peer.pid, "logged in");
        self.journal.record_login(
            peer.caller(),
            &upstream.name,
            principal.as_deref(),
            self.clock.now().wall,
        );

        self.refresh.retry_after_login(upstream);
        Ok(LoginReport {
            upstream: upstream.name.to_string(),
            location: source.location().to_string(),
            principal,
        })
    }

    /// Unlocks the token source, and checks the token in it.
    pub(crate) async fn unlock(
        &self,
        upstream: Option<&str>,
        passphrase: Option<SecretString>,
    ) -> Result<LoginReport, RequestError> {
        let (upstream, login) = self.login_of(upstream)?;
        let source = login.token_source();
        source.allow_prompt();
        if let Some(passphrase) = passphrase {
            source.unlock(passphrase).await.map_err(token_error)?;
        }

        let token = source.token().await.map_err(token_error)?;
        let principal = self.check_token(upstream, login, &token).await?;

        self.refresh.retry_after_login(upstream);
        Ok(LoginReport {
            upstream: upstream.name.to_string(),
            location: source.location().to_string(),
            principal,
        })
    }

    /// The upstream and its login.
    fn login_of(
        &self,
        upstream: Option<&str>,
    ) -> Result<(&Arc<UpstreamHandle>, &dyn Login), RequestError> {
        let upstream = self.upstreams.choose(upstream)?;

        Ok((upstream, login_of(upstream)?))
    }

    /// The name of the token's principal, if the upstream accepts the token and reveals it.
    async fn check_token(
        &self,
        upstream: &Arc<UpstreamHandle>,
        login: &dyn Login,
        token: &SecretString,
    ) -> Result<Option<String>, RequestError> {
        let entry = self.cache.entries_of(upstream).next();
        let role = entry.map(|entry| &entry.profile.role);

        let principal = tokio::time::timeout(WAIT, login.check_token(token, role))
            .await
            .map_err(|_elapsed| RequestError::too_slow(upstream))??;
        Ok(principal)
    }
}

fn login_of(upstream: &UpstreamHandle) -> Result<&dyn Login, CallError> {
    upstream.require(upstream.client.login(), "login")
}

/// For a text that the user has just entered.
fn not_a_token(error: &TokenError) -> RequestError {
    let message = match error.invalid_token() {
        Some(reason) => format!("what was entered is not a token: {reason}"),
        None => error.to_string(),
    };

    CallError::new(CallErrorKind::Invalid, message, OTHER_TOKEN).into()
}

/// For a token that the user has just entered: the hint for a stored token would be to do the same again.
fn wrong_token(error: RequestError) -> RequestError {
    match error {
        RequestError::Call(mut error) if error.kind == CallErrorKind::LoginNeeded => {
            error.hint = OTHER_TOKEN.into();
            error.into()
        }
        error => error,
    }
}

fn token_error(error: TokenError) -> RequestError {
    CallError::from(error).into()
}
