//! Parsing of requests: the operation, the bucket and the key. What is not supported is refused, so
//! that no client believes it had an effect.

use hyper::header::HeaderName;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::operation::Operation;
use crate::sandbox::crn::Crns;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::QueryString;

/// Bytes of a key.
const MAX_KEY: usize = 1024;

/// Prefixes of headers that would change the meaning of a request.
const UNSUPPORTED_HEADERS: [&str; 9] = [
    "x-amz-copy-source",
    "x-amz-server-side-encryption",
    "x-amz-object-lock",
    "x-amz-tagging",
    "x-amz-website",
    "x-amz-write-offset",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];

#[derive(Debug)]
pub(super) struct S3Request {
    pub(super) operation: Operation,
    /// Empty if the path names no bucket.
    pub(super) bucket: String,
    /// Empty if the path names no key.
    pub(super) key: String,
    pub(super) query: QueryString,
}

impl S3Request {
    pub(super) fn parse(parts: &Parts, body: &[u8]) -> Result<Self, ApiError> {
        let query = QueryString::parse(parts.uri.query().unwrap_or(""));
        let (bucket, key) = bucket_and_key(parts.uri.path())?;

        let operation = if is_sts(parts) {
            check_sts_action(&query, body)?;
            Operation::GetCallerIdentity
        } else {
            let operation = s3_operation(parts, &bucket, &key, &query)?;
            check_headers(parts, operation)?;
            operation
        };

        check_parameters(&query, operation)?;
        if !bucket.is_empty() {
            check_bucket_name(&bucket)?;
        }
        if key.len() > MAX_KEY {
            let message = format!("the key is longer than {MAX_KEY} bytes");
            return Err(ApiError::new(400, "KeyTooLongError", message));
        }
        Ok(Self {
            operation,
            bucket,
            key,
            query,
        })
    }

    pub(super) fn crns(&self, org: &str) -> Crns {
        let name = self.resource_id();
        let name = name.as_deref().unwrap_or("*");

        Crns::new(
            "s3",
            org,
            if self.key.is_empty() {
                "bucket"
            } else {
                "object"
            },
            &[name],
        )
    }

    /// For the audit log.
    pub(super) fn resource_type(&self) -> &'static str {
        if self.operation == Operation::GetCallerIdentity {
            "session"
        } else if self.key.is_empty() {
            "bucket"
        } else {
            "object"
        }
    }

    /// `bucket` or `bucket/key`.
    pub(super) fn resource_id(&self) -> Option<String> {
        match (self.bucket.as_str(), self.key.as_str()) {
            ("", _) => None,
            (bucket, "") => Some(bucket.into()),
            (bucket, key) => Some(format!("{bucket}/{key}")),
        }
    }
}

/// Whether the request is for STS: a form, or a query, which can be presigned. S3 has no such
/// requests of the root.
pub(super) fn is_sts(parts: &Parts) -> bool {
    if parts.uri.path() != "/" {
        return false;
    }

    let query = QueryString::parse(parts.uri.query().unwrap_or(""));
    let has_action = query.names().any(|name| name == "Action");
    parts.method == "POST" || (parts.method == "GET" && has_action)
}

fn check_sts_action(query: &QueryString, body: &[u8]) -> Result<(), ApiError> {
    let form = QueryString::from_form(body);

    match (query.single("Action")?, form.single("Action")?) {
        (Some("GetCallerIdentity"), None) | (None, Some("GetCallerIdentity")) => Ok(()),
        _ => {
            let message = "the sandbox supports only the action GetCallerIdentity";
            Err(ApiError::new(400, "InvalidAction", message))
        }
    }
}

fn s3_operation(
    parts: &Parts,
    bucket: &str,
    key: &str,
    query: &QueryString,
) -> Result<Operation, ApiError> {
    let is_list_v2 = query.single("list-type")? == Some("2");

    match (parts.method.as_str(), bucket, key) {
        ("GET", "", "") => Ok(Operation::ListBuckets),
        (verb, "", "") => Err(unsupported(&format!("{verb} without a bucket"))),
        ("PUT", _, "") => Ok(Operation::CreateBucket),
        ("HEAD", _, "") => Ok(Operation::HeadBucket),
        ("DELETE", _, "") => Ok(Operation::DeleteBucket),
        ("GET", _, "") if is_list_v2 => Ok(Operation::ListObjectsV2),
        ("GET", _, "") => Err(unsupported("GET of a bucket without list-type=2")),
        ("PUT", ..) => Ok(Operation::PutObject),
        ("GET", ..) => Ok(Operation::GetObject),
        ("HEAD", ..) => Ok(Operation::HeadObject),
        ("DELETE", ..) => Ok(Operation::DeleteObject),
        (verb, ..) => Err(unsupported(&format!("{verb} of an object"))),
    }
}

fn check_headers(parts: &Parts, operation: Operation) -> Result<(), ApiError> {
    let reads_object = matches!(operation, Operation::GetObject | Operation::HeadObject);

    for name in parts.headers.keys().map(HeaderName::as_str) {
        let is_unsupported = UNSUPPORTED_HEADERS
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if is_unsupported || (name == "if-match" && !reads_object) {
            return Err(unsupported(&format!("the header {name}")));
        }
    }
    Ok(())
}

fn check_parameters(query: &QueryString, operation: Operation) -> Result<(), ApiError> {
    for name in query.names() {
        // The JavaScript SDK names the operation in `x-id`.
        let is_known =
            operation.parameters().contains(&name) || name.starts_with("X-Amz-") || name == "x-id";
        if !is_known {
            let operation = operation.name();
            return Err(unsupported(&format!("the parameter {name} of {operation}")));
        }
    }
    Ok(())
}

/// The bucket is the first segment of the path, the key is the rest with all its slashes.
fn bucket_and_key(path: &str) -> Result<(String, String), ApiError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let bucket = decode(bucket)?;
    let key = decode(key)?;

    if bucket.is_empty() && !key.is_empty() {
        let message = "the path has a key without a bucket";
        return Err(ApiError::new(400, "InvalidBucketName", message));
    }
    Ok((bucket, key))
}

fn decode(text: &str) -> Result<String, ApiError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| ApiError::new(400, "InvalidURI", "the decoded path is not UTF-8"))
}

fn check_bucket_name(name: &str) -> Result<(), ApiError> {
    let is_valid = (3..=63).contains(&name.len())
        && name.starts_with(is_letter_or_digit)
        && name.ends_with(is_letter_or_digit)
        && name
            .chars()
            .all(|character| is_letter_or_digit(character) || "-.".contains(character));
    if is_valid {
        return Ok(());
    }

    let message = "a bucket name must be 3 to 63 lower-case letters, digits, dots and hyphens, and start and end with a letter or digit";
    Err(ApiError::new(400, "InvalidBucketName", message))
}

fn is_letter_or_digit(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit()
}

fn unsupported(what: &str) -> ApiError {
    let message = format!("the sandbox does not support {what}");
    ApiError::new(501, "NotImplemented", message)
}
