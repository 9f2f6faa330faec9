//! Sessions: a role is assumed (A7), and sessions are read and revoked (A8).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::wire::{methods, open_enum, paged};
use super::{
    ByCloud, GetServiceAccount, GetUser, IamError, Marker, Method, Page, PrincipalId,
    PrincipalType, RoleId, ServiceError, SessionId,
};
use crate::sync::lock;
use crate::text::one_line;
use crate::upstream::{
    ActiveSession, CallError, IssuedSession, IssuedSessionStatus, SLACK, SessionAdmin,
    UpstreamError,
};

/// The most items of a page (A5).
const PAGE: u32 = 1000;

open_enum! {
    SessionStatus { Active = "active", Expired = "expired", Revoked = "revoked" }
}

/// A8.
#[derive(Debug, Clone, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub(crate) role_id: RoleId,
    pub role_name: String,
    pub(crate) principal_id: PrincipalId,
    pub principal_type: PrincipalType,
    pub status: SessionStatus,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub(crate) revoked_by: Option<PrincipalId>,
    pub revoke_reason: Option<String>,
    pub(crate) source_ip: Option<String>,
}

/// A7.
#[derive(Debug, Clone, Deserialize)]
pub struct AssumedRole {
    pub session: Session,
    pub credentials: Credentials,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: SecretString,
    pub session_token: SecretString,
    pub(crate) expires_at: Timestamp,
}

methods! {
    Post "/roles/{role_id}/assume" "assumeRole" assume_role(AssumeRole {
        role_id: RoleId,
        duration_seconds: Option<u64>,
    }) -> AssumedRole;
    #[derive(Default)]
    Get "/sts/sessions" "listSTSSessions" list_sts_sessions(ListStsSessions {
        role_id: Option<RoleId>,
        principal_id: Option<PrincipalId>,
        principal_type: Option<PrincipalType>,
        active_only: Option<bool>,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<Session>;
    Get "/sts/sessions/{session_id}" "getSTSSession" get_sts_session(GetStsSession { session_id: SessionId }) -> Session;
    Delete "/sts/sessions/{session_id}" "revokeSTSSession" revoke_sts_session(RevokeStsSession {
        session_id: SessionId,
        reason: Option<String>,
    }) -> ();
}

paged! { ListStsSessions => Session }

impl ByCloud {
    pub(super) async fn issue_session(
        &self,
        role_id: &str,
        duration: Duration,
    ) -> Result<IssuedSession, UpstreamError> {
        let request = AssumeRole {
            role_id: role_id.into(),
            duration_seconds: Some(duration.as_secs()),
        };

        let assumed = self.assume_role(&request).await?;
        let expires_at = valid_end(&assumed, duration).map_err(|why| IamError::NoAnswer {
            what: format!("assumeRole at {}: invalid reply: {why}", self.endpoint()),
            retry_after: None,
            hint: None,
        })?;

        let AssumedRole {
            session,
            credentials,
        } = assumed;

        Ok(IssuedSession {
            session_id: session.id.as_str().into(),
            principal: self.shared_text(&session.principal()),
            access_key_id: credentials.access_key_id.into(),
            secret_access_key: credentials.secret_access_key,
            session_token: credentials.session_token,
            issued_at: session.issued_at,
            expires_at,
        })
    }

    pub(super) async fn list_active_ids(
        &self,
        principal: &str,
    ) -> Result<BTreeSet<Box<str>>, UpstreamError> {
        let ids = self
            .items(active_sessions_of(principal))
            .map_ok(|session| session.id.as_str().into());

        Ok(ids.try_collect().await?)
    }

    pub(super) async fn read_status(
        &self,
        session_id: &str,
    ) -> Result<IssuedSessionStatus, UpstreamError> {
        let request = GetStsSession {
            session_id: session_id.into(),
        };

        let session = match self.get_sts_session(&request).await {
            Ok(session) => session,
            Err(error) => {
                return match error.service_error() {
                    Some(ServiceError::NotFound | ServiceError::AccessDenied) => {
                        Ok(IssuedSessionStatus::Unknown)
                    }
                    _ => Err(error.into()),
                };
            }
        };

        Ok(match session.status {
            SessionStatus::Active => IssuedSessionStatus::Active,
            SessionStatus::Expired => IssuedSessionStatus::Expired,
            SessionStatus::Revoked => IssuedSessionStatus::Revoked {
                at: session.revoked_at,
                by: session.revoked_by.map(|by| one_line(by.as_str())),
                reason: session.revoke_reason.as_deref().map(one_line),
            },
            SessionStatus::Other(_) => IssuedSessionStatus::Unknown,
        })
    }

    pub(super) async fn revoke_if_there(
        &self,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<(), UpstreamError> {
        let revoked = self
            .revoke_sts_session(&revocation(session_id, reason))
            .await;

        match revoked {
            Err(error) if error.service_error() != Some(&ServiceError::NotFound) => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// The name of a user or service account. An id alone does not show which of them it is.
    pub(super) async fn principal_name(&self, id: &str) -> Option<String> {
        let user = GetUser { user_id: id.into() };
        if let Ok(user) = self.get_user(&user).await {
            return Some(one_line(&format!("user/{}", user.email)));
        }

        let account = GetServiceAccount {
            service_account_id: id.into(),
        };

        let account = self.get_service_account(&account).await.ok()?;

        Some(one_line(&format!("service_account/{}", account.name)))
    }

    /// Sessions of the same principal share one text.
    fn shared_text(&self, principal: &str) -> Arc<str> {
        let mut last = lock(&self.principal);
        if **last != *principal {
            *last = principal.into();
        }

        Arc::clone(&last)
    }
}

impl SessionAdmin for ByCloud {
    fn sessions<'a>(
        &'a self,
        principals: &'a BTreeSet<String>,
    ) -> BoxStream<'a, Result<ActiveSession, CallError>> {
        let mut lists: Vec<_> = principals
            .iter()
            .map(|principal| active_sessions_of(principal))
            .collect();
        if lists.is_empty() {
            lists.push(active_sessions());
        }

        stream::iter(lists)
            .flat_map(|list| self.items(list))
            .map_ok(ActiveSession::from)
            .map_err(|error| error.to_call_error(&ListStsSessions::ROUTE, false))
            .boxed()
    }

    fn revoke_session<'a>(
        &'a self,
        session_id: &'a str,
        reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), CallError>> {
        async move {
            let request = revocation(session_id, reason);
            self.revoke_sts_session(&request)
                .await
                .map_err(|error| error.to_call_error(&RevokeStsSession::ROUTE, false))
        }
        .boxed()
    }
}

impl Session {
    /// By type and id: `user/019…`.
    fn principal(&self) -> String {
        format!("{}/{}", self.principal_type.as_str(), self.principal_id)
    }
}

impl From<Session> for ActiveSession {
    fn from(session: Session) -> Self {
        Self {
            principal: session.principal(),
            id: session.id.to_string(),
            role_id: session.role_id.to_string(),
            role_name: session.role_name,
            issued_at: session.issued_at,
            expires_at: session.expires_at,
            source_ip: session.source_ip,
        }
    }
}

fn revocation(session_id: &str, reason: Option<&str>) -> RevokeStsSession {
    RevokeStsSession {
        session_id: session_id.into(),
        reason: reason.map(Into::into),
    }
}

fn active_sessions() -> ListStsSessions {
    ListStsSessions {
        active_only: Some(true),
        limit: Some(PAGE),
        ..ListStsSessions::default()
    }
}

fn active_sessions_of(principal: &str) -> ListStsSessions {
    let (kind, id) = principal.split_once('/').unwrap_or(("", principal));

    ListStsSessions {
        principal_id: Some(id.into()),
        principal_type: Some(PrincipalType::from(kind.to_owned())).filter(|_| !kind.is_empty()),
        ..active_sessions()
    }
}

/// The earlier of the reply's two ends. No clock of this machine, and no `Date`, has a part in it.
///
/// # Errors
/// When the reply is invalid, or its credentials do not fit a frame.
pub(crate) fn valid_end(assumed: &AssumedRole, requested: Duration) -> Result<Timestamp, String> {
    let AssumedRole {
        session,
        credentials,
    } = assumed;

    let secret_access_key = credentials.secret_access_key.expose_secret();
    let session_token = credentials.session_token.expose_secret();
    let fields = [
        ("session.id", session.id.as_str(), 128),
        ("session.principal_id", session.principal_id.as_str(), 128),
        (
            "session.principal_type",
            session.principal_type.as_str(),
            128,
        ),
        ("credentials.access_key_id", &credentials.access_key_id, 128),
        ("credentials.secret_access_key", secret_access_key, 1024),
        ("credentials.session_token", session_token, 32 * 1024),
    ];

    for (field, text, longest) in fields {
        let has_valid_length = (1..=longest).contains(&text.len());
        if !has_valid_length || !text.chars().all(|each| each.is_ascii_graphic()) {
            return Err(format!(
                "{field} is not 1 to {longest} printable characters"
            ));
        }
    }

    let start = session.issued_at;
    let end = session.expires_at.min(credentials.expires_at);
    match Duration::try_from(end.duration_since(start)) {
        Ok(life) if !life.is_zero() && life <= requested + SLACK => Ok(end),
        _ => Err(format!(
            "the session is from {start} to {end}, and {} s were requested",
            requested.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assumed(issued: &str, session_end: &str, credentials_end: &str, token: &str) -> AssumedRole {
        serde_json::from_value(serde_json::json!({
            "session": {
                "id": "s-1", "role_id": "r-1", "role_name": "r", "principal_id": "p-1", "principal_type": "user",
                "status": "active", "issued_at": issued, "expires_at": session_end
            },
            "credentials": {
                "access_key_id": "BYIA1", "secret_access_key": "s", "session_token": token, "expires_at": credentials_end
            },
        }))
        .unwrap()
    }

    #[test]
    fn session_ends_at_the_earlier_of_the_two_ends() {
        let hour = Duration::from_secs(3600);
        let life = |issued, session_end, credentials_end| {
            let end = valid_end(&assumed(issued, session_end, credentials_end, "t"), hour).ok()?;
            Some(end.duration_since(issued.parse().unwrap()).as_secs())
        };
        let start = "1999-01-01T00:00:00Z";
        let end = "1999-01-01T01:00:00Z";
        assert_eq!(life(start, end, end), Some(3600));
        assert_eq!(life(start, end, "1999-01-01T00:59:00Z"), Some(3540));
        assert_eq!(life(start, "1999-01-01T00:20:00Z", end), Some(1200));
        assert_eq!(life(end, start, start), None, "it ends before it starts");
        assert_eq!(
            life(start, "1999-01-02T00:00:00Z", "1999-01-02T00:00:00Z"),
            None,
            "a day was not asked for"
        );
    }

    #[test]
    fn invalid_credential_is_rejected_without_showing_it() {
        for token in ["", "canary two", "canary\n", &"canary".repeat(10_000)] {
            let why = valid_end(
                &assumed(
                    "1999-01-01T00:00:00Z",
                    "1999-01-01T01:00:00Z",
                    "1999-01-01T01:00:00Z",
                    token,
                ),
                Duration::from_secs(3600),
            );
            let why = why.unwrap_err();
            assert!(
                why.contains("session_token") && !why.contains("canary"),
                "{why}"
            );
        }
    }
}
