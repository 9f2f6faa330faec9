//! `rolekeeper login`: the service checks a token and identifies its principal.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::caller_identity::CallerIdentity;
use super::{ByCloud, ListStsSessions, Method, ServiceError};
use crate::config::{RoleRequest, SHORTEST_SESSION};
use crate::token_source::TokenSource;
use crate::upstream::{CallError, CallErrorKind, Login, Upstream};

impl Login for ByCloud {
    fn endpoint(&self) -> String {
        ByCloud::endpoint(self).to_string()
    }

    fn token_source(&self) -> &TokenSource {
        &self.token_source
    }

    fn check_token<'a>(
        &'a self,
        token: &'a SecretString,
        role: Option<&'a RoleRequest>,
    ) -> BoxFuture<'a, Result<Option<String>, CallError>> {
        async move { self.with_token(token.clone()).identify(role).await }.boxed()
    }
}

impl ByCloud {
    async fn identify(&self, role: Option<&RoleRequest>) -> Result<Option<String>, CallError> {
        let CallerIdentity {
            error,
            principal,
            is_session,
        } = self.caller_identity().await;

        if is_session {
            return Err(CallError::new(
                CallErrorKind::Invalid,
                "the token is a session's, which expires, and not a principal's own",
                "use the access token of a user, or the secret of a service account's credential",
            ));
        }

        // A principal need not be allowed to list sessions.
        if let Some(error) = error
            && error.service_error() != Some(&ServiceError::AccessDenied)
        {
            return Err(error.to_call_error(&ListStsSessions::ROUTE, false));
        }

        let id = match (principal, role) {
            (Some(principal), _) => Some(principal.id),
            (None, Some(role)) => self.identify_by_assuming(role).await,
            (None, None) => None,
        };

        match id {
            Some(id) => Ok(self.name_of(&id).await.or(Some(id))),
            None => Ok(None),
        }
    }

    /// A session names the principal that assumed the role. It is revoked at once.
    async fn identify_by_assuming(&self, role: &RoleRequest) -> Option<String> {
        let session = self
            .issue_session(role.role.id(), SHORTEST_SESSION)
            .await
            .ok()?;

        let reason = "assumed to identify the principal of a token";
        if let Err(error) = self
            .revoke_if_there(&session.session_id, Some(reason))
            .await
        {
            tracing::info!(session = %session.session_id, %error, "the session of a login was not revoked and will expire");
        }

        let (_, id) = session.principal.split_once('/')?;

        Some(id.to_owned())
    }
}
