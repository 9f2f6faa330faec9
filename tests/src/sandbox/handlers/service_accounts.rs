//! Service accounts and their credentials.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::groups::Groups;
use super::links::{Links, links, unlink};
use super::policies::Policies;
use super::{
    Call, Resource, created, fetch, must_exist, no_content, ok, reject_self_removal, sts,
    update_row,
};
use crate::sandbox::clock::{Millis, parse_rfc3339, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{HandlerResult, ResourceKind};
use crate::sandbox::pagination::ListQuery;
use crate::sandbox::store::{TokenKind, insert_token, new_credential_token, new_id};

pub(in crate::sandbox) struct ServiceAccounts;

impl Resource for ServiceAccounts {
    const KIND: ResourceKind = ResourceKind::ServiceAccount;
    const PARAM: &'static str = "service_account_id";
    const COLUMNS: &'static str = "id, name, description, enabled, created_at, updated_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "description": row.get::<_, Option<String>>(2)?,
            "enabled": row.get::<_, bool>(3)?,
            "created_at": to_rfc3339(row.get(4)?),
            "updated_at": to_rfc3339(row.get(5)?),
        }))
    }
}

/// Credentials. The database has only hashes of their secrets.
struct Credentials;

impl Resource for Credentials {
    const KIND: ResourceKind = ResourceKind::Credential;
    const PARAM: &'static str = "credential_id";
    const COLUMNS: &'static str = "id, name, expires_at, created_at";

    fn show(row: &Row<'_>, _: Millis) -> rusqlite::Result<Value> {
        Ok(json!({
            "id": row.get::<_, String>(0)?,
            "name": row.get::<_, String>(1)?,
            "expires_at": row.get::<_, Option<Millis>>(2)?.map(to_rfc3339),
            "created_at": to_rfc3339(row.get(3)?),
        }))
    }
}

pub(in crate::sandbox) const POLICIES: Links = links::<ServiceAccounts, Policies>();
pub(in crate::sandbox) const GROUPS: Links = links::<ServiceAccounts, Groups>();

/// The id of the account in the path. Refused if the account does not exist.
fn account<'a>(call: &'a Call<'_>, tx: &Connection) -> Result<&'a str, ApiError> {
    let id = call.params.text("service_account_id")?;
    must_exist(tx, ResourceKind::ServiceAccount, id)?;

    Ok(id)
}

pub(in crate::sandbox) fn create(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = new_id();
    let name = call.params.text("name")?;
    tx.execute(
        "INSERT INTO service_accounts (id, name, description, created_at, updated_at)
         VALUES (?, ?, ?, ?4, ?4)",
        params![id, name, call.params.opt_text("description"), call.now],
    )?;

    created(fetch::<ServiceAccounts>(call, tx, &id)?)
}

/// A13: disabling an account revokes its sessions.
pub(in crate::sandbox) fn update(call: &Call<'_>, tx: &Connection) -> HandlerResult {
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

/// A13: also revokes its sessions and deletes its credentials.
pub(in crate::sandbox) fn delete(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = account(call, tx)?;
    reject_self_removal(call, id)?;

    sts::revoke_all_of(call, tx, id, "the service account was deleted")?;
    unlink(tx, ResourceKind::ServiceAccount, id)?;
    tx.execute(
        "DELETE FROM tokens WHERE subject_id IN (SELECT id FROM credentials
         WHERE service_account_id = ?)",
        [id],
    )?;
    tx.execute("DELETE FROM service_accounts WHERE id = ?", [id])?;
    no_content()
}

pub(in crate::sandbox) fn list_credentials(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = account(call, tx)?;
    let query = ListQuery::new::<Credentials>("service_account_id = ?", [id.to_owned().into()]);

    ok(query.all(tx, call)?)
}

/// A14: only this reply has the secret.
pub(in crate::sandbox) fn create_credential(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let account = account(call, tx)?;
    let name = call.params.text("name")?;
    let expires_at = call.params.opt_text("expires_at").and_then(parse_rfc3339);
    if expires_at.is_some_and(|expires_at| expires_at <= call.now) {
        return Err(ApiError::invalid("expires_at: it must be in the future"));
    }

    let id = new_id();
    let secret = new_credential_token();
    tx.execute(
        "INSERT INTO credentials (id, service_account_id, name, expires_at, created_at)
         VALUES (?, ?, ?, ?, ?)",
        params![id, account, name, expires_at, call.now],
    )?;
    insert_token(tx, &secret, TokenKind::Credential, &id, expires_at)?;

    let mut credential = fetch::<Credentials>(call, tx, &id)?;
    credential["secret"] = secret.into();
    created(credential)
}

pub(in crate::sandbox) fn delete_credential(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let account = account(call, tx)?;
    let id = call.params.text("credential_id")?;
    let sql = "DELETE FROM credentials WHERE id = ? AND service_account_id = ?";
    if tx.execute(sql, [id, account])? == 0 {
        return Err(ApiError::not_found("credential", id));
    }

    tx.execute("DELETE FROM tokens WHERE subject_id = ?", [id])?;
    no_content()
}
