//! Users and service accounts in groups: one implementation, a constant a kind.

use rusqlite::Connection;

use super::groups::Groups;
use super::{Call, Resource, gone, must_exist, ok};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Handler, Kind};
use crate::sandbox::page::Query;

/// The methods of a kind of member.
pub(in crate::sandbox) struct Memberships {
    /// The groups of a member.
    pub(in crate::sandbox) list: Handler,
    pub(in crate::sandbox) add: Handler,
    pub(in crate::sandbox) remove: Handler,
    /// Those of the kind that are in a group.
    pub(in crate::sandbox) members: Handler,
}

pub(super) const fn memberships<R: Resource>() -> Memberships {
    Memberships { list: list::<R>, add: add::<R>, remove: remove::<R>, members: members::<R> }
}

fn list<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text(R::PARAM)?;
    must_exist(tx, R::KIND, id)?;
    let joined = "id IN (SELECT group_id FROM memberships WHERE kind = ? AND member_id = ?)";
    let query = Query::new::<Groups>(joined, [R::KIND.word().to_owned().into(), id.to_owned().into()]);
    ok(query.all(tx, call)?)
}

fn add<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, group) = (call.params.text(R::PARAM)?, call.params.text("group_id")?);
    must_exist(tx, R::KIND, id)?;
    must_exist(tx, Kind::Group, group)?;
    join(tx, R::KIND, id, group)?;
    gone()
}

fn remove<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, group) = (call.params.text(R::PARAM)?, call.params.text("group_id")?);
    must_exist(tx, R::KIND, id)?;
    let sql = "DELETE FROM memberships WHERE kind = ? AND member_id = ? AND group_id = ?";
    match tx.execute(sql, [R::KIND.word(), id, group])? {
        0 => Err(ApiError::not_found("membership in group", group)),
        _ => gone(),
    }
}

fn members<R: Resource>(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text("group_id")?;
    must_exist(tx, Kind::Group, id)?;
    let joined = "id IN (SELECT member_id FROM memberships WHERE kind = ? AND group_id = ?)";
    let query = Query::new::<R>(joined, [R::KIND.word().to_owned().into(), id.to_owned().into()]);
    ok(query.page(tx, call)?)
}

/// Joining twice is as good as once.
pub(in crate::sandbox) fn join(tx: &Connection, kind: Kind, id: &str, group: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO memberships (kind, member_id, group_id) VALUES (?, ?, ?)";
    tx.execute(sql, [kind.word(), id, group]).map(drop)
}

pub(super) fn leave_all(tx: &Connection, kind: Kind, id: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM memberships WHERE kind = ? AND member_id = ?", [kind.word(), id]).map(drop)
}
