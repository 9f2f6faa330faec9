//! Sessions: a role is assumed (A7), and sessions are seen and revoked (A8).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::wire::{methods, open_enum, paged};
use super::{
    ByCloud, GetServiceAccount, GetUser, IamError, Marker, Page, PrincipalId, PrincipalType,
    RoleId, ServiceError, SessionId,
};
use crate::config::RoleRequest;
use crate::one_line;
use crate::sync::lock;
use crate::upstream::{IssuedSession, IssuedSessionStatus, SLACK, UpstreamError};

/// As many as a page may have (A5).
const PAGE: u32 = 1000;

open_enum! {
    SessionStatus { Active = "active", Expired = "expired", Revoked = "revoked" }
}

/// A8.
#[derive(Debug, Clone, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub role_id: RoleId,
    pub role_name: String,
    pub principal_id: PrincipalId,
    pub principal_type: PrincipalType,
    pub status: SessionStatus,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub revoked_by: Option<PrincipalId>,
    pub revoke_reason: Option<String>,
    pub source_ip: Option<String>,
}

/// A7.
#[derive(Debug, Clone, Deserialize)]
pub struct AssumedRole {
    pub session: Session,
    pub credentials: Credentials,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: SecretString,
    pub expires_at: Timestamp,
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
    /// Assumes a profile's role.
    pub(super) async fn grant(&self, role: &RoleRequest) -> Result<IssuedSession, UpstreamError> {
        let request = AssumeRole {
            role_id: role.role_id.as_str().into(),
            duration_seconds: Some(role.duration.as_secs()),
        };
        let assumed = self.assume_role(&request).await?;
        let expires_at = sensible(&assumed, role.duration).map_err(|why| IamError::NoAnswer {
            what: format!(
                "assumeRole at {}: a reply that makes no sense: {why}",
                self.endpoint
            ),
            retry_after: None,
        })?;
        let AssumedRole {
            session,
            credentials,
        } = assumed;
        Ok(IssuedSession {
            session_id: session.id.as_str().into(),
            principal: self.one_text(&format!(
                "{}/{}",
                session.principal_type.as_str(),
                session.principal_id
            )),
            access_key_id: credentials.access_key_id.into(),
            secret_access_key: credentials.secret_access_key,
            session_token: credentials.session_token,
            issued_at: session.issued_at,
            expires_at,
        })
    }

    /// The active sessions of a principal, by all pages.
    pub(super) async fn active(
        &self,
        principal: &str,
    ) -> Result<BTreeSet<Box<str>>, UpstreamError> {
        let sessions = self
            .items(active_of(principal))
            .map_ok(|session| session.id.as_str().into());
        Ok(sessions.try_collect().await?)
    }

    pub(super) async fn become_of(
        &self,
        session_id: &str,
    ) -> Result<IssuedSessionStatus, UpstreamError> {
        let session = match self
            .get_sts_session(&GetStsSession {
                session_id: session_id.into(),
            })
            .await
        {
            Ok(session) => session,
            Err(error)
                if matches!(
                    error.said(),
                    Some(ServiceError::NotFound | ServiceError::AccessDenied)
                ) =>
            {
                return Ok(IssuedSessionStatus::Unknown);
            }
            Err(error) => return Err(error.into()),
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

    pub(super) async fn end(
        &self,
        session_id: &str,
        reason: Option<&str>,
    ) -> Result<(), UpstreamError> {
        let request = RevokeStsSession {
            session_id: session_id.into(),
            reason: reason.map(Into::into),
        };
        match self.revoke_sts_session(&request).await {
            Err(error) if error.said() == Some(&ServiceError::NotFound) => Ok(()),
            ended => Ok(ended?),
        }
    }

    /// A session does not say what it is the id of.
    pub(super) async fn principal_by_id(&self, id: &str) -> Option<String> {
        if let Ok(user) = self.get_user(&GetUser { user_id: id.into() }).await {
            return Some(one_line(&format!("user/{}", user.email)));
        }
        let account = self
            .get_service_account(&GetServiceAccount {
                service_account_id: id.into(),
            })
            .await
            .ok()?;
        Some(one_line(&format!("service_account/{}", account.name)))
    }

    /// The same principal in the same memory, however many sessions are its.
    fn one_text(&self, principal: &str) -> Arc<str> {
        let mut last = lock(&self.principal);
        if **last != *principal {
            *last = principal.into();
        }
        Arc::clone(&last)
    }
}

/// The first page of a principal's active sessions.
pub fn active_of(principal: &str) -> ListStsSessions {
    let (kind, id) = principal.split_once('/').unwrap_or(("", principal));
    ListStsSessions {
        principal_id: Some(id.into()),
        principal_type: Some(PrincipalType::from(kind.to_owned())).filter(|_| !kind.is_empty()),
        active_only: Some(true),
        limit: Some(PAGE),
        ..ListStsSessions::default()
    }
}

/// The session's end, of the two that the upstream gives: no clock of this machine, and no `Date`, has a say. An error if
/// the reply cannot be meant, or could not be handed on in one frame.
pub(crate) fn sensible(assumed: &AssumedRole, asked: Duration) -> Result<Timestamp, String> {
    let AssumedRole {
        session,
        credentials,
    } = assumed;
    let fields = [
        ("session.id", session.id.as_str(), 128),
        ("session.principal_id", session.principal_id.as_str(), 128),
        (
            "session.principal_type",
            session.principal_type.as_str(),
            128,
        ),
        ("credentials.access_key_id", &credentials.access_key_id, 128),
        (
            "credentials.secret_access_key",
            credentials.secret_access_key.expose_secret(),
            1024,
        ),
        (
            "credentials.session_token",
            credentials.session_token.expose_secret(),
            32 * 1024,
        ),
    ];
    for (field, text, longest) in fields {
        if text.is_empty()
            || text.len() > longest
            || !text.chars().all(|each| each.is_ascii_graphic())
        {
            return Err(format!(
                "{field} is not 1 to {longest} printable characters"
            ));
        }
    }
    let (start, end) = (
        session.issued_at,
        session.expires_at.min(credentials.expires_at),
    );
    Duration::try_from(end.duration_since(start))
        .ok()
        .filter(|life| !life.is_zero() && *life <= asked + SLACK)
        .map(|_| end)
        .ok_or_else(|| {
            format!(
                "from {start} to {end}, when {} s were asked for",
                asked.as_secs()
            )
        })
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
    fn a_life_is_the_shorter_of_the_two_ends_whatever_this_machines_clock_says() {
        let hour = Duration::from_secs(3600);
        let life = |issued, session_end, credentials_end| {
            let end = sensible(&assumed(issued, session_end, credentials_end, "t"), hour).ok()?;
            Some(end.duration_since(issued.parse().unwrap()).as_secs())
        };
        let (start, end) = ("1999-01-01T00:00:00Z", "1999-01-01T01:00:00Z");
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
    fn a_credential_that_cannot_be_handed_on_is_refused_without_showing_it() {
        for token in ["", "canary two", "canary\n", &"canary".repeat(10_000)] {
            let why = sensible(
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
