//! Sessions: a role is assumed (A7, A10), and the session is seen, listed and revoked (A8).

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::{Call, Resource, created, get as get_one, gone, must_exist, ok, one};
use crate::sandbox::clock::{Millis, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Kind};
use crate::sandbox::page::Query;
use crate::sandbox::policy::TrustPolicy;
use crate::sandbox::store::{TokenKind, new_id, put_key, put_token, random_text};

const SHORTEST: i64 = 900;
const LONGEST: i64 = 43_200;
const DEFAULT: i64 = 3600;

struct Sessions;

impl Resource for Sessions {
    const KIND: Kind = Kind::Session;
    const PARAM: &'static str = "session_id";
    const COLUMNS: &'static str = "id, role_id, role_name, principal_id, principal_type, issued_at, expires_at, \
                                   revoked_at, revoked_by, revoke_reason, source_ip";

    fn show(row: &Row<'_>, now: Millis) -> rusqlite::Result<Value> {
        let (expires_at, revoked_at): (Millis, Option<Millis>) = (row.get(6)?, row.get(7)?);
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
            "issued_at": text(row.get(5)?),
            "expires_at": text(expires_at),
            "revoked_at": revoked_at.map(text),
            "revoked_by": row.get::<_, Option<String>>(8)?,
            "revoke_reason": row.get::<_, Option<String>>(9)?,
            "source_ip": row.get::<_, String>(10)?,
        }))
    }
}

/// The caller's policies have allowed it by now; the role's trust policy has the second word.
pub(in crate::sandbox) fn assume(call: &Call<'_>, tx: &Connection) -> Answer {
    let role_id = call.params.text("role_id")?;
    let (role_name, trust): (String, Option<String>) = tx
        .prepare_cached("SELECT name, trust_policy FROM roles WHERE id = ?")?
        .query_row([role_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| ApiError::not_found(Kind::Role.word(), role_id))?;
    let asked = call.params.opt_int("duration_seconds").unwrap_or(DEFAULT);
    if !(SHORTEST..=LONGEST).contains(&asked) {
        let message = format!("duration_seconds: {asked} is not from {SHORTEST} to {LONGEST}");
        return Err(ApiError::invalid(message));
    }
    if !trusts(trust.as_deref(), call)? {
        let message = format!("the trust policy of role {role_name} does not allow the caller");
        return Err(ApiError::new(403, "trust_policy_denied", message));
    }
    let seconds = call
        .limits
        .max_session()
        .map_or(asked, |most| asked.min(most));
    start(call, tx, role_id, &role_name, call.now + seconds * 1000)
}

/// A role without a trust policy trusts nobody.
fn trusts(trust: Option<&str>, call: &Call<'_>) -> Result<bool, ApiError> {
    let Some(trust) = trust else { return Ok(false) };
    let broken = |why: String| {
        ApiError::new(
            500,
            "internal",
            format!("a stored trust policy cannot be read: {why}"),
        )
    };
    let document: Value = serde_json::from_str(trust).map_err(|error| broken(error.to_string()))?;
    Ok(TrustPolicy::parse(&document)
        .map_err(broken)?
        .trusts(&call.caller.crns))
}

fn start(
    call: &Call<'_>,
    tx: &Connection,
    role_id: &str,
    role_name: &str,
    expires_at: Millis,
) -> Answer {
    let (id, token) = (new_id(), random_text("bysess_", 113));
    tx.prepare_cached(
        "INSERT INTO sessions (id, role_id, role_name, principal_id, principal_type, issued_at, expires_at, source_ip)
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
    put_token(tx, &token, TokenKind::Session, &id, Some(expires_at))?;
    let (access_key_id, secret) = (
        random_text("BYIA", 16).to_ascii_uppercase(),
        random_text("", 40),
    );
    put_key(tx, &access_key_id, &id, &secret)?;
    created(json!({
        "session": one::<Sessions>(call, tx, &id)?,
        "credentials": {
            "access_key_id": access_key_id,
            "secret_access_key": secret,
            "session_token": token,
            "expires_at": text(expires_at),
        },
    }))
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> Answer {
    let mut query = Query::new::<Sessions>("TRUE", []);
    for column in ["role_id", "principal_id", "principal_type"] {
        if let Some(wanted) = call.params.opt_text(column) {
            query.and(&format!("{column} = ?"), wanted.to_owned());
        }
    }
    if call.params.opt_bool("active_only") == Some(true) {
        query.and("revoked_at IS NULL AND expires_at > ?", call.now);
    }
    ok(query.page(tx, call)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Connection) -> Answer {
    get_one::<Sessions>(call, tx)
}

/// Revoking what has ended already changes nothing, and is no error.
pub(in crate::sandbox) fn revoke(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("session_id")?;
    must_exist(tx, Kind::Session, id)?;
    tx.execute(
        "UPDATE sessions SET revoked_at = ?2, revoked_by = ?3, revoke_reason = ?4
         WHERE id = ?1 AND revoked_at IS NULL AND expires_at > ?2",
        params![
            id,
            call.now,
            call.caller.principal_id,
            call.params.opt_text("reason")
        ],
    )?;
    gone()
}

/// Revokes whatever a principal has active.
pub(super) fn revoke_all_of(
    call: &Call<'_>,
    tx: &Connection,
    principal: &str,
    reason: &str,
) -> Result<(), ApiError> {
    tx.execute(
        "UPDATE sessions SET revoked_at = ?2, revoked_by = ?3, revoke_reason = ?4
         WHERE principal_id = ?1 AND revoked_at IS NULL AND expires_at > ?2",
        params![principal, call.now, call.caller.principal_id, reason],
    )?;
    Ok(())
}
