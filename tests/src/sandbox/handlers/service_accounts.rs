//! Service accounts and their credentials.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::groups::Groups;
use super::links::{Links, links, unlink};
use super::policies::Policies;
use super::update as update_row;
use super::{
    Call, Resource, created, get as get_one, gone, list_by_name, must_exist, not_oneself, ok, one,
    sts,
};
use crate::sandbox::clock::{Millis, parse, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Kind};
use crate::sandbox::page::Query;
use crate::sandbox::store::{TokenKind, new_id, put_token, random_text};

struct ServiceAccounts;

impl Resource for ServiceAccounts {
    const KIND: Kind = Kind::ServiceAccount;
    const PARAM: &'static str = "service_account_id";
    const COLUMNS: &'static str = "id, name, description, enabled, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "enabled": row.get::<_, bool>(3)?,
            "created_at": text(row.get(4)?),
            "updated_at": text(row.get(5)?),
        }))
    }
}

/// Its secret is not among what is stored.
struct Credentials;

impl Resource for Credentials {
    const KIND: Kind = Kind::Credential;
    const PARAM: &'static str = "credential_id";
    const COLUMNS: &'static str = "id, name, expires_at, created_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "expires_at": row.get::<_, Option<Millis>>(2)?.map(text),
            "created_at": text(row.get(3)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<ServiceAccounts, Policies>();
pub(in crate::sandbox) const GROUPS: Links = links::<ServiceAccounts, Groups>();

/// The account of the path, which must be there.
fn account<'a>(call: &'a Call<'_>, tx: &Connection) -> Result<&'a str, ApiError> {
    let id = call.params.text("service_account_id")?;
    must_exist(tx, Kind::ServiceAccount, id).map(|()| id)
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Connection) -> Answer {
    list_by_name::<ServiceAccounts>(call, tx)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, name) = (new_id(), call.params.text("name")?);
    tx.execute(
        "INSERT INTO service_accounts (id, name, description, created_at, updated_at) VALUES (?, ?, ?, ?4, ?4)",
        params![id, name, call.params.opt_text("description"), call.now],
    )?;
    created(one::<ServiceAccounts>(call, tx, &id)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Connection) -> Answer {
    get_one::<ServiceAccounts>(call, tx)
}

/// A13: disabling it revokes its sessions.
pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> Answer {
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
    ok(update_row::<ServiceAccounts>(call, tx, columns)?)
}

/// A13: its sessions are revoked; its credentials go with it.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = account(call, tx)?;
    not_oneself(call, id)?;
    sts::revoke_all_of(call, tx, id, "the service account was deleted")?;
    unlink(tx, Kind::ServiceAccount, id)?;
    tx.execute(
        "DELETE FROM tokens WHERE subject_id IN (SELECT id FROM credentials WHERE service_account_id = ?)",
        [id],
    )?;
    tx.execute("DELETE FROM service_accounts WHERE id = ?", [id])?;
    gone()
}

pub(in crate::sandbox) fn list_credentials(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = account(call, tx)?;
    ok(
        Query::new::<Credentials>("service_account_id = ?", [id.to_owned().into()])
            .all(tx, call)?,
    )
}

/// A14: the secret is in this reply and nowhere else.
pub(in crate::sandbox) fn create_credential(call: &Call<'_>, tx: &Connection) -> Answer {
    let (account, name) = (account(call, tx)?, call.params.text("name")?);
    let expires_at = match call.params.opt_text("expires_at") {
        None => None,
        Some(text) => match parse(text) {
            Some(end) if end > call.now => Some(end),
            _ => return Err(ApiError::invalid("expires_at: it must be in the future")),
        },
    };
    let (id, secret) = (new_id(), random_text("bys_", 48));
    tx.execute(
        "INSERT INTO credentials (id, service_account_id, name, expires_at, created_at) VALUES (?, ?, ?, ?, ?)",
        params![id, account, name, expires_at, call.now],
    )?;
    put_token(tx, &secret, TokenKind::Credential, &id, expires_at)?;
    let mut credential = one::<Credentials>(call, tx, &id)?;
    credential["secret"] = secret.into();
    created(credential)
}

pub(in crate::sandbox) fn delete_credential(call: &Call<'_>, tx: &Connection) -> Answer {
    let (account, id) = (account(call, tx)?, call.params.text("credential_id")?);
    let sql = "DELETE FROM credentials WHERE id = ? AND service_account_id = ?";
    if tx.execute(sql, [id, account])? == 0 {
        return Err(ApiError::not_found("credential", id));
    }
    tx.execute("DELETE FROM tokens WHERE subject_id = ?", [id])?;
    gone()
}
