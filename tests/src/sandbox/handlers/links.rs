//! What things of several kinds have in common: policies attached to them, and groups they are in. One implementation for
//! both, a constant for each kind and link.

use rusqlite::Connection;

use super::groups::Groups;
use super::policies::Policies;
use super::{Call, Resource, gone, must_exist, ok};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Answer, Handler, Kind};
use crate::sandbox::page::Query;

/// What others are linked to, by a table of `kind`, `owner_id` and the column that is called like its parameter.
pub(super) trait Linked: Resource {
    const TABLE: &'static str;
}

impl Linked for Policies {
    const TABLE: &'static str = "attachments";
}

impl Linked for Groups {
    const TABLE: &'static str = "memberships";
}

/// The methods of a link.
pub(in crate::sandbox) struct Links {
    /// What one thing is linked to.
    pub(in crate::sandbox) list: Handler,
    pub(in crate::sandbox) add: Handler,
    pub(in crate::sandbox) remove: Handler,
    /// The things that are linked to one.
    pub(in crate::sandbox) owners: Handler,
}

pub(super) const fn links<R: Resource, L: Linked>() -> Links {
    Links {
        list: list::<R, L>,
        add: add::<R, L>,
        remove: remove::<R, L>,
        owners: owners::<R, L>,
    }
}

fn list<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text(R::PARAM)?;
    must_exist(tx, R::KIND, id)?;
    let linked = format!(
        "id IN (SELECT {} FROM {} WHERE kind = ? AND owner_id = ?)",
        L::PARAM,
        L::TABLE
    );
    let query = Query::new::<L>(
        &linked,
        [R::KIND.word().to_owned().into(), id.to_owned().into()],
    );
    ok(query.all(tx, call)?)
}

fn add<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, other) = (call.params.text(R::PARAM)?, call.params.text(L::PARAM)?);
    must_exist(tx, R::KIND, id)?;
    must_exist(tx, L::KIND, other)?;
    link::<L>(tx, R::KIND, id, other)?;
    gone()
}

fn remove<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> Answer {
    let (id, other) = (call.params.text(R::PARAM)?, call.params.text(L::PARAM)?);
    must_exist(tx, R::KIND, id)?;
    let sql = format!(
        "DELETE FROM {} WHERE kind = ? AND owner_id = ? AND {} = ?",
        L::TABLE,
        L::PARAM
    );
    match tx.execute(&sql, [R::KIND.word(), id, other])? {
        0 => Err(ApiError::not_found(
            &format!("{} here:", L::KIND.word()),
            other,
        )),
        _ => gone(),
    }
}

fn owners<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> Answer {
    let id = call.params.text(L::PARAM)?;
    must_exist(tx, L::KIND, id)?;
    let linked = format!(
        "id IN (SELECT owner_id FROM {} WHERE kind = ? AND {} = ?)",
        L::TABLE,
        L::PARAM
    );
    let query = Query::new::<R>(
        &linked,
        [R::KIND.word().to_owned().into(), id.to_owned().into()],
    );
    ok(query.page(tx, call)?)
}

/// Linking twice is as good as once.
pub(super) fn link<L: Linked>(
    tx: &Connection,
    kind: Kind,
    id: &str,
    other: &str,
) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT OR IGNORE INTO {} (kind, owner_id, {}) VALUES (?, ?, ?)",
        L::TABLE,
        L::PARAM
    );
    tx.execute(&sql, [kind.word(), id, other]).map(drop)
}

/// Whether anything of any kind is linked to it.
pub(super) fn has_owners<L: Linked>(tx: &Connection, id: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached(&format!(
        "SELECT 1 FROM {} WHERE {} = ?",
        L::TABLE,
        L::PARAM
    ))?
    .exists([id])
}

/// Whether policies are attached to it.
pub(super) fn has_policies(tx: &Connection, kind: Kind, id: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM attachments WHERE kind = ? AND owner_id = ?")?
        .exists([kind.word(), id])
}

/// Takes a thing that goes away out of everything.
pub(super) fn unlink(tx: &Connection, kind: Kind, id: &str) -> rusqlite::Result<()> {
    for table in [Policies::TABLE, Groups::TABLE] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE kind = ? AND owner_id = ?"),
            [kind.word(), id],
        )?;
    }
    Ok(())
}
