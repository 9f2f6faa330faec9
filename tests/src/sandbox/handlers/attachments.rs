//! Policies attached to users, groups, service accounts and roles: one implementation, a constant a kind.

use rusqlite::Connection;

use super::policies::Policies;
use super::{Call, Resource, gone, must_exist, ok};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Handler, Kind};
use crate::sandbox::page::Query;

/// The methods of a kind.
pub(in crate::sandbox) struct Attachments {
    pub(in crate::sandbox) list: Handler,
    pub(in crate::sandbox) attach: Handler,
    pub(in crate::sandbox) detach: Handler,
    /// Those of the kind that a policy is attached to.
    pub(in crate::sandbox) holders: Handler,
}

pub(super) const fn attachments<R: Resource>() -> Attachments {
    Attachments { list: list::<R>, attach: attach::<R>, detach: detach::<R>, holders: holders::<R> }
}

fn list<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text(R::PARAM)?;
    must_exist(tx, R::KIND, id)?;
    let attached = "id IN (SELECT policy_id FROM attachments WHERE kind = ? AND target_id = ?)";
    let query = Query::new::<Policies>(attached, [R::KIND.word().to_owned().into(), id.to_owned().into()]);
    ok(query.all(tx, call)?)
}

fn attach<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, policy) = (call.params.text(R::PARAM)?, call.params.text("policy_id")?);
    must_exist(tx, R::KIND, id)?;
    must_exist(tx, Kind::Policy, policy)?;
    // Attaching twice is as good as once.
    tx.execute(
        "INSERT OR IGNORE INTO attachments (kind, target_id, policy_id) VALUES (?, ?, ?)",
        [R::KIND.word(), id, policy],
    )?;
    gone()
}

fn detach<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, policy) = (call.params.text(R::PARAM)?, call.params.text("policy_id")?);
    must_exist(tx, R::KIND, id)?;
    let sql = "DELETE FROM attachments WHERE kind = ? AND target_id = ? AND policy_id = ?";
    match tx.execute(sql, [R::KIND.word(), id, policy])? {
        0 => Err(ApiError::not_found("attached policy", policy)),
        _ => gone(),
    }
}

fn holders<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("policy_id")?;
    must_exist(tx, Kind::Policy, id)?;
    let attached = "id IN (SELECT target_id FROM attachments WHERE kind = ? AND policy_id = ?)";
    let query = Query::new::<R>(attached, [R::KIND.word().to_owned().into(), id.to_owned().into()]);
    ok(query.page(tx, call)?)
}

/// Whether anything is attached to it.
pub(super) fn has_policies(tx: &Connection, kind: Kind, id: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM attachments WHERE kind = ? AND target_id = ?")?.exists([kind.word(), id])
}

pub(super) fn detach_all(tx: &Connection, kind: Kind, id: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM attachments WHERE kind = ? AND target_id = ?", [kind.word(), id]).map(drop)
}
