//! Policies attached to users, service accounts and roles: one implementation, a constant a kind.

use rusqlite::Transaction;

use super::{Call, Kind, gone, must_exist, ok, policies};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::Answer;
use crate::sandbox::page::Query;

/// The three methods of a kind.
pub(in crate::sandbox) struct Attachments {
    pub(in crate::sandbox) list: fn(&Call<'_>, &Transaction<'_>) -> Answer,
    pub(in crate::sandbox) attach: fn(&Call<'_>, &Transaction<'_>) -> Answer,
    pub(in crate::sandbox) detach: fn(&Call<'_>, &Transaction<'_>) -> Answer,
}

/// What policies can be attached to: its kind, the parameter with its id, and the word in the table.
pub(super) trait Target {
    const KIND: Kind;
    const PARAM: &'static str;
    const WORD: &'static str;
}

pub(super) const fn attachments<T: Target>() -> Attachments {
    Attachments { list: list::<T>, attach: attach::<T>, detach: detach::<T> }
}

fn list<T: Target>(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let id = call.params.text(T::PARAM)?;
    must_exist(tx, T::KIND, id)?;
    let select = format!(
        "SELECT {} FROM policies p JOIN attachments a ON a.policy_id = p.id WHERE a.kind = ? AND a.target_id = ?",
        policies::COLUMNS
    );
    let query = Query::new(&select, "p.id", [T::WORD.to_owned().into(), id.to_owned().into()]);
    ok(query.all(tx, policies::show)?)
}

fn attach<T: Target>(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let (id, policy) = (call.params.text(T::PARAM)?, call.params.text("policy_id")?);
    must_exist(tx, T::KIND, id)?;
    must_exist(tx, Kind::Policy, policy)?;
    // Attaching twice is as good as once.
    tx.execute(
        "INSERT OR IGNORE INTO attachments (kind, target_id, policy_id) VALUES (?, ?, ?)",
        [T::WORD, id, policy],
    )?;
    gone()
}

fn detach<T: Target>(call: &Call<'_>, tx: &Transaction<'_>) -> Answer {
    let (id, policy) = (call.params.text(T::PARAM)?, call.params.text("policy_id")?);
    must_exist(tx, T::KIND, id)?;
    let sql = "DELETE FROM attachments WHERE kind = ? AND target_id = ? AND policy_id = ?";
    match tx.execute(sql, [T::WORD, id, policy])? {
        0 => Err(ApiError::not_found("attached policy", policy)),
        _ => gone(),
    }
}
