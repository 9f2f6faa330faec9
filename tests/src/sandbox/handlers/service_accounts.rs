//! Service accounts and their credentials.

use rusqlite::{Row, Transaction, params};
use serde_json::{Value, json};

use super::attachments::{Attachments, Target, attachments};
use super::{Call, Kind, checked_name, created, gone, must_exist, ok, sts, update as update_row};
use crate::sandbox::clock::{Millis, parse, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::Answer;
use crate::sandbox::page::Query;
use crate::sandbox::store::{TokenKind, new_id, put_token, random_text};

struct ServiceAccount;

impl Target for ServiceAccount {
    const KIND: Kind = Kind::ServiceAccount;
    const PARAM: &'static str = "service_account_id";
    const WORD: &'static str = "service_account";
}

pub(in crate::sandbox) const POLICIES: Attachments = attachments::<ServiceAccount>();

const COLUMNS: &str = "s.id, s.name, s.description, s.enabled, s.created_at, s.updated_at";
const CREDENTIAL_COLUMNS: &str = "c.id, c.name, c.expires_at, c.created_at";

fn show(row: &Row<'_>) -> rusqlite::Result<Value> {
    Ok(json!({
        "id": row.get::<_, String>(0)?,
        "name": row.get::<_, String>(1)?,
        "description": row.get::<_, Option<String>>(2)?,
        "enabled": row.get::<_, bool>(3)?,
        "created_at": text(row.get(4)?),
        "updated_at": text(row.get(5)?),
    }))
}

fn show_credential(row: &Row<'_>) -> rusqlite::Result<Value> {
    Ok(json!({
        "id": row.get::<_, String>(0)?,
        "name": row.get::<_, String>(1)?,
        "expires_at": row.get::<_, Option<Millis>>(2)?.map(text),
        "created_at": text(row.get(3)?),
    }))
}

fn one(tx: &Transaction<'_>, id: &str) -> Result<Value, ApiError> {
    must_exist(tx, Kind::ServiceAccount, id)?;
    Ok(tx.query_row(&format!("SELECT {COLUMNS} FROM service_accounts s WHERE s.id = ?"), [id], show)?)
}

/// The account of the path, which must be there.
fn account<'a>(call: &'a Call<'_>, tx: &Transaction<'_>) -> Result<&'a str, ApiError> {
    let id = call.params.text("service_account_id")?;
    must_exist(tx, Kind::ServiceAccount, id).map(|()| id)
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let mut query = Query::new(&format!("SELECT {COLUMNS} FROM service_accounts s WHERE TRUE"), "s.id", []);
    query.name_filter("s.name", call.params);
    ok(query.page(tx, call.params, show)?)
}

pub(in crate::sandbox) fn of_policy(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("policy_id")?;
    must_exist(tx, Kind::Policy, id)?;
    let select = format!(
        "SELECT {COLUMNS} FROM service_accounts s
         JOIN attachments a ON a.kind = 'service_account' AND a.target_id = s.id WHERE a.policy_id = ?"
    );
    ok(Query::new(&select, "s.id", [id.to_owned().into()]).page(tx, call.params, show)?)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let (id, name) = (new_id(), checked_name(call.params, "name")?);
    tx.execute(
        "INSERT INTO service_accounts (id, name, description, created_at, updated_at) VALUES (?, ?, ?, ?4, ?4)",
        params![id, name, call.params.opt_text("description"), call.now],
    )?;
    created(one(tx, &id)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    ok(one(tx, account(call, tx)?)?)
}

/// A13: disabling it revokes its sessions.
pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = account(call, tx)?;
    let mut columns = Vec::new();
    if let Some(description) = call.params.opt_text("description") {
        columns.push(("description", description.to_owned().into()));
    }
    if let Some(enabled) = call.params.opt_bool("enabled") {
        columns.push(("enabled", i64::from(enabled).into()));
        if !enabled {
            sts::revoke_all_of(call, tx, id, "the service account was disabled")?;
        }
    }
    update_row(tx, Kind::ServiceAccount, id, columns, call.now)?;
    ok(one(tx, id)?)
}

/// A13: its sessions are revoked; its credentials go with it.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = account(call, tx)?;
    sts::revoke_all_of(call, tx, id, "the service account was deleted")?;
    tx.execute("DELETE FROM attachments WHERE kind = 'service_account' AND target_id = ?", [id])?;
    tx.execute(
        "DELETE FROM tokens WHERE subject_id IN (SELECT id FROM credentials WHERE service_account_id = ?)",
        [id],
    )?;
    tx.execute("DELETE FROM service_accounts WHERE id = ?", [id])?;
    gone()
}

pub(in crate::sandbox) fn list_credentials(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = account(call, tx)?;
    let select = format!("SELECT {CREDENTIAL_COLUMNS} FROM credentials c WHERE c.service_account_id = ?");
    ok(Query::new(&select, "c.id", [id.to_owned().into()]).all(tx, show_credential)?)
}

/// A14: the secret is in this reply and nowhere else.
pub(in crate::sandbox) fn create_credential(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let (account, name) = (account(call, tx)?, checked_name(call.params, "name")?);
    let expires_at = match call.params.opt_text("expires_at") {
        None => None,
        Some(text) => match parse(text) {
            Some(end) if end > call.now => Some(end),
            _ => return Err(ApiError::invalid("expires_at: it must be a time in the future, as RFC 3339 writes it")),
        },
    };
    let (id, secret) = (new_id(), random_text("bys_", 48));
    tx.execute(
        "INSERT INTO credentials (id, service_account_id, name, expires_at, created_at) VALUES (?, ?, ?, ?, ?)",
        params![id, account, name, expires_at, call.now],
    )?;
    put_token(tx, &secret, TokenKind::Credential, &id, expires_at)?;
    let select = format!("SELECT {CREDENTIAL_COLUMNS} FROM credentials c WHERE c.id = ?");
    let mut credential = tx.query_row(&select, [&id], show_credential)?;
    credential["secret"] = secret.into();
    created(credential)
}

pub(in crate::sandbox) fn delete_credential(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let (account, id) = (account(call, tx)?, call.params.text("credential_id")?);
    let sql = "DELETE FROM credentials WHERE id = ? AND service_account_id = ?";
    if tx.execute(sql, [id, account])? == 0 {
        return Err(ApiError::not_found("credential", id));
    }
    tx.execute("DELETE FROM tokens WHERE subject_id = ?", [id])?;
    gone()
}
