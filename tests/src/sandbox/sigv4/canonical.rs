//! The canonical request and the string to sign.

use hyper::HeaderMap;
use hyper::header::HeaderName;
use hyper::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, AuthParams, QueryString, mismatch};
use crate::hex;
use crate::sandbox::error::ApiError;

/// All characters but letters, digits and `-._~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

impl AuthParams {
    /// The string to sign. The payload is the SHA-256 of the body in hexadecimal digits, or a
    /// constant instead. Refused if a signed header is missing, or if a header is not signed that
    /// must be.
    pub(in crate::sandbox) fn string_to_sign(
        &self,
        parts: &Parts,
        payload: &str,
    ) -> Result<String, ApiError> {
        let request = self.canonical_request(parts, payload)?;
        let hash = hex::encode(&Sha256::digest(request));

        Ok(format!(
            "{ALGORITHM}\n{}\n{}\n{hash}",
            self.signed_at,
            self.scope.text()
        ))
    }

    fn canonical_request(&self, parts: &Parts, payload: &str) -> Result<String, ApiError> {
        self.check_signed_headers(&parts.headers)?;

        let verb = &parts.method;
        let path = canonical_path(parts.uri.path(), &self.scope.service);
        let query = QueryString::parse(parts.uri.query().unwrap_or("")).canonical();
        let headers = self.canonical_headers(&parts.headers)?;
        let names = self.signed_headers.join(";");

        Ok(format!(
            "{verb}\n{path}\n{query}\n{headers}\n{names}\n{payload}"
        ))
    }

    /// `host` and all `x-amz-` headers must be signed.
    fn check_signed_headers(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let required = headers
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| name.starts_with("x-amz-"))
            .chain(["host"]);

        for name in required {
            if !self.signed_headers.iter().any(|signed| signed == name) {
                let message = format!("the header {name} is not signed");
                return Err(ApiError::new(403, "AccessDenied", message));
            }
        }
        Ok(())
    }

    fn canonical_headers(&self, headers: &HeaderMap) -> Result<String, ApiError> {
        let mut names: Vec<&str> = self.signed_headers.iter().map(String::as_str).collect();
        names.sort_unstable();

        let mut lines = String::new();
        for name in names {
            let value = canonical_value(headers, name)
                .ok_or_else(|| mismatch(&format!("the signed header {name} is missing")))?;
            lines += &format!("{name}:{value}\n");
        }
        Ok(lines)
    }
}

/// S3 takes a path as it is. Other services normalize it and encode it a second time.
fn canonical_path(path: &str, service: &str) -> String {
    if service == "s3" {
        let decoded: Vec<u8> = percent_decode_str(path).collect();
        return percent_encoding::percent_encode(&decoded, RESERVED_IN_PATH).to_string();
    }

    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut normalized = format!("/{}", segments.join("/"));
    if path.ends_with('/') && !segments.is_empty() {
        normalized.push('/');
    }
    utf8_percent_encode(&normalized, RESERVED_IN_PATH).to_string()
}

/// All values of a header, trimmed, with single spaces inside. `None` without a value.
fn canonical_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| single_spaced(&String::from_utf8_lossy(value.as_bytes())))
        .collect();

    (!values.is_empty()).then(|| values.join(","))
}

fn single_spaced(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Encodes all bytes but letters, digits and `-._~`.
pub(in crate::sandbox) fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
