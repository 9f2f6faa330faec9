//! Verification of AWS Signature Version 4, after the AWS documentation ("Authenticating
//! Requests"): the parameters of a request's signature, the string to sign, and the signing key.
//! The caller finds the secret and checks the time. No error may contain a secret, a key or a
//! token.

mod auth_params;
mod canonical;
mod query_string;
mod signing_key;

pub(super) use auth_params::{AuthParams, Scope};
pub(super) use canonical::percent_encode;
pub(super) use query_string::QueryString;
pub(super) use signing_key::{SignatureChain, SigningKey};

use hyper::HeaderMap;

use super::error::ApiError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

pub(super) fn mismatch(reason: &str) -> ApiError {
    ApiError::new(403, "SignatureDoesNotMatch", reason)
}

/// The value of a header that may be present once at most.
pub(super) fn single_header<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a str>, ApiError> {
    let invalid =
        |reason: &str| ApiError::new(400, "InvalidRequest", format!("the header {name} {reason}"));
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };

    if values.next().is_some() {
        return Err(invalid("is present twice"));
    }
    let text = value.to_str().map_err(|_| invalid("is not ASCII text"))?;
    Ok(Some(text))
}
