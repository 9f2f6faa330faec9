//! Buckets: list, create, head, delete.

use rusqlite::{Connection, params};

use super::Reply;
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::xml::document;

pub(super) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

pub(super) fn list(tx: &Connection, org: &str) -> Result<Reply, ApiError> {
    let mut statement = tx.prepare_cached("SELECT name, created_at FROM buckets ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Millis>(1)?))
    })?;
    let buckets = rows.collect::<Result<Vec<_>, _>>()?;

    Ok(Reply::xml(document(
        "ListAllMyBucketsResult",
        Some(NAMESPACE),
        |xml| {
            xml.element("Owner", |xml| xml.text("ID", org));
            xml.element("Buckets", |xml| {
                for (name, created_at) in &buckets {
                    xml.element("Bucket", |xml| {
                        xml.text("Name", name);
                        xml.text("CreationDate", &to_rfc3339(*created_at));
                    });
                }
            });
        },
    )))
}

pub(super) fn create(tx: &Connection, bucket: &str, now: Millis) -> Result<Reply, ApiError> {
    if exists(tx, bucket)? {
        let message = format!("the bucket {bucket} exists");
        return Err(ApiError::new(409, "BucketAlreadyOwnedByYou", message));
    }

    tx.execute(
        "INSERT INTO buckets (name, created_at) VALUES (?, ?)",
        params![bucket, now],
    )?;

    Ok(Reply::empty(200).with("Location", format!("/{bucket}")))
}

pub(super) fn head(tx: &Connection, bucket: &str) -> Result<Reply, ApiError> {
    must_exist(tx, bucket).map(|()| Reply::empty(200))
}

pub(super) fn delete(tx: &Connection, bucket: &str) -> Result<Reply, ApiError> {
    must_exist(tx, bucket)?;
    let has_objects = tx
        .prepare_cached("SELECT 1 FROM objects WHERE bucket = ?")?
        .exists([bucket])?;
    if has_objects {
        let message = format!("the bucket {bucket} has objects");
        return Err(ApiError::new(409, "BucketNotEmpty", message));
    }

    tx.execute("DELETE FROM buckets WHERE name = ?", [bucket])?;
    Ok(Reply::empty(204))
}

pub(super) fn must_exist(tx: &Connection, bucket: &str) -> Result<(), ApiError> {
    if exists(tx, bucket)? {
        return Ok(());
    }

    Err(ApiError::new(
        404,
        "NoSuchBucket",
        format!("no bucket {bucket}"),
    ))
}

fn exists(tx: &Connection, bucket: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM buckets WHERE name = ?")?
        .exists([bucket])
}
