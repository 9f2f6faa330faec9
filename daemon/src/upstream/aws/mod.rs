//! AWS: a user's access keys assume roles at STS. All calls go through [`Aws::call`], which signs them.
//!
//! What AWS does not specify is assumed, and only here:
//!
//! - W1: a session is issued at the time of the reply, its `Date`.
//! - W2: an error is AWS's own if it has the id of the request.
//! - W3: the texts in `error` tell causes apart that have one code.

mod error;
mod explain;
mod iam;
mod keys;
mod login;
mod mfa;
mod query;
mod sign;
mod sts;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use self::keys::Keys;
pub use self::sign::{Scope, sign_request};

use self::error::{AwsError, Meaning};
use self::mfa::Mfa;
use self::sts::{AssumeRole, CallerIdentity, SessionKeys};
use super::http::{HttpClient, SetupError};
use super::{
    CredentialRotation, Explainer, IssuedSession, Login, MfaLogin, Upstream, UpstreamError,
};
use crate::clock::ServerClock;
use crate::config::{AwsRole, AwsSettings, Endpoint, HttpTransport, Role, RoleRequest};
use crate::sync::lock;
use crate::token_source::{RunningTokenCommand, TokenSource, TokenWait};

/// A service of AWS, each with hosts and an API version of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Sts,
    Iam,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Iam => "iam",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Sts => "2011-06-15",
            Self::Iam => "2010-05-08",
        }
    }
}

/// A client for one user.
#[derive(Debug)]
pub(crate) struct Aws {
    name: Arc<str>,
    sts: HttpClient,
    iam: HttpClient,
    settings: AwsSettings,
    token_source: TokenSource,
    mfa: Option<Mfa>,
    server_clock: ServerClock,
    /// For signatures: from the first reply on, also before a session is issued.
    signing_clock: ServerClock,
    /// Whose the keys are, by the keys' id.
    identity: Mutex<Option<(Box<str>, CallerIdentity)>>,
}

impl Aws {
    /// `code_source` is where codes of the MFA device come from, unless a person is asked.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up, for example because a certificate file is unreadable.
    pub(super) fn new(
        name: Arc<str>,
        endpoint: Endpoint,
        transport: HttpTransport,
        settings: AwsSettings,
        token_source: TokenSource,
        code_source: Option<TokenSource>,
    ) -> Result<Self, SetupError> {
        let mfa = settings
            .mfa
            .clone()
            .map(|settings| Mfa::new(settings, code_source));

        let sts = HttpClient::new(endpoint, transport.clone())?;
        let token_source = token_source.with_destination(sts.destination());

        Ok(Self {
            name,
            sts,
            iam: HttpClient::new(settings.iam.clone(), transport)?,
            settings,
            token_source,
            mfa,
            server_clock: ServerClock::default(),
            signing_clock: ServerClock::default(),
            identity: Mutex::default(),
        })
    }

    fn http(&self, service: Service) -> &HttpClient {
        match service {
            Service::Sts => &self.sts,
            Service::Iam => &self.iam,
        }
    }

    fn signing_region(&self, service: Service) -> &str {
        match service {
            Service::Sts => self.settings.region.as_str(),
            Service::Iam => self.settings.partition.iam_region(),
        }
    }

    /// The long-term keys.
    async fn user_keys(&self) -> Result<Keys, AwsError> {
        let text = self.token_source.token().await?;

        Keys::parse(&text).map_err(|why| AwsError::NotKeys {
            what: format!("what {} has {why}", self.token_source.location()),
        })
    }

    /// Whose the user's keys are.
    async fn identity(&self, keys: &Keys) -> Result<CallerIdentity, AwsError> {
        let known = lock(&self.identity).clone();
        if let Some((_, identity)) = known.filter(|(id, _)| *id == keys.id) {
            return Ok(identity);
        }

        let identity = self.get_caller_identity(keys).await?;
        *lock(&self.identity) = Some((keys.id.clone(), identity.clone()));

        Ok(identity)
    }

    async fn issue_session(
        &self,
        role: &AwsRole,
        request: &RoleRequest,
        base: Option<&IssuedSession>,
    ) -> Result<IssuedSession, AwsError> {
        let user_keys = self.user_keys().await?;
        let identity = self.identity(&user_keys).await?;
        let session_name = match &role.session_name {
            Some(name) => name.clone(),
            None => identity.session_name(),
        };

        let call = |code| AssumeRole {
            role,
            session_name: &session_name,
            duration: request.duration,
            mfa: code,
        };
        let mfa = self.mfa.as_ref().filter(|_| role.with_mfa);
        let assumed = match (base, mfa) {
            (Some(base), _) => self.assume_role(call(None), &base.into()).await?,
            (None, None) => self.assume_role(call(None), &user_keys).await?,
            (None, Some(mfa)) => match mfa.settings.session {
                Some(length) => {
                    self.assume_by_mfa_session(mfa, length, || call(None))
                        .await?
                }
                None => {
                    let code = self.machine_code(mfa).await?;
                    self.assume_role(call(Some(&code)), &user_keys).await?
                }
            },
        };

        let keys = assumed.keys;
        Ok(IssuedSession {
            // Unique, no secret, and what the audit log of AWS has.
            session_id: keys.id.clone(),
            principal: identity.principal().into(),
            access_key_id: keys.id,
            secret_access_key: keys.secret,
            session_token: keys.session_token.unwrap_or_default(),
            issued_at: assumed.issued_at,
            expires_at: assumed.expires_at,
        })
    }

    /// An MFA session may end early, for example because the keys were replaced. Once, another one is fetched.
    async fn assume_by_mfa_session<'a>(
        &self,
        mfa: &Mfa,
        length: Duration,
        call: impl Fn() -> AssumeRole<'a>,
    ) -> Result<SessionKeys, AwsError> {
        let keys = self.mfa_session(mfa, length).await?;
        let assumed = self.assume_role(call(), &keys).await;
        if !matches!(&assumed, Err(error) if error.meaning() == Some(Meaning::SessionEnded)) {
            return assumed;
        }

        self.drop_mfa_session(mfa, &keys).await;
        let keys = self.mfa_session(mfa, length).await?;
        self.assume_role(call(), &keys).await
    }
}

impl CallerIdentity {
    /// By type and id.
    fn principal(&self) -> String {
        format!("aws/{}/{}", self.account, self.user_id)
    }

    /// The name of the user, as far as a session may be named so.
    fn session_name(&self) -> String {
        let name = self.arn.rsplit('/').next().unwrap_or_default();
        let name: String = name
            .chars()
            .filter(|each| each.is_ascii_alphanumeric() || "_+=,.@-".contains(*each))
            .take(64)
            .collect();

        if self.arn.contains('/') && name.len() >= 2 {
            name
        } else {
            "rolekeeper".into()
        }
    }
}

impl Upstream for Aws {
    fn kind(&self) -> &'static str {
        "aws"
    }

    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
        base: Option<&'a IssuedSession>,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        async move {
            match &role.role {
                Role::Aws(of_aws) => self
                    .issue_session(of_aws, role, base)
                    .await
                    .map_err(|error| error.into_upstream_error(&self.token_source)),
                Role::ByCloud(id) => Err(UpstreamError::Refused {
                    what: format!("{} is no role of AWS", id.as_str()),
                    kind: super::RefusalKind::Other,
                }),
            }
        }
        .boxed()
    }

    fn server_clock(&self) -> &ServerClock {
        &self.server_clock
    }

    fn identity(&self) -> String {
        format!(
            "aws {} {:?}",
            self.sts.destination(),
            self.token_source.location()
        )
    }

    fn location(&self) -> String {
        format!("aws {}", self.sts.endpoint())
    }

    fn sync_clock(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        async {
            let called = match self.user_keys().await {
                Ok(keys) => self.get_caller_identity(&keys).await,
                Err(error) => Err(error),
            };
            match called {
                Err(error) if error.service().is_none() => {
                    Err(error.into_upstream_error(&self.token_source))
                }
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn name_of<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<String>> {
        let known = lock(&self.identity).clone();
        let name = known
            .map(|(_, identity)| identity)
            .filter(|identity| identity.principal() == id)
            .map(|identity| identity.arn);
        std::future::ready(name).boxed()
    }

    fn token_wait(&self) -> Option<TokenWait> {
        self.token_source.wait()
    }

    fn token_command(&self) -> Option<RunningTokenCommand> {
        let code = self.mfa.as_ref().and_then(Mfa::running_command);
        self.token_source.running_command().or(code)
    }

    fn resumed(&self) {
        self.sts.reconnect();
        self.iam.reconnect();
    }

    fn login(&self) -> Option<&dyn Login> {
        Some(self)
    }

    fn rotation(&self) -> Option<&dyn CredentialRotation> {
        Some(self)
    }

    fn explainer(&self) -> Option<&dyn Explainer> {
        Some(self)
    }

    fn mfa(&self) -> Option<&dyn MfaLogin> {
        self.mfa.as_ref().map(|_| self as &dyn MfaLogin)
    }
}
