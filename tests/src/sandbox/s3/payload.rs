//! The body of a request: what stands for it in the signature, and whether it is what was signed. It must hand out no
//! byte that has not been compared with what the request says of it.

use hyper::body::Bytes;
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};

use super::checksum::{self, Checksum};
use super::chunks;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{Claim, Query, SigningKey, hex, only};

/// A body that has been checked.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) data: Bytes,
    pub(super) checksum: Option<Checksum>,
}

const HEADER: &str = "x-amz-content-sha256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What stands for the body in the text that is signed.
pub(super) fn declared(parts: &Parts, claim: &Claim, body: &[u8]) -> Result<String, ApiError> {
    if claim.scope.service != "s3" {
        return Ok(hex(&Sha256::digest(body)));
    }
    if let Some(value) = only(&parts.headers, HEADER)? {
        return Ok(value.into());
    }
    if claim.expires.is_some() {
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        return Ok(query
            .only("X-Amz-Content-Sha256")?
            .unwrap_or(UNSIGNED)
            .into());
    }
    Err(ApiError::new(
        400,
        "InvalidRequest",
        format!("the header {HEADER} is missing"),
    ))
}

/// The body, compared with what was declared of it. The signature of the request has been found good by now.
pub(super) fn open(
    parts: &Parts,
    claim: &Claim,
    key: &SigningKey,
    declared: &str,
    body: &Bytes,
) -> Result<Payload, ApiError> {
    let chunked = |chain, has_trailer| {
        let chunks::Unwrapped { data, trailer } = chunks::unwrap(body, chain, has_trailer)?;
        check_length(parts, data.len())?;
        let checksum = check_sums(parts, &trailer, &data)?;
        Ok(Payload {
            data: data.into(),
            checksum,
        })
    };
    match declared {
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => return chunked(None, true),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => return chunked(Some(claim.chain(key)), false),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
            return chunked(Some(claim.chain(key)), true);
        }
        UNSIGNED => {}
        hash if hash.len() == 64
            && hash
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) =>
        {
            if hash != hex(&Sha256::digest(body)) {
                let message = format!("the body does not have the hash that {HEADER} gives");
                return Err(ApiError::new(400, "XAmzContentSHA256Mismatch", message));
            }
        }
        _ => {
            return Err(ApiError::new(
                400,
                "InvalidArgument",
                format!("{HEADER} has a value that is not known"),
            ));
        }
    }
    Ok(Payload {
        data: body.clone(),
        checksum: check_sums(parts, &[], body)?,
    })
}

fn check_length(parts: &Parts, length: usize) -> Result<(), ApiError> {
    const NAME: &str = "x-amz-decoded-content-length";
    let said = only(&parts.headers, NAME)?.ok_or_else(|| {
        ApiError::new(
            411,
            "MissingContentLength",
            format!("the header {NAME} is missing"),
        )
    })?;
    if said.parse() == Ok(length) {
        return Ok(());
    }
    Err(ApiError::new(
        400,
        "IncompleteBody",
        format!("the chunks hold {length} bytes, and {NAME} says otherwise"),
    ))
}

/// Every checksum of the headers and of the trailer; one is kept. A trailer has what `x-amz-trailer` announces.
fn check_sums(
    parts: &Parts,
    trailer: &[(String, String)],
    data: &[u8],
) -> Result<Option<Checksum>, ApiError> {
    let announced = only(&parts.headers, "x-amz-trailer")?
        .unwrap_or("")
        .to_ascii_lowercase();
    let mut announced: Vec<&str> = announced
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let mut there: Vec<&str> = trailer.iter().map(|(name, _)| name.as_str()).collect();
    announced.sort_unstable();
    there.sort_unstable();
    if announced != there {
        let message = "the trailer of the body does not have what x-amz-trailer announces";
        return Err(ApiError::new(400, "MalformedTrailerError", message));
    }
    if parts.headers.contains_key("content-md5") {
        let message = "the sandbox does not know Content-MD5; send x-amz-checksum-crc32 instead";
        return Err(ApiError::new(501, "NotImplemented", message));
    }
    let mut kept = None;
    for name in parts
        .headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| is_sum(name))
    {
        kept = only(&parts.headers, name)?
            .map(|value| checksum::check(name, value, data))
            .transpose()?;
    }
    for (name, value) in trailer.iter().filter(|(name, _)| is_sum(name)) {
        kept = Some(checksum::check(name, value, data)?);
    }
    Ok(kept)
}

/// The two others say how, and not what.
fn is_sum(header: &str) -> bool {
    header.starts_with(checksum::PREFIX)
        && header != "x-amz-checksum-mode"
        && header != "x-amz-checksum-type"
}
