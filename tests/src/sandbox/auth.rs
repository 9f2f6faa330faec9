//! Authentication (A4) and authorization (A10) of callers.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::clock::Millis;
use super::crn::Crns;
use super::error::ApiError;
use super::policy::{Policy, decide};
use super::store::{TokenKind, find_token};

/// An authenticated principal. A session acts as its role.
#[derive(Debug)]
pub(super) struct Caller {
    /// The user or the service account; for a session, the one that assumed the role.
    pub(super) principal_id: String,
    /// `user` or `service_account`.
    pub(super) principal_type: &'static str,
    /// The session, if the caller is one.
    pub(super) session_id: Option<String>,
    /// The caller's names in trust policies.
    pub(super) crns: Crns,
    policies: Vec<Policy>,
}

impl Caller {
    pub(super) fn may(&self, action: &str, resource: &Crns) -> bool {
        decide(&self.policies, action, resource)
    }
}

/// The caller with a bearer token. Refused if the token is invalid or its owner disabled or
/// removed.
pub(super) fn authenticate(
    tx: &Connection,
    org: &str,
    authorization: Option<&str>,
    now: Millis,
) -> Result<Caller, ApiError> {
    let Some(text) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(unauthenticated(
            "invalid_token",
            "the request has no bearer token",
        ));
    };
    let Some(token) = find_token(tx, text.trim())? else {
        return Err(unauthenticated("invalid_token", "unknown token"));
    };

    if token.kind == TokenKind::Session {
        return session(tx, org, &token.subject_id, now);
    }
    if token.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(unauthenticated("token_expired", "the token has expired"));
    }
    if token.kind == TokenKind::User {
        user(tx, org, &token.subject_id)
    } else {
        service_account(tx, org, &token.subject_id)
    }
}

fn unauthenticated(code: &str, message: &str) -> ApiError {
    ApiError::new(401, code, message)
}

fn user(tx: &Connection, org: &str, id: &str) -> Result<Caller, ApiError> {
    let (name, email): (String, String) = tx
        .prepare_cached("SELECT name, email FROM users WHERE id = ?")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| unauthenticated("invalid_token", "the user was removed"))?;

    Ok(Caller {
        principal_id: id.into(),
        principal_type: "user",
        session_id: None,
        crns: Crns::new("iam", org, "user", &[id, &name, &email]),
        policies: policies_of(tx, "user", id)?,
    })
}

fn service_account(tx: &Connection, org: &str, credential: &str) -> Result<Caller, ApiError> {
    let sql = "SELECT a.id, a.name, a.enabled FROM credentials c
               JOIN service_accounts a ON a.id = c.service_account_id
               WHERE c.id = ?";
    let (id, name, enabled): (String, String, bool) = tx
        .prepare_cached(sql)?
        .query_row([credential], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?
        .ok_or_else(|| unauthenticated("invalid_token", "the credential was deleted"))?;

    if !enabled {
        return Err(unauthenticated(
            "principal_disabled",
            "the service account is disabled",
        ));
    }

    Ok(Caller {
        session_id: None,
        crns: Crns::new("iam", org, "service-account", &[&id, &name]),
        policies: policies_of(tx, "service_account", &id)?,
        principal_id: id,
        principal_type: "service_account",
    })
}

struct Session {
    role_id: String,
    role_name: String,
    principal_id: String,
    principal_type: String,
    expires_at: Millis,
    revoked_at: Option<Millis>,
}

/// The caller of a session. Refused if the session is revoked or has expired.
pub(super) fn session(
    tx: &Connection,
    org: &str,
    id: &str,
    now: Millis,
) -> Result<Caller, ApiError> {
    let sql = "SELECT role_id, role_name, principal_id, principal_type, expires_at, revoked_at
               FROM sessions WHERE id = ?";
    let session = tx
        .prepare_cached(sql)?
        .query_row(params![id], |row| {
            Ok(Session {
                role_id: row.get(0)?,
                role_name: row.get(1)?,
                principal_id: row.get(2)?,
                principal_type: row.get(3)?,
                expires_at: row.get(4)?,
                revoked_at: row.get(5)?,
            })
        })
        .optional()?
        .ok_or_else(|| unauthenticated("invalid_token", "the session does not exist"))?;

    if session.revoked_at.is_some() {
        return Err(unauthenticated(
            "session_revoked",
            "the session was revoked",
        ));
    }
    if session.expires_at <= now {
        return Err(unauthenticated("token_expired", "the session has expired"));
    }

    let is_user = session.principal_type == "user";
    Ok(Caller {
        principal_id: session.principal_id,
        principal_type: if is_user { "user" } else { "service_account" },
        session_id: Some(id.into()),
        crns: Crns::new("iam", org, "role", &[&session.role_id, &session.role_name]),
        policies: policies_of(tx, "role", &session.role_id)?,
    })
}

/// The policies of a principal and of its groups.
fn policies_of(tx: &Connection, kind: &str, id: &str) -> Result<Vec<Policy>, ApiError> {
    let sql = "SELECT document FROM policies WHERE id IN (
                   SELECT policy_id FROM attachments WHERE kind = ?1 AND owner_id = ?2
                   UNION SELECT a.policy_id FROM memberships m
                         JOIN attachments a ON a.kind = 'group' AND a.owner_id = m.group_id
                         WHERE m.kind = ?1 AND m.owner_id = ?2)";
    let mut statement = tx.prepare_cached(sql)?;
    let documents = statement.query_map([kind, id], |row| row.get::<_, String>(0))?;

    documents
        .map(|document| parse_stored(&document?, Policy::parse))
        .collect()
}

/// Parses a policy that was validated before it was stored.
pub(super) fn parse_stored<P>(
    document: &str,
    parse: impl FnOnce(&Value) -> Result<P, String>,
) -> Result<P, ApiError> {
    serde_json::from_str(document)
        .map_err(|error| error.to_string())
        .and_then(|document| parse(&document))
        .map_err(|reason| ApiError::internal(format!("invalid policy in the database: {reason}")))
}
