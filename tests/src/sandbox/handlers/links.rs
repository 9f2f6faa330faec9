//! Links between resources: attached policies, and memberships in groups. One implementation for
//! both, and one constant for each kind of owner.

use rusqlite::Connection;

use super::groups::Groups;
use super::policies::Policies;
use super::{Call, Resource, must_exist, no_content, ok};
use crate::sandbox::error::ApiError;
use crate::sandbox::methods::{Handler, HandlerResult, ResourceKind};
use crate::sandbox::pagination::ListQuery;

/// A resource that owners are linked to. Its table has the columns `kind`, `owner_id` and
/// [`Resource::PARAM`].
pub(super) trait Linked: Resource {
    const TABLE: &'static str;
}

impl Linked for Policies {
    const TABLE: &'static str = "attachments";
}

impl Linked for Groups {
    const TABLE: &'static str = "memberships";
}

/// The handlers of a link.
pub(in crate::sandbox) struct Links {
    /// Lists the resources of one owner.
    pub(in crate::sandbox) list: Handler,
    pub(in crate::sandbox) add: Handler,
    pub(in crate::sandbox) remove: Handler,
    /// Lists the owners of one resource.
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

fn list<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text(R::PARAM)?;
    must_exist(tx, R::KIND, id)?;

    let linked = format!(
        "id IN (SELECT {} FROM {} WHERE kind = ? AND owner_id = ?)",
        L::PARAM,
        L::TABLE
    );
    let query = ListQuery::new::<L>(
        &linked,
        [R::KIND.api_name().to_owned().into(), id.to_owned().into()],
    );

    ok(query.all(tx, call)?)
}

fn add<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text(R::PARAM)?;
    let other = call.params.text(L::PARAM)?;
    must_exist(tx, R::KIND, id)?;
    must_exist(tx, L::KIND, other)?;

    link::<L>(tx, R::KIND, id, other)?;
    no_content()
}

fn remove<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text(R::PARAM)?;
    let other = call.params.text(L::PARAM)?;
    must_exist(tx, R::KIND, id)?;

    let sql = format!(
        "DELETE FROM {} WHERE kind = ? AND owner_id = ? AND {} = ?",
        L::TABLE,
        L::PARAM
    );
    match tx.execute(&sql, [R::KIND.api_name(), id, other])? {
        0 => Err(ApiError::not_found(
            &format!("link to {}", L::KIND.api_name()),
            other,
        )),
        _ => no_content(),
    }
}

fn owners<R: Resource, L: Linked>(call: &Call<'_>, tx: &Connection) -> HandlerResult {
    let id = call.params.text(L::PARAM)?;
    must_exist(tx, L::KIND, id)?;

    let linked = format!(
        "id IN (SELECT owner_id FROM {} WHERE kind = ? AND {} = ?)",
        L::TABLE,
        L::PARAM
    );
    let query = ListQuery::new::<R>(
        &linked,
        [R::KIND.api_name().to_owned().into(), id.to_owned().into()],
    );

    ok(query.page(tx, call)?)
}

/// Without an effect if the link exists.
pub(super) fn link<L: Linked>(
    tx: &Connection,
    kind: ResourceKind,
    id: &str,
    other: &str,
) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT OR IGNORE INTO {} (kind, owner_id, {}) VALUES (?, ?, ?)",
        L::TABLE,
        L::PARAM
    );
    tx.execute(&sql, [kind.api_name(), id, other]).map(drop)
}

/// Whether any owner is linked to the resource.
pub(super) fn has_owners<L: Linked>(tx: &Connection, id: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached(&format!(
        "SELECT 1 FROM {} WHERE {} = ?",
        L::TABLE,
        L::PARAM
    ))?
    .exists([id])
}

/// Whether policies are attached to the owner.
pub(super) fn has_policies(
    tx: &Connection,
    kind: ResourceKind,
    id: &str,
) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM attachments WHERE kind = ? AND owner_id = ?")?
        .exists([kind.api_name(), id])
}

/// Removes all links of an owner.
pub(super) fn unlink(tx: &Connection, kind: ResourceKind, id: &str) -> rusqlite::Result<()> {
    for table in [Policies::TABLE, Groups::TABLE] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE kind = ? AND owner_id = ?"),
            [kind.api_name(), id],
        )?;
    }
    Ok(())
}
