//! What a request asks for: its operation, and the bucket and the key that it names. Whatever is not known is refused, so
//! that no client believes it was obeyed.

use hyper::header::HeaderName;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::sandbox::crn::Crns;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::Query;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    ListObjectsV2,
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    GetCallerIdentity,
}

impl Operation {
    /// As the log of requests has it, and behind the service the audit log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ListBuckets => "listBuckets",
            Self::CreateBucket => "createBucket",
            Self::HeadBucket => "headBucket",
            Self::DeleteBucket => "deleteBucket",
            Self::ListObjectsV2 => "listObjectsV2",
            Self::PutObject => "putObject",
            Self::GetObject => "getObject",
            Self::HeadObject => "headObject",
            Self::DeleteObject => "deleteObject",
            Self::GetCallerIdentity => "getCallerIdentity",
        }
    }

    pub(super) fn service(self) -> &'static str {
        if self == Self::GetCallerIdentity {
            "sts"
        } else {
            "s3"
        }
    }

    /// What a policy has to allow; nothing where whoever signs may ask.
    pub(super) fn action(self) -> Option<&'static str> {
        Some(match self {
            Self::ListBuckets => "s3:ListAllMyBuckets",
            Self::CreateBucket => "s3:CreateBucket",
            Self::HeadBucket | Self::ListObjectsV2 => "s3:ListBucket",
            Self::DeleteBucket => "s3:DeleteBucket",
            Self::PutObject => "s3:PutObject",
            Self::GetObject | Self::HeadObject => "s3:GetObject",
            Self::DeleteObject => "s3:DeleteObject",
            Self::GetCallerIdentity => return None,
        })
    }

    /// The parameters that a query may have, besides those of a presigned URL.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::ListObjectsV2 => &[
                "list-type",
                "prefix",
                "delimiter",
                "max-keys",
                "continuation-token",
                "start-after",
                "encoding-type",
                "fetch-owner",
            ],
            Self::GetCallerIdentity => &["Action", "Version"],
            _ => &[],
        }
    }
}

/// An operation and what it is to be done to.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) operation: Operation,
    /// Empty where none is named; so is the key.
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) query: Query,
}

/// Headers that change what a request means in ways that are not known here.
const UNKNOWN_HEADERS: [&str; 9] = [
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

impl Asked {
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Result<Self, ApiError> {
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let (bucket, key) = names(parts.uri.path())?;
        if is_sts(parts) {
            check_action(&query, body)?;
            let known = Self {
                operation: Operation::GetCallerIdentity,
                bucket,
                key,
                query,
            };
            return known.checked();
        }
        let listed = query.only("list-type")? == Some("2");
        let operation = match (parts.method.as_str(), bucket.as_str(), key.as_str()) {
            ("GET", "", "") => Operation::ListBuckets,
            (verb, "", "") => return Err(unknown(&format!("{verb} without a bucket"))),
            ("PUT", _, "") => Operation::CreateBucket,
            ("HEAD", _, "") => Operation::HeadBucket,
            ("DELETE", _, "") => Operation::DeleteBucket,
            ("GET", _, "") if listed => Operation::ListObjectsV2,
            ("PUT", ..) => Operation::PutObject,
            ("GET", _, key) if !key.is_empty() => Operation::GetObject,
            ("HEAD", ..) => Operation::HeadObject,
            ("DELETE", ..) => Operation::DeleteObject,
            (verb, ..) => return Err(unknown(&format!("{verb} of this path and query"))),
        };
        let unknown_header = parts.headers.keys().map(HeaderName::as_str).find(|name| {
            UNKNOWN_HEADERS.iter().any(|known| name.starts_with(known))
                || (*name == "if-match"
                    && !matches!(operation, Operation::GetObject | Operation::HeadObject))
        });
        if let Some(name) = unknown_header {
            return Err(unknown(&format!("the header {name}")));
        }
        Self {
            operation,
            bucket,
            key,
            query,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, ApiError> {
        let known = self.operation.parameters();
        let other = self
            .query
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| {
                // JavaScript's client says with `x-id` what it does.
                !known.contains(name) && !name.starts_with("X-Amz-") && *name != "x-id"
            });
        if let Some(name) = other {
            return Err(unknown(&format!(
                "the parameter {name} of {}",
                self.operation.name()
            )));
        }
        if !self.bucket.is_empty() {
            check_bucket(&self.bucket)?;
        }
        if self.key.len() > 1024 {
            return Err(ApiError::new(
                400,
                "KeyTooLongError",
                "the key is longer than 1024 bytes",
            ));
        }
        Ok(self)
    }

    pub(super) fn crns(&self, org: &str) -> Crns {
        match (self.bucket.as_str(), self.key.as_str()) {
            ("", _) => Crns::new("s3", org, "bucket", ["*"]),
            (bucket, "") => Crns::new("s3", org, "bucket", [bucket]),
            (bucket, key) => Crns::new("s3", org, "object", [format!("{bucket}/{key}").as_str()]),
        }
    }

    /// What it is done to, as the audit log has it: a type and a name.
    pub(super) fn resource(&self) -> (&'static str, Option<String>) {
        match (self.operation, self.bucket.as_str(), self.key.as_str()) {
            (Operation::GetCallerIdentity, ..) => ("session", None),
            (_, "", _) => ("bucket", None),
            (_, bucket, "") => ("bucket", Some(bucket.into())),
            (_, bucket, key) => ("object", Some(format!("{bucket}/{key}"))),
        }
    }
}

/// STS is asked by a form, or by a query, which can be presigned. Objects are never put to the root.
pub(super) fn is_sts(parts: &Parts) -> bool {
    let in_query = || {
        Query::parse(parts.uri.query().unwrap_or(""))
            .0
            .iter()
            .any(|(name, _)| name == "Action")
    };
    parts.uri.path() == "/" && (parts.method == "POST" || (parts.method == "GET" && in_query()))
}

fn check_action(query: &Query, body: &[u8]) -> Result<(), ApiError> {
    let form = Query(form_urlencoded::parse(body).into_owned().collect());
    match (query.only("Action")?, form.only("Action")?) {
        (Some("GetCallerIdentity"), None) | (None, Some("GetCallerIdentity")) => Ok(()),
        _ => Err(ApiError::new(
            400,
            "InvalidAction",
            "the sandbox knows the action GetCallerIdentity only",
        )),
    }
}

/// The bucket is what stands before the second slash; whatever follows is the key, further slashes included.
fn names(path: &str) -> Result<(String, String), ApiError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let decode = |text| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(String::from)
            .map_err(|_| ApiError::new(400, "InvalidURI", "the path is not UTF-8 when decoded"))
    };
    let (bucket, key) = (decode(bucket)?, decode(key)?);
    if bucket.is_empty() && !key.is_empty() {
        return Err(ApiError::new(
            400,
            "InvalidBucketName",
            "the path has a key and no bucket",
        ));
    }
    Ok((bucket, key))
}

fn check_bucket(name: &str) -> Result<(), ApiError> {
    let edge = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = name.as_bytes();
    let inside = |byte: &u8| edge(Some(byte)) || *byte == b'-' || *byte == b'.';
    let good = (3..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(inside);
    if good {
        return Ok(());
    }
    let message = "a bucket's name is 3 to 63 lower-case letters, digits, dots and hyphens";
    Err(ApiError::new(400, "InvalidBucketName", message))
}

fn unknown(what: &str) -> ApiError {
    ApiError::new(
        501,
        "NotImplemented",
        format!("the sandbox does not know {what}"),
    )
}
