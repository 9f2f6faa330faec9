//! Who is calling (A4), and whether they may (A10).

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
    /// The user, the service account, or who assumed the role.
    pub(super) principal_id: String,
    /// `user` or `service_account`.
    pub(super) principal_type: &'static str,
    /// The session, if that is who calls.
    pub(super) session_id: Option<String>,
    /// What trust policies call it.
    pub(super) crns: Crns,
    policies: Vec<Policy>,
}

impl Caller {
    pub(super) fn may(&self, action: &str, resource: &Crns) -> bool {
        decide(&self.policies, action, resource)
    }
}

/// The caller behind a bearer token, refused if the token or its owner no longer counts.
pub(super) fn authenticate(
    tx: &Connection,
    org: &str,
    authorization: Option<&str>,
    now: Millis,
) -> Result<Caller, ApiError> {
    let refuse = |code, message: &str| Err(ApiError::new(401, code, message));
    let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
        return refuse("invalid_token", "there is no bearer token");
    };
    let Some((kind, subject, expires_at)) = find_token(tx, token.trim())? else {
        return refuse("invalid_token", "the token is not known");
    };
    match kind {
        TokenKind::Session => session(tx, org, &subject, now),
        _ if expires_at.is_some_and(|end| end <= now) => {
            refuse("token_expired", "the token has expired")
        }
        TokenKind::User => user(tx, org, &subject),
        TokenKind::Credential => service_account(tx, org, &subject),
    }
}

fn user(tx: &Connection, org: &str, id: &str) -> Result<Caller, ApiError> {
    let (name, email): (String, String) = tx
        .prepare_cached("SELECT name, email FROM users WHERE id = ?")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| ApiError::new(401, "invalid_token", "the user has been removed"))?;
    Ok(Caller {
        principal_id: id.into(),
        principal_type: "user",
        session_id: None,
        crns: Crns::new("iam", org, "user", [id, &name, &email]),
        policies: policies_of(tx, "user", id)?,
    })
}

fn service_account(tx: &Connection, org: &str, credential: &str) -> Result<Caller, ApiError> {
    let sql = "SELECT a.id, a.name, a.enabled FROM credentials c JOIN service_accounts a ON a.id = c.service_account_id
               WHERE c.id = ?";
    let (id, name, enabled): (String, String, bool) = tx
        .prepare_cached(sql)?
        .query_row([credential], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?
        .ok_or_else(|| ApiError::new(401, "invalid_token", "the credential has been deleted"))?;
    if !enabled {
        return Err(ApiError::new(
            401,
            "principal_disabled",
            "the service account is disabled",
        ));
    }
    Ok(Caller {
        session_id: None,
        crns: Crns::new("iam", org, "service-account", [id.as_str(), name.as_str()]),
        policies: policies_of(tx, "service_account", &id)?,
        principal_id: id,
        principal_type: "service_account",
    })
}

/// The caller that a session is, refused if it has ended.
pub(super) fn session(
    tx: &Connection,
    org: &str,
    id: &str,
    now: Millis,
) -> Result<Caller, ApiError> {
    let sql = "SELECT role_id, role_name, principal_id, principal_type, expires_at, revoked_at FROM sessions WHERE id = ?";
    let (role_id, role_name, principal_id, kind, expires_at, revoked_at) = tx
        .prepare_cached(sql)?
        .query_row(params![id], |row| {
            let role: (String, String) = (row.get(0)?, row.get(1)?);
            let end: (Millis, Option<Millis>) = (row.get(4)?, row.get(5)?);
            Ok((
                role.0,
                role.1,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
                end.0,
                end.1,
            ))
        })
        .optional()?
        .ok_or_else(|| ApiError::new(401, "invalid_token", "the session is gone"))?;
    if revoked_at.is_some() {
        return Err(ApiError::new(
            401,
            "session_revoked",
            "the session has been revoked",
        ));
    }
    if expires_at <= now {
        return Err(ApiError::new(
            401,
            "token_expired",
            "the session has expired",
        ));
    }
    Ok(Caller {
        principal_id,
        principal_type: if kind == "user" {
            "user"
        } else {
            "service_account"
        },
        session_id: Some(id.into()),
        crns: Crns::new("iam", org, "role", [role_id.as_str(), role_name.as_str()]),
        policies: policies_of(tx, "role", &role_id)?,
    })
}

/// The policies attached to a principal itself and to its groups. They were validated when they were written.
fn policies_of(tx: &Connection, kind: &str, id: &str) -> Result<Vec<Policy>, ApiError> {
    let sql = "SELECT document FROM policies WHERE id IN (
                   SELECT policy_id FROM attachments WHERE kind = ?1 AND owner_id = ?2
                   UNION SELECT a.policy_id FROM memberships m
                         JOIN attachments a ON a.kind = 'group' AND a.owner_id = m.group_id
                         WHERE m.kind = ?1 AND m.owner_id = ?2)";
    let mut statement = tx.prepare_cached(sql)?;
    let documents = statement.query_map([kind, id], |row| row.get::<_, String>(0))?;
    documents.map(|document| parse(&document?)).collect()
}

fn parse(document: &str) -> Result<Policy, ApiError> {
    let broken = |why: String| {
        ApiError::new(
            500,
            "internal",
            format!("a stored policy cannot be read: {why}"),
        )
    };
    let value: Value = serde_json::from_str(document).map_err(|error| broken(error.to_string()))?;
    Policy::parse(&value).map_err(broken)
}
