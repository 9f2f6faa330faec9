//! `ListObjectsV2`: the keys of a bucket in byte order, in pages. A delimiter groups keys into
//! common prefixes.

use rusqlite::{Connection, params};

use super::Reply;
use super::buckets::{NAMESPACE, must_exist};
use super::request::S3Request;
use crate::hex;
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::percent_encode;
use crate::sandbox::xml::{Xml, document};

/// Keys and common prefixes of a page.
const MAX_KEYS: usize = 1000;

/// The parameters of a request.
struct ListParams<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    max_keys: usize,
    start_after: Option<&'a str>,
    continuation_token: Option<&'a str>,
    /// The key before the first one of the page.
    after: String,
    /// Whether keys are percent-encoded in the reply.
    is_url_encoded: bool,
}

struct Object {
    key: String,
    etag: String,
    size: i64,
    modified_at: Millis,
}

#[derive(Default)]
struct Page {
    objects: Vec<Object>,
    common_prefixes: Vec<String>,
    /// The last key of this page, if another page follows.
    last_key: Option<String>,
}

impl Page {
    fn count(&self) -> usize {
        self.objects.len() + self.common_prefixes.len()
    }
}

pub(super) fn objects(tx: &Connection, request: &S3Request) -> Result<Reply, ApiError> {
    must_exist(tx, &request.bucket)?;

    let params = ListParams::parse(request)?;
    let page = load_page(tx, &params)?;

    let body = document("ListBucketResult", Some(NAMESPACE), |xml| {
        show(xml, &params, &page);
    });
    Ok(Reply::xml(body))
}

impl<'a> ListParams<'a> {
    fn parse(request: &'a S3Request) -> Result<Self, ApiError> {
        let max_keys = match param(request, "max-keys")? {
            Some(number) => number
                .parse::<usize>()
                .map_err(|_| invalid("max-keys is not a number"))?
                .min(MAX_KEYS),
            None => MAX_KEYS,
        };
        let is_url_encoded = match param(request, "encoding-type")? {
            None => false,
            Some("url") => true,
            Some(_) => return Err(invalid("encoding-type must be url")),
        };

        let start_after = param(request, "start-after")?;
        let continuation_token = param(request, "continuation-token")?;
        let after = match continuation_token {
            Some(token) => hex::decode(token)
                .and_then(|key| String::from_utf8(key).ok())
                .ok_or_else(|| invalid("unknown continuation-token"))?,
            None => start_after.unwrap_or("").to_owned(),
        };

        Ok(Self {
            bucket: &request.bucket,
            prefix: param(request, "prefix")?.unwrap_or(""),
            delimiter: param(request, "delimiter")?,
            max_keys,
            start_after,
            continuation_token,
            after,
            is_url_encoded,
        })
    }

    fn encode(&self, text: &str) -> String {
        if self.is_url_encoded {
            percent_encode(text)
        } else {
            text.to_owned()
        }
    }
}

/// An empty parameter is treated as absent.
fn param<'a>(request: &'a S3Request, name: &str) -> Result<Option<&'a str>, ApiError> {
    let value = request.query.single(name)?;
    Ok(value.filter(|value| !value.is_empty()))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(400, "InvalidArgument", message)
}

fn show(xml: &mut Xml, params: &ListParams<'_>, page: &Page) {
    xml.text("Name", params.bucket);
    xml.text("Prefix", &params.encode(params.prefix));
    xml.text("MaxKeys", &params.max_keys.to_string());
    xml.text("KeyCount", &page.count().to_string());
    xml.text("IsTruncated", &page.last_key.is_some().to_string());

    if let Some(delimiter) = params.delimiter {
        xml.text("Delimiter", &params.encode(delimiter));
    }
    if params.is_url_encoded {
        xml.text("EncodingType", "url");
    }
    if let Some(token) = params.continuation_token {
        xml.text("ContinuationToken", token);
    }
    if let Some(key) = &page.last_key {
        xml.text("NextContinuationToken", &hex::encode(key.as_bytes()));
    }
    if let Some(key) = params.start_after {
        xml.text("StartAfter", &params.encode(key));
    }

    for object in &page.objects {
        xml.element("Contents", |xml| {
            xml.text("Key", &params.encode(&object.key));
            xml.text("LastModified", &to_rfc3339(object.modified_at));
            xml.text("ETag", &object.etag);
            xml.text("Size", &object.size.to_string());
            xml.text("StorageClass", "STANDARD");
        });
    }
    for prefix in &page.common_prefixes {
        xml.element("CommonPrefixes", |xml| {
            xml.text("Prefix", &params.encode(prefix));
        });
    }
}

fn load_page(tx: &Connection, params: &ListParams<'_>) -> rusqlite::Result<Page> {
    let mut page = Page::default();
    if params.max_keys == 0 {
        return Ok(page);
    }

    let sql = "SELECT key, etag, length(data), modified_at FROM objects
               WHERE bucket = ? AND key > ? ORDER BY key";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![params.bucket, params.after])?;
    let mut last_key: Option<String> = None;

    while let Some(row) = rows.next()? {
        let object = Object {
            key: row.get(0)?,
            etag: row.get(1)?,
            size: row.get(2)?,
            modified_at: row.get(3)?,
        };
        if !object.key.starts_with(params.prefix) {
            continue;
        }

        let common_prefix = common_prefix(&object.key, params);
        if common_prefix.is_some() && page.common_prefixes.last() == common_prefix.as_ref() {
            last_key = Some(object.key);
            continue;
        }
        if page.count() == params.max_keys {
            page.last_key = last_key;
            break;
        }

        last_key = Some(object.key.clone());
        match common_prefix {
            Some(prefix) => page.common_prefixes.push(prefix),
            None => page.objects.push(object),
        }
    }
    Ok(page)
}

/// The key up to the first delimiter behind the prefix.
fn common_prefix(key: &str, params: &ListParams<'_>) -> Option<String> {
    let delimiter = params.delimiter?;
    let rest = key.strip_prefix(params.prefix)?;
    let (group, _) = rest.split_once(delimiter)?;

    Some(format!("{}{group}{delimiter}", params.prefix))
}
