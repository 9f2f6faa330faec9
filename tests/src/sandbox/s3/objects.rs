//! Objects: put, got, and deleted. An ETag is no MD5 here, and has the form of those that are none.

use std::time::{Duration, UNIX_EPOCH};

use hyper::header::HeaderName;
use hyper::http::request::Parts;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::Reply;
use super::buckets::must_exist;
use super::operation::Asked;
use super::payload::Payload;
use crate::sandbox::clock::Millis;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{hex, only};

/// What is kept of the headers of a put and comes back with the object, besides `x-amz-meta-*`.
const KEPT: [&str; 6] = [
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
];

struct Object {
    data: Vec<u8>,
    etag: String,
    headers: Vec<(String, String)>,
    checksum: Option<(String, String)>,
    modified_at: Millis,
}

pub(super) fn put(
    tx: &Connection,
    asked: &Asked,
    parts: &Parts,
    payload: &Payload,
    now: Millis,
) -> Result<Reply, ApiError> {
    must_exist(tx, &asked.bucket)?;
    let headers = serde_json::to_string(&kept_headers(parts)?).unwrap_or_default();
    let hash = hex(&Sha256::digest(&payload.data));
    let etag = format!("\"{}-1\"", hash.get(..32).unwrap_or(&hash));
    let sum = payload.checksum.as_ref();
    tx.prepare_cached(
        "INSERT OR REPLACE INTO objects (bucket, key, data, etag, headers, checksum_header, checksum, modified_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        asked.bucket,
        asked.key,
        &payload.data[..],
        etag,
        headers,
        sum.map(|sum| &sum.header),
        sum.map(|sum| &sum.value),
        now
    ])?;
    let reply = Reply::empty(200).with("ETag", etag);
    Ok(match sum {
        Some(sum) => reply.with_checksum(&sum.header, &sum.value),
        None => reply,
    })
}

/// What is stored is not in chunks any more.
fn kept_headers(parts: &Parts) -> Result<Vec<(String, String)>, ApiError> {
    let mut kept = Vec::new();
    for name in parts.headers.keys().map(HeaderName::as_str) {
        if !KEPT.contains(&name) && !name.starts_with("x-amz-meta-") {
            continue;
        }
        let mut value = only(&parts.headers, name)?.unwrap_or("").to_owned();
        if name == "content-encoding" {
            let others = value
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty() && *part != "aws-chunked");
            value = others.collect::<Vec<_>>().join(", ");
        }
        if !value.is_empty() {
            kept.push((name.to_owned(), value));
        }
    }
    Ok(kept)
}

/// For HEAD too: the server leaves the body out.
pub(super) fn get(tx: &Connection, asked: &Asked, parts: &Parts) -> Result<Reply, ApiError> {
    must_exist(tx, &asked.bucket)?;
    let object = find(tx, asked)?.ok_or_else(|| {
        ApiError::new(
            404,
            "NoSuchKey",
            format!("the bucket {} has no such key", asked.bucket),
        )
    })?;
    if only(&parts.headers, "if-match")?
        .is_some_and(|wanted| wanted != "*" && wanted != object.etag)
    {
        return Err(ApiError::new(
            412,
            "PreconditionFailed",
            "the object's ETag is another than If-Match gives",
        ));
    }
    let modified =
        UNIX_EPOCH + Duration::from_millis(u64::try_from(object.modified_at).unwrap_or(0));
    let mut reply = Reply::empty(200)
        .with("ETag", object.etag)
        .with("Last-Modified", httpdate::fmt_http_date(modified))
        .with("Accept-Ranges", "bytes");
    if object
        .headers
        .iter()
        .all(|(name, _)| name != "content-type")
    {
        reply = reply.with("Content-Type", "binary/octet-stream");
    }
    for (name, value) in object.headers {
        reply = reply.with(&name, value);
    }
    let length = object.data.len();
    match only(&parts.headers, "range")?.and_then(|range| parse_range(range, length)) {
        Some(Range::Unsatisfiable) => Err(ApiError::new(
            416,
            "InvalidRange",
            "the range begins behind the end",
        )),
        Some(Range::Bytes(first, last)) => {
            let part = object.data.get(first..=last).unwrap_or_default().to_vec();
            Ok(reply
                .with("Content-Range", format!("bytes {first}-{last}/{length}"))
                .partial(part))
        }
        None => {
            let asked_for = only(&parts.headers, "x-amz-checksum-mode")?
                .is_some_and(|m| m.eq_ignore_ascii_case("enabled"));
            if let Some((name, value)) = object.checksum.filter(|_| asked_for) {
                reply = reply.with_checksum(&name, &value);
            }
            Ok(Reply {
                body: object.data,
                ..reply
            })
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Bytes(usize, usize),
    Unsatisfiable,
}

/// One range of bytes. A header that is none, or that names several, counts as absent (RFC 9110, 14.2).
fn parse_range(range: &str, length: usize) -> Option<Range> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1);
    let (first, last) = match (first, last) {
        ("", suffix) => {
            let suffix: usize = suffix.parse().ok()?;
            if suffix == 0 {
                return Some(Range::Unsatisfiable);
            }
            (length.saturating_sub(suffix), usize::MAX)
        }
        (first, "") => (first.parse().ok()?, usize::MAX),
        (first, last) => (first.parse().ok()?, last.parse().ok()?),
    };
    if first > last {
        return None;
    }
    match end {
        Some(end) if first <= end => Some(Range::Bytes(first, last.min(end))),
        _ => Some(Range::Unsatisfiable),
    }
}

pub(super) fn delete(tx: &Connection, asked: &Asked) -> Result<Reply, ApiError> {
    must_exist(tx, &asked.bucket)?;
    tx.execute(
        "DELETE FROM objects WHERE bucket = ? AND key = ?",
        [&asked.bucket, &asked.key],
    )?;
    Ok(Reply::empty(204))
}

fn find(tx: &Connection, asked: &Asked) -> rusqlite::Result<Option<Object>> {
    let sql = "SELECT data, etag, headers, checksum_header, checksum, modified_at FROM objects
               WHERE bucket = ? AND key = ?";
    tx.prepare_cached(sql)?
        .query_row([&asked.bucket, &asked.key], |row| {
            let sum: (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            Ok(Object {
                data: row.get(0)?,
                etag: row.get(1)?,
                headers: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
                checksum: sum.0.zip(sum.1),
                modified_at: row.get(5)?,
            })
        })
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_within_the_object_or_refused_or_ignored() {
        let table = [
            ("bytes=0-9", 100, Some(Range::Bytes(0, 9))),
            ("bytes=90-", 100, Some(Range::Bytes(90, 99))),
            ("bytes=90-1000", 100, Some(Range::Bytes(90, 99))),
            ("bytes=-10", 100, Some(Range::Bytes(90, 99))),
            ("bytes=-1000", 100, Some(Range::Bytes(0, 99))),
            ("bytes=100-", 100, Some(Range::Unsatisfiable)),
            ("bytes=0-", 0, Some(Range::Unsatisfiable)),
            ("bytes=-0", 100, Some(Range::Unsatisfiable)),
            ("bytes=9-0", 100, None),
            ("bytes=0-1,3-4", 100, None),
            ("lines=0-1", 100, None),
        ];
        for (range, length, want) in table {
            assert_eq!(parse_range(range, length), want, "{range} of {length}");
        }
    }
}
