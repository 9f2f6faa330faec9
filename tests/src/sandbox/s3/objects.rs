//! Objects: put, get and delete. An ETag is not an MD5 here, and has the form of a multipart
//! upload's.

use hyper::header::HeaderName;
use hyper::http::request::Parts;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::Reply;
use super::buckets::must_exist;
use super::checksum::Checksum;
use super::http::http_date;
use super::payload::Payload;
use super::request::S3Request;
use crate::hex;
use crate::sandbox::clock::Millis;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::single_header;

/// Headers that are stored with an object and returned with it, besides `x-amz-meta-*`.
const STORED_HEADERS: [&str; 6] = [
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
    checksum: Option<Checksum>,
    modified_at: Millis,
}

pub(super) fn put(
    tx: &Connection,
    request: &S3Request,
    parts: &Parts,
    payload: &Payload,
    now: Millis,
) -> Result<Reply, ApiError> {
    must_exist(tx, &request.bucket)?;

    let headers = serde_json::to_string(&stored_headers(parts)?).unwrap_or_default();
    let hash = hex::encode(&Sha256::digest(&payload.data)[..16]);
    let etag = format!("\"{hash}-1\"");
    let checksum = payload.checksum.as_ref();
    tx.prepare_cached(
        "INSERT OR REPLACE INTO objects (bucket, key, data, etag, headers, checksum_header,
         checksum, modified_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        request.bucket,
        request.key,
        &payload.data[..],
        etag,
        headers,
        checksum.map(|checksum| &checksum.header),
        checksum.map(|checksum| &checksum.value),
        now
    ])?;

    let reply = Reply::empty(200).with("ETag", etag);
    Ok(match checksum {
        Some(checksum) => reply.with_checksum(&checksum.header, &checksum.value),
        None => reply,
    })
}

fn stored_headers(parts: &Parts) -> Result<Vec<(String, String)>, ApiError> {
    let mut stored = Vec::new();

    for name in parts.headers.keys().map(HeaderName::as_str) {
        if !STORED_HEADERS.contains(&name) && !name.starts_with("x-amz-meta-") {
            continue;
        }
        let mut value = single_header(&parts.headers, name)?
            .unwrap_or("")
            .to_owned();
        if name == "content-encoding" {
            value = without_aws_chunked(&value);
        }
        if !value.is_empty() {
            stored.push((name.to_owned(), value));
        }
    }
    Ok(stored)
}

/// The stored data is decoded.
fn without_aws_chunked(encodings: &str) -> String {
    let others: Vec<&str> = encodings
        .split(',')
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && *encoding != "aws-chunked")
        .collect();

    others.join(", ")
}

/// Also for HEAD: the HTTP server omits the body.
pub(super) fn get(tx: &Connection, request: &S3Request, parts: &Parts) -> Result<Reply, ApiError> {
    must_exist(tx, &request.bucket)?;
    let object = find(tx, request)?.ok_or_else(|| {
        let message = format!("the bucket {} has no such key", request.bucket);
        ApiError::new(404, "NoSuchKey", message)
    })?;
    check_if_match(parts, &object.etag)?;
    let range = single_header(&parts.headers, "range")?;
    let checksum_mode = single_header(&parts.headers, "x-amz-checksum-mode")?;

    let mut reply = Reply::empty(200)
        .with("ETag", object.etag)
        .with("Last-Modified", http_date(object.modified_at))
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
    match range.and_then(|range| parse_range(range, length)) {
        Some(Range::Unsatisfiable) => {
            let message = "the range starts behind the end of the object";
            return Err(ApiError::new(416, "InvalidRange", message));
        }
        Some(Range::Bytes(first, last)) => {
            let part = object.data.get(first..=last).unwrap_or_default().to_vec();
            let content_range = format!("bytes {first}-{last}/{length}");
            return Ok(reply.with("Content-Range", content_range).partial(part));
        }
        None => {}
    }

    let wants_checksum = checksum_mode.is_some_and(|mode| mode.eq_ignore_ascii_case("enabled"));
    if let Some(checksum) = object.checksum.filter(|_| wants_checksum) {
        reply = reply.with_checksum(&checksum.header, &checksum.value);
    }
    Ok(Reply {
        body: object.data,
        ..reply
    })
}

fn check_if_match(parts: &Parts, etag: &str) -> Result<(), ApiError> {
    let wanted = single_header(&parts.headers, "if-match")?;
    if wanted.is_some_and(|wanted| wanted != "*" && wanted != etag) {
        let message = "the object has another ETag than If-Match";
        return Err(ApiError::new(412, "PreconditionFailed", message));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// The first and the last byte.
    Bytes(usize, usize),
    Unsatisfiable,
}

/// One range of bytes. An invalid header or several ranges are ignored (RFC 9110, 14.2).
fn parse_range(range: &str, length: usize) -> Option<Range> {
    let (first, last) = match range.strip_prefix("bytes=")?.split_once('-')? {
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

    match length.checked_sub(1) {
        Some(end) if first <= end => Some(Range::Bytes(first, last.min(end))),
        _ => Some(Range::Unsatisfiable),
    }
}

pub(super) fn delete(tx: &Connection, request: &S3Request) -> Result<Reply, ApiError> {
    must_exist(tx, &request.bucket)?;

    tx.execute(
        "DELETE FROM objects WHERE bucket = ? AND key = ?",
        [&request.bucket, &request.key],
    )?;
    Ok(Reply::empty(204))
}

fn find(tx: &Connection, request: &S3Request) -> rusqlite::Result<Option<Object>> {
    let sql = "SELECT data, etag, headers, checksum_header, checksum, modified_at FROM objects
               WHERE bucket = ? AND key = ?";

    tx.prepare_cached(sql)?
        .query_row([&request.bucket, &request.key], |row| {
            let header: Option<String> = row.get(3)?;
            let value: Option<String> = row.get(4)?;
            let checksum = header
                .zip(value)
                .map(|(header, value)| Checksum { header, value });

            Ok(Object {
                data: row.get(0)?,
                etag: row.get(1)?,
                headers: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
                checksum,
                modified_at: row.get(5)?,
            })
        })
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_clipped_refused_or_ignored() {
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
