//! The body of a request: the hash that the signature covers, and the comparison with it. Only
//! verified data leaves this module.

use hyper::body::Bytes;
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};

use super::aws_chunked::{self, DecodedBody};
use super::checksum::{self, Checksum};
use crate::hex;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{AuthParams, QueryString, SignatureChain, SigningKey, single_header};

/// A verified body.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) data: Bytes,
    pub(super) checksum: Option<Checksum>,
}

const HASH_HEADER: &str = "x-amz-content-sha256";
const LENGTH_HEADER: &str = "x-amz-decoded-content-length";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The payload in the string to sign: a hash, or a constant instead.
pub(super) fn signed_hash(
    parts: &Parts,
    auth: &AuthParams,
    body: &[u8],
) -> Result<String, ApiError> {
    if auth.scope.service != "s3" {
        return Ok(hex::encode(&Sha256::digest(body)));
    }
    if let Some(value) = single_header(&parts.headers, HASH_HEADER)? {
        return Ok(value.into());
    }
    if auth.expires.is_some() {
        let query = QueryString::parse(parts.uri.query().unwrap_or(""));
        let value = query.single("X-Amz-Content-Sha256")?;
        return Ok(value.unwrap_or(UNSIGNED).into());
    }

    let message = format!("the header {HASH_HEADER} is missing");
    Err(ApiError::new(400, "InvalidRequest", message))
}

/// Verifies the body against the signed hash. The signature of the request must be verified before.
pub(super) fn open(
    parts: &Parts,
    auth: &AuthParams,
    key: &SigningKey,
    signed_hash: &str,
    body: &Bytes,
) -> Result<Payload, ApiError> {
    match signed_hash {
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => return open_chunked(parts, body, None, true),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => {
            return open_chunked(parts, body, Some(auth.chain(key)), false);
        }
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            return open_chunked(parts, body, Some(auth.chain(key)), true);
        }
        UNSIGNED => {}
        hash if hash.len() == 64 && hex::decode(hash).is_some() => {
            if hash != hex::encode(&Sha256::digest(body)) {
                let message = format!("the body does not have the hash in {HASH_HEADER}");
                return Err(ApiError::new(400, "XAmzContentSHA256Mismatch", message));
            }
        }
        _ => {
            let message = format!("{HASH_HEADER} has an unknown value");
            return Err(ApiError::new(400, "InvalidArgument", message));
        }
    }

    Ok(Payload {
        data: body.clone(),
        checksum: verify_checksums(parts, &[], body)?,
    })
}

fn open_chunked(
    parts: &Parts,
    body: &[u8],
    chain: Option<SignatureChain<'_>>,
    has_trailer: bool,
) -> Result<Payload, ApiError> {
    let DecodedBody { data, trailer } = aws_chunked::decode(body, chain, has_trailer)?;
    check_length(parts, data.len())?;
    let checksum = verify_checksums(parts, &trailer, &data)?;

    Ok(Payload {
        data: data.into(),
        checksum,
    })
}

fn check_length(parts: &Parts, length: usize) -> Result<(), ApiError> {
    let Some(announced) = single_header(&parts.headers, LENGTH_HEADER)? else {
        let message = format!("the header {LENGTH_HEADER} is missing");
        return Err(ApiError::new(411, "MissingContentLength", message));
    };
    if announced.parse() == Ok(length) {
        return Ok(());
    }

    let message = format!("the chunks have {length} bytes, {LENGTH_HEADER} has {announced}");
    Err(ApiError::new(400, "IncompleteBody", message))
}

/// Verifies all checksums in the headers and in the trailer, and returns one of them.
fn verify_checksums(
    parts: &Parts,
    trailer: &[(String, String)],
    data: &[u8],
) -> Result<Option<Checksum>, ApiError> {
    check_announced_trailer(parts, trailer)?;
    if parts.headers.contains_key("content-md5") {
        let message = "the sandbox does not support Content-MD5; use x-amz-checksum-crc32";
        return Err(ApiError::new(501, "NotImplemented", message));
    }

    let mut verified = None;
    for name in parts.headers.keys().map(HeaderName::as_str) {
        if is_checksum(name) {
            let value = single_header(&parts.headers, name)?.unwrap_or("");
            verified = Some(checksum::verify(name, value, data)?);
        }
    }
    for (name, value) in trailer {
        if is_checksum(name) {
            verified = Some(checksum::verify(name, value, data)?);
        }
    }
    Ok(verified)
}

/// The trailer must have exactly the headers that `x-amz-trailer` announces.
fn check_announced_trailer(parts: &Parts, trailer: &[(String, String)]) -> Result<(), ApiError> {
    let announced = single_header(&parts.headers, "x-amz-trailer")?
        .unwrap_or("")
        .to_ascii_lowercase();
    let mut announced: Vec<&str> = announced
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let mut present: Vec<&str> = trailer.iter().map(|(name, _)| name.as_str()).collect();
    announced.sort_unstable();
    present.sort_unstable();

    if announced != present {
        let message = "the trailer does not have the headers that x-amz-trailer announces";
        return Err(ApiError::new(400, "MalformedTrailerError", message));
    }
    Ok(())
}

/// The mode and the type are options, not checksums.
fn is_checksum(header: &str) -> bool {
    header.starts_with(checksum::PREFIX)
        && header != "x-amz-checksum-mode"
        && header != "x-amz-checksum-type"
}
