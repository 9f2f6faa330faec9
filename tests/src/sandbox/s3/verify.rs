//! Who has signed a request. A request passes in this order or not at all: its time, its key, its token, its signature,
//! and then whether the session still counts. It must tell nobody what the right signature would have been.

use hyper::http::request::Parts;
use rusqlite::{Connection, OptionalExtension, params};

use super::operation::Operation;
use super::payload;
use crate::sandbox::auth::{self, Caller};
use crate::sandbox::clock::Millis;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{Claim, SigningKey, mismatch};
use crate::sandbox::store::{TokenKind, find_token};

/// How far a request's time may be from the sandbox's, in milliseconds.
const SKEW: i64 = 15 * 60 * 1000;

/// The session that has signed, whether it still counts or not.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) session_id: String,
    pub(super) principal_id: String,
    pub(super) principal_type: String,
    pub(super) role_id: String,
    pub(super) role_name: String,
}

/// A request whose signature is good.
pub(super) struct Signed {
    pub(super) signer: Signer,
    pub(super) key: SigningKey,
    /// What was said of the body.
    pub(super) declared: String,
}

/// Checks all that the signature covers. The body is not compared here, see [`payload::open`].
pub(super) fn signature(
    tx: &Connection,
    parts: &Parts,
    claim: &Claim,
    service: &str,
    body: &[u8],
    now: Millis,
) -> Result<Signed, ApiError> {
    check_time(claim, now)?;
    if claim.scope.service != service {
        let message = format!("the credential is scoped to another service than {service}");
        return Err(ApiError::new(400, "AuthorizationHeaderMalformed", message));
    }
    let Some((signer, secret)) = find(tx, &claim.access_key_id)? else {
        return Err(ApiError::new(
            403,
            "InvalidAccessKeyId",
            "no session has this access key",
        ));
    };
    check_token(tx, claim.token.as_deref(), &signer)?;
    let declared = payload::declared(parts, claim, body)?;
    let text = claim.string_to_sign(parts, &declared)?;
    let key = SigningKey::new(&secret, &claim.scope)?;
    if !key.has_signed(&text, &claim.signature) {
        let message = "the signature is not that of this request: another secret has signed, or the request was changed";
        return Err(mismatch(message));
    }
    Ok(Signed {
        signer,
        key,
        declared,
    })
}

/// The session as a caller with its role's policies, unless it has ended.
pub(super) fn caller(
    tx: &Connection,
    org: &str,
    signer: &Signer,
    now: Millis,
) -> Result<Caller, ApiError> {
    auth::session(tx, org, &signer.session_id, now).map_err(|error| match error.code.as_str() {
        "token_expired" => ApiError::new(400, "ExpiredToken", error.message),
        "session_revoked" | "invalid_token" => ApiError::new(400, "InvalidToken", error.message),
        _ => error,
    })
}

fn check_time(claim: &Claim, now: Millis) -> Result<(), ApiError> {
    let denied = |message: String| Err(ApiError::new(403, "AccessDenied", message));
    let Some(at) = claim.time() else {
        return denied("the time of signing is not written as 20150830T123600Z".into());
    };
    match claim.expires {
        Some(_) if at - now > SKEW => denied("the presigned request does not count yet".into()),
        Some(seconds) if at + seconds * 1000 <= now => {
            denied("the presigned request has expired".into())
        }
        None if (now - at).abs() > SKEW => {
            let message = format!(
                "the request was signed {} seconds from the time here",
                (now - at).abs() / 1000
            );
            Err(ApiError::new(403, "RequestTimeTooSkewed", message))
        }
        _ => Ok(()),
    }
}

fn check_token(tx: &Connection, token: Option<&str>, signer: &Signer) -> Result<(), ApiError> {
    let wrong = |message: &str| Err(ApiError::new(400, "InvalidToken", message));
    let Some(token) = token else {
        return wrong("the access key is a session's, and there is no x-amz-security-token");
    };
    match find_token(tx, token)? {
        Some((TokenKind::Session, session, _)) if session == signer.session_id => Ok(()),
        _ => wrong("the x-amz-security-token is not that of the session with this access key"),
    }
}

fn find(tx: &Connection, access_key_id: &str) -> rusqlite::Result<Option<(Signer, String)>> {
    let sql = "SELECT s.id, s.principal_id, s.principal_type, s.role_id, s.role_name, k.secret
               FROM session_keys k JOIN sessions s ON s.id = k.session_id WHERE k.access_key_id = ?";
    tx.prepare_cached(sql)?
        .query_row(params![access_key_id], |row| {
            let signer = Signer {
                session_id: row.get(0)?,
                principal_id: row.get(1)?,
                principal_type: row.get(2)?,
                role_id: row.get(3)?,
                role_name: row.get(4)?,
            };
            Ok((signer, row.get(5)?))
        })
        .optional()
}

/// What STS calls what S3 calls otherwise.
pub(super) fn in_words_of_sts(error: ApiError) -> ApiError {
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

/// May the caller do this? GetCallerIdentity needs no policy.
pub(super) fn permit(
    caller: &Caller,
    operation: Operation,
    resource: &crate::sandbox::crn::Crns,
) -> Result<(), ApiError> {
    let Some(action) = operation.action() else {
        return Ok(());
    };
    if caller.may(action, resource) {
        return Ok(());
    }
    let name = resource.0.first().map_or("*", String::as_str);
    let message = format!("no policy of the role allows {action} on {name}, or one denies it");
    Err(ApiError::new(403, "AccessDenied", message))
}
