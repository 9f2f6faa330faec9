//! Users. They come by invitation, which the sandbox's control interface stands in for.

use rusqlite::{Row, Transaction};
use serde_json::{Value, json};

use super::attachments::{Attachments, Target, attachments};
use super::{Call, Kind, gone, must_exist, ok, sts};
use crate::sandbox::clock::text;
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::Answer;
use crate::sandbox::page::Query;

struct User;

impl Target for User {
    const KIND: Kind = Kind::User;
    const PARAM: &'static str = "user_id";
    const WORD: &'static str = "user";
}

pub(in crate::sandbox) const POLICIES: Attachments = attachments::<User>();

const COLUMNS: &str = "u.id, u.name, u.email, u.created_at";

fn show(row: &Row<'_>) -> rusqlite::Result<Value> {
    Ok(json!({
        "id": row.get::<_, String>(0)?,
        "name": row.get::<_, String>(1)?,
        "email": row.get::<_, String>(2)?,
        "created_at": text(row.get(3)?),
    }))
}

pub(in crate::sandbox) fn one(tx: &Transaction<'_>, id: &str) -> Result<Value, ApiError> {
    must_exist(tx, Kind::User, id)?;
    Ok(tx.query_row(&format!("SELECT {COLUMNS} FROM users u WHERE u.id = ?"), [id], show)?)
}

pub(in crate::sandbox) fn list(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let mut query = Query::new(&format!("SELECT {COLUMNS} FROM users u WHERE TRUE"), "u.id", []);
    query.name_filter("u.name", call.params);
    ok(query.page(tx, call.params, show)?)
}

pub(in crate::sandbox) fn of_policy(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("policy_id")?;
    must_exist(tx, Kind::Policy, id)?;
    let select = format!(
        "SELECT {COLUMNS} FROM users u JOIN attachments a ON a.kind = 'user' AND a.target_id = u.id WHERE a.policy_id = ?"
    );
    ok(Query::new(&select, "u.id", [id.to_owned().into()]).page(tx, call.params, show)?)
}

pub(in crate::sandbox) fn get(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    ok(one(tx, call.params.text("user_id")?)?)
}

pub(in crate::sandbox) fn remove(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text("user_id")?;
    must_exist(tx, Kind::User, id)?;
    sts::revoke_all_of(call, tx, id, "the user was removed")?;
    tx.execute("DELETE FROM attachments WHERE kind = 'user' AND target_id = ?", [id])?;
    tx.execute("DELETE FROM tokens WHERE subject_id = ?", [id])?;
    tx.execute("DELETE FROM users WHERE id = ?", [id])?;
    gone()
}
