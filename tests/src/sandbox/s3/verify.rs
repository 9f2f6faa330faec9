//! Verification of requests, in this order: time of signing, access key, token, signature, and
//! validity of the session. No error may contain the expected signature.

use hyper::http::request::Parts;
use rusqlite::{Connection, OptionalExtension, params};

use super::operation::Operation;
use super::{aws_keys, payload, request};
use crate::sandbox::State;
use crate::sandbox::auth;
use crate::sandbox::aws::Caller;
use crate::sandbox::clock::Millis;
use crate::sandbox::crn::Crns;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{AuthParams, SigningKey, mismatch};
use crate::sandbox::store::{TokenKind, find_token};

/// The largest difference between the time of signing and the sandbox's clock, in milliseconds.
const MAX_SKEW: i64 = 15 * 60 * 1000;

/// The session whose key signed a request. It may have expired or been revoked.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) session_id: String,
    pub(super) principal_id: String,
    pub(super) principal_type: String,
    pub(super) role_id: String,
    pub(super) role_name: String,
    /// For keys of the sandbox's AWS.
    pub(super) aws: Option<Box<Caller>>,
}

/// A request with a valid signature.
pub(super) struct VerifiedRequest {
    pub(super) signer: Signer,
    pub(super) key: SigningKey,
    /// The signed hash of the body, or a constant instead. [`payload::open`] compares it with the
    /// body.
    pub(super) payload_hash: String,
}

/// Verifies the signature, but not the body.
pub(super) fn signature(
    state: &State,
    tx: &Connection,
    parts: &Parts,
    auth: &AuthParams,
    body: &[u8],
    now: Millis,
) -> Result<VerifiedRequest, ApiError> {
    check_time(auth, now)?;
    check_service(auth, parts)?;
    let (signer, secret) = match aws_keys::find(state, auth)? {
        Some(found) => found,
        None => find_session(tx, auth)?,
    };

    let payload_hash = payload::signed_hash(parts, auth, body)?;
    let text = auth.string_to_sign(parts, &payload_hash)?;
    let key = SigningKey::new(&secret, &auth.scope)?;
    if !key.has_signed(&text, &auth.signature) {
        return Err(mismatch(
            "the secret is wrong, or the request was changed after it was signed",
        ));
    }

    Ok(VerifiedRequest {
        signer,
        key,
        payload_hash,
    })
}

fn check_service(auth: &AuthParams, parts: &Parts) -> Result<(), ApiError> {
    let service = if request::is_sts(parts) { "sts" } else { "s3" };
    if auth.scope.service == service {
        return Ok(());
    }

    let message = format!("the credential scope must have the service {service}");
    Err(ApiError::new(400, "AuthorizationHeaderMalformed", message))
}

/// The session as a caller with its role's policies. Refused if it has expired or was revoked.
pub(super) fn caller(
    tx: &Connection,
    org: &str,
    signer: &Signer,
    now: Millis,
) -> Result<auth::Caller, ApiError> {
    auth::session(tx, org, &signer.session_id, now).map_err(|error| match error.code.as_str() {
        "token_expired" => ApiError::new(400, "ExpiredToken", error.message),
        "session_revoked" | "invalid_token" => ApiError::new(400, "InvalidToken", error.message),
        _ => error,
    })
}

fn check_time(auth: &AuthParams, now: Millis) -> Result<(), ApiError> {
    let Some(signed_at) = auth.time() else {
        return Err(denied(
            "the time of signing must have the form 20150830T123600Z",
        ));
    };
    let skew = now - signed_at;

    match auth.expires {
        Some(_) if -skew > MAX_SKEW => Err(denied("the presigned URL is not valid yet")),
        Some(seconds) if skew >= seconds * 1000 => Err(denied("the presigned URL has expired")),
        None if skew.abs() > MAX_SKEW => {
            let seconds = skew.abs() / 1000;
            let message = format!("the time of signing differs by {seconds} s from the server's");
            Err(ApiError::new(403, "RequestTimeTooSkewed", message))
        }
        _ => Ok(()),
    }
}

fn find_session(tx: &Connection, auth: &AuthParams) -> Result<(Signer, String), ApiError> {
    let found = find_key(tx, &auth.access_key_id)?;
    let (signer, secret) =
        found.ok_or_else(|| ApiError::new(403, "InvalidAccessKeyId", "unknown access key"))?;

    check_token(tx, auth.token.as_deref(), &signer)?;
    Ok((signer, secret))
}

fn check_token(tx: &Connection, token: Option<&str>, signer: &Signer) -> Result<(), ApiError> {
    let invalid = |message: &str| Err(ApiError::new(400, "InvalidToken", message));
    let Some(token) = token else {
        return invalid("the access key of a session requires x-amz-security-token");
    };

    match find_token(tx, token)? {
        Some(token)
            if token.kind == TokenKind::Session && token.subject_id == signer.session_id =>
        {
            Ok(())
        }
        _ => invalid("x-amz-security-token and the access key are of different sessions"),
    }
}

/// The session of an access key, and the secret.
fn find_key(tx: &Connection, access_key_id: &str) -> rusqlite::Result<Option<(Signer, String)>> {
    let sql = "SELECT s.id, s.principal_id, s.principal_type, s.role_id, s.role_name, k.secret
               FROM session_keys k JOIN sessions s ON s.id = k.session_id
               WHERE k.access_key_id = ?";

    tx.prepare_cached(sql)?
        .query_row(params![access_key_id], |row| {
            let signer = Signer {
                session_id: row.get(0)?,
                principal_id: row.get(1)?,
                principal_type: row.get(2)?,
                role_id: row.get(3)?,
                role_name: row.get(4)?,
                aws: None,
            };
            Ok((signer, row.get(5)?))
        })
        .optional()
}

/// Replaces an S3 error code by that of STS.
pub(super) fn to_sts_error(error: ApiError) -> ApiError {
    let (status, code) = match error.code.as_str() {
        "InvalidAccessKeyId" | "InvalidToken" => (403, "InvalidClientTokenId"),
        "ExpiredToken" => (403, "ExpiredToken"),
        "RequestTimeTooSkewed" => (403, "SignatureDoesNotMatch"),
        "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" => {
            (400, "IncompleteSignature")
        }
        _ => return error,
    };

    ApiError::new(status, code, error.message)
}

pub(super) fn authorize(
    caller: &auth::Caller,
    operation: Operation,
    resource: &Crns,
) -> Result<(), ApiError> {
    let Some(action) = operation.action() else {
        return Ok(());
    };
    if caller.may(action, resource) {
        return Ok(());
    }

    let name = resource.first();
    Err(denied(&format!(
        "no policy of the role allows {action} on {name}, or one denies it"
    )))
}

fn denied(message: &str) -> ApiError {
    ApiError::new(403, "AccessDenied", message)
}
