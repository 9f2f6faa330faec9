//! ListObjectsV2: a bucket's keys in the order of their bytes, a page at a time, rolled up at a delimiter.

use rusqlite::{Connection, params};

use super::Reply;
use super::buckets::{NAMESPACE, must_exist};
use super::operation::Asked;
use super::xml::{Xml, document};
use crate::sandbox::clock::{Millis, text};
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{encode, hex, unhex};

/// The largest page, in keys and rolled-up prefixes.
const MOST: usize = 1000;

struct Found {
    key: String,
    etag: String,
    size: i64,
    modified_at: Millis,
}

#[derive(Default)]
struct Page {
    objects: Vec<Found>,
    prefixes: Vec<String>,
    /// The last key that this page covers, if there are more.
    last: Option<String>,
}

pub(super) fn objects(tx: &Connection, asked: &Asked) -> Result<Reply, ApiError> {
    must_exist(tx, &asked.bucket)?;
    let invalid = |message: &str| ApiError::new(400, "InvalidArgument", message);
    let given = |name: &str| {
        asked
            .query
            .only(name)
            .map(|value| value.filter(|value| !value.is_empty()))
    };
    let most = match given("max-keys")? {
        Some(number) => number
            .parse::<usize>()
            .map_err(|_| invalid("max-keys is no number from 0"))?
            .min(MOST),
        None => MOST,
    };
    let token = given("continuation-token")?;
    let after = match token {
        Some(token) => (unhex(token).and_then(|key| String::from_utf8(key).ok()))
            .ok_or_else(|| invalid("the continuation-token is not from here"))?,
        None => given("start-after")?.unwrap_or("").to_owned(),
    };
    let is_url = match given("encoding-type")? {
        None => false,
        Some("url") => true,
        Some(_) => return Err(invalid("encoding-type is not url")),
    };
    let (prefix, delimiter) = (given("prefix")?.unwrap_or(""), given("delimiter")?);
    let page = page(tx, &asked.bucket, prefix, delimiter, &after, most)?;
    let encoded = |text: &str| {
        if is_url {
            encode(text)
        } else {
            text.to_owned()
        }
    };
    Ok(Reply::xml(document(
        "ListBucketResult",
        Some(NAMESPACE),
        |xml| {
            xml.text("Name", &asked.bucket);
            xml.text("Prefix", &encoded(prefix));
            xml.text("MaxKeys", &most.to_string());
            xml.text(
                "KeyCount",
                &(page.objects.len() + page.prefixes.len()).to_string(),
            );
            xml.text(
                "IsTruncated",
                if page.last.is_some() { "true" } else { "false" },
            );
            let next = page.last.as_ref().map(|last| hex(last.as_bytes()));
            let start = given("start-after").ok().flatten().map(&encoded);
            let optional = [
                ("Delimiter", delimiter.map(&encoded)),
                ("EncodingType", is_url.then(|| "url".into())),
                ("ContinuationToken", token.map(str::to_owned)),
                ("NextContinuationToken", next),
                ("StartAfter", start),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    xml.text(name, &value);
                }
            }
            page.objects
                .iter()
                .for_each(|found| show(xml, found, &encoded(&found.key)));
            for prefix in &page.prefixes {
                xml.element("CommonPrefixes", |xml| xml.text("Prefix", &encoded(prefix)));
            }
        },
    )))
}

fn show(xml: &mut Xml, found: &Found, key: &str) {
    xml.element("Contents", |xml| {
        xml.text("Key", key);
        xml.text("LastModified", &text(found.modified_at));
        xml.text("ETag", &found.etag);
        xml.text("Size", &found.size.to_string());
        xml.text("StorageClass", "STANDARD");
    });
}

fn page(
    tx: &Connection,
    bucket: &str,
    prefix: &str,
    delimiter: Option<&str>,
    after: &str,
    most: usize,
) -> Result<Page, ApiError> {
    let sql = "SELECT key, etag, length(data), modified_at FROM objects WHERE bucket = ? AND key > ? ORDER BY key";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![bucket, after])?;
    let mut page = Page::default();
    let mut last: Option<String> = None;
    // No page of no keys has a next one.
    while let Some(row) = if most > 0 { rows.next()? } else { None } {
        let found = Found {
            key: row.get(0)?,
            etag: row.get(1)?,
            size: row.get(2)?,
            modified_at: row.get(3)?,
        };
        let Some(rest) = found.key.strip_prefix(prefix) else {
            continue;
        };
        let common =
            delimiter.and_then(|text| rest.find(text).map(|at| prefix.len() + at + text.len()));
        let common = common
            .and_then(|end| found.key.get(..end))
            .map(str::to_owned);
        if common.is_some() && page.prefixes.last() == common.as_ref() {
            last = Some(found.key);
            continue;
        }
        if page.objects.len() + page.prefixes.len() == most {
            page.last = last;
            break;
        }
        last = Some(found.key.clone());
        match common {
            Some(common) => page.prefixes.push(common),
            None => page.objects.push(found),
        }
    }
    Ok(page)
}
