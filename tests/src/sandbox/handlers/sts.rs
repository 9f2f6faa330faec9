//! Sessions: assume a role (A7, A10), and read, list and revoke sessions (A8).

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::{Call, Resource, created, fetch, must_exist, no_content, ok};
use crate::sandbox::auth::parse_stored;
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::pagination::ListQuery;
use crate::sandbox::policy::TrustPolicy;
use crate::sandbox::store::{
    TokenKind, insert_access_key, insert_token, new_id, new_session_token, random_hex,
};

/// In seconds.
const DEFAULT_DURATION: i64 = 3600;

pub(in crate::sandbox) struct Sessions;

impl Resource for Sessions {
    const KIND: ResourceKind = ResourceKind::Session;
    const PARAM: &'static str = "session_id";
    const COLUMNS: &'static str = "id, role_id, role_name, principal_id, principal_type, issued_at, expires_at, \
                                   revoked_at, revoked_by, revoke_reason, source_ip";

    fn show(row: &Row<'_>, now: Millis) -> rusqlite::Result<Value> {
        let expires_at: Millis = row.get(6)?;
        let revoked_at: Option<Millis> = row.get(7)?;
        let status = match revoked_at {
            Some(_) => "revoked",
            None if expires_at <= now => "expired",
            None => "active",
        };
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "role_id": row.get::<_, String>(1)?,
            "role_name": row.get::<_, String>(2)?,
            "principal_id": row.get::<_, String>(3)?,
            "principal_type": row.get::<_, String>(4)?,
            "status": status,
            "issued_at": to_rfc3339(row.get(5)?),
            "expires_at": to_rfc3339(expires_at),
            "revoked_at": revoked_at.map(to_rfc3339),
            "revoked_by": row.get::<_, Option<String>>(8)?,
            "revoke_reason": row.get::<_, Option<String>>(9)?,
            "source_ip": row.get::<_, String>(10)?,
        }))
    }
}

/// The dispatcher has checked the caller's policies. This checks the role's trust policy.
pub(in crate::sandbox) fn assume(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let role_id = call.params.text("role_id")?;
    let (role_name, trust_policy): (String, Option<String>) = tx
        .prepare_cached("SELECT name, trust_policy FROM roles WHERE id = ?")?
        .query_row([role_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| ApiError::not_found(ResourceKind::Role.api_name(), role_id))?;

    if !is_trusted(trust_policy.as_deref(), call)? {
        let message = format!("the trust policy of role {role_name} does not allow the caller");
        return Err(ApiError::new(403, "trust_policy_denied", message));
    }

    let requested = call
        .params
        .opt_int("duration_seconds")
        .unwrap_or(DEFAULT_DURATION);
    let seconds = match call.limits.max_session() {
        Some(limit) => requested.min(limit),
        None => requested,
    };
    create_session(call, tx, role_id, &role_name, call.now + seconds * 1000)
}

/// A role without a trust policy trusts no principal.
fn is_trusted(trust_policy: Option<&str>, call: &Call<'_>) -> Result<bool, ApiError> {
    let Some(document) = trust_policy else {
        return Ok(false);
    };

    let policy = parse_stored(document, TrustPolicy::parse)?;
    Ok(policy.trusts(&call.caller.crns))
}

fn create_session(
    call: &Call<'_>,
    tx: &Connection,
    role_id: &str,
    role_name: &str,
    expires_at: Millis,
) -> HandlerResult {
    let id = new_id();
    tx.prepare_cached(
        "INSERT INTO sessions
             (id, role_id, role_name, principal_id, principal_type, issued_at, expires_at, source_ip)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        id,
        role_id,
        role_name,
        call.caller.principal_id,
        call.caller.principal_type,
        call.now,
        expires_at,
        call.ip.to_string()
    ])?;

    let token = new_session_token();
    insert_token(tx, &token, TokenKind::Session, &id, Some(expires_at))?;

    let access_key_id = format!("BYIA{}", random_hex(16).to_ascii_uppercase());
    let secret = random_hex(40);
    insert_access_key(tx, &access_key_id, &id, &secret)?;

    created(json!({
        "session": fetch::<Sessions>(call, tx, &id)?,
        "credentials": {
            "access_key_id": access_key_id,
            "secret_access_key": secret,
            "session_token": token,
            "expires_at": to_rfc3339(expires_at),
        },
    }))
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let mut query = ListQuery::new::<Sessions>("TRUE", []);
    for column in ["role_id", "principal_id", "principal_type"] {
        if let Some(value) = call.params.opt_text(column) {
            query.and(&format!("{column} = ?"), value.to_owned());
        }
    }

    if call.params.opt_bool("active_only") == Some(true) {
        query.and("revoked_at IS NULL AND expires_at > ?", call.now);
    }

    ok(query.page(tx, call)?)
}

/// Without an effect on a session that has expired or was revoked before.
pub(in crate::sandbox) fn revoke(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text("session_id")?;
    must_exist(tx, ResourceKind::Session, id)?;

    revoke_where("id", id, call.params.opt_text("reason"), call, tx)?;
    no_content()
}

/// Revokes all active sessions of a principal.
pub(super) fn revoke_all_of(
    call: &Call<'_>,
    tx: &Connection,
    principal: &str,
    reason: &str,
) -> Result<(), ApiError> {
    revoke_where("principal_id", principal, Some(reason), call, tx)?;
    Ok(())
}

fn revoke_where(
    column: &str,
    value: &str,
    reason: Option<&str>,
    call: &Call<'_>,
    tx: &Connection,
) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE sessions SET revoked_at = ?2, revoked_by = ?3, revoke_reason = ?4
         WHERE {column} = ?1 AND revoked_at IS NULL AND expires_at > ?2"
    );

    tx.execute(
        &sql,
        params![value, call.now, call.caller.principal_id, reason],
    )
    .map(drop)
}
