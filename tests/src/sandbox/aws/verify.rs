//! Verification of a request's signature. The order of the checks is that of AWS: form, scope, key,
//! session token, time, signature, end of the session. No error may contain the expected signature.

use hyper::http::request::Parts;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::caller::Caller;
use super::error::AwsError;
use super::store::{LastUse, Store};
use crate::hex;
use crate::sandbox::clock::Millis;
use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{AuthParams, SigningKey};

/// The largest difference between the time of signing and AWS's clock, in minutes.
const MAX_SKEW: i64 = 15;
/// The region of IAM's host in the partition `aws`.
const IAM_REGION: &str = "us-east-1";

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

/// The form of the signature. Nothing is verified yet.
pub(super) fn parse(parts: &Parts) -> Result<AuthParams, AwsError> {
    AuthParams::parse(parts).map_err(|error| match error.code.as_str() {
        "AccessDenied" if !parts.headers.contains_key("authorization") => {
            let message = "Request is missing Authentication Token";
            AwsError::new(403, "MissingAuthenticationToken", message)
        }
        _ => AwsError::new(400, "IncompleteSignature", error.message),
    })
}

/// Verifies a request to STS or IAM.
pub(super) fn request(
    store: &mut Store,
    auth: &AuthParams,
    parts: &Parts,
    body: &[u8],
    now: Millis,
) -> Result<Caller, AwsError> {
    let hash = hex::encode(&Sha256::digest(body));
    let (caller, secret) = find_caller(store, &auth.access_key_id, auth.token.as_deref(), now)?;

    check_region(auth)?;
    check_time(auth, now)?;
    check_signature(auth, &secret, parts, &hash).map_err(|_| mismatch())?;
    check_end(&caller, now)?;
    check_enabled(store, auth, &caller)?;

    if let Some(key) = store.access_keys.get_mut(&caller.access_key_id) {
        key.last_used = Some(LastUse {
            at: now,
            service: auth.scope.service.clone(),
            region: auth.scope.region.clone(),
        });
    }
    Ok(caller)
}

/// The caller by its key and session token, and the secret.
pub(super) fn find_caller(
    store: &Store,
    access_key_id: &str,
    token: Option<&str>,
    now: Millis,
) -> Result<(Caller, String), AwsError> {
    let found = match store.sessions.get(access_key_id) {
        Some(session) if token == Some(session.token.as_str()) => {
            Caller::with_session(store, session).map(|caller| (caller, session.secret.clone()))
        }
        Some(_) => None,
        None => store
            .access_keys
            .get(access_key_id)
            .filter(|key| token.is_none() && key.is_active)
            .filter(|key| key.created_at == 0 || now >= key.created_at + store.propagation)
            .and_then(|key| Some((Caller::with_key(store, key)?, key.secret.clone()))),
    };

    found.ok_or_else(AwsError::invalid_token)
}

fn check_region(auth: &AuthParams) -> Result<(), AwsError> {
    let region = &auth.scope.region;
    if auth.scope.service != "iam" || region == IAM_REGION {
        return Ok(());
    }

    let message = format!("Credential should be scoped to a valid region, not '{region}'. ");
    Err(AwsError::new(403, "SignatureDoesNotMatch", message))
}

fn check_time(auth: &AuthParams, now: Millis) -> Result<(), AwsError> {
    let Some(signed_at) = auth.time() else {
        let message = "Date must be in ISO-8601 'basic format'.";
        return Err(AwsError::new(400, "IncompleteSignature", message));
    };
    // A presigned URL is valid until its own end.
    let validity = auth
        .expires
        .map_or(MAX_SKEW * 60_000, |seconds| seconds * 1000);
    let minutes = validity / 60_000;
    let earliest = now - validity;
    let latest = now + MAX_SKEW * 60_000;
    let (signed, stamp) = (stamp(signed_at), stamp(now));

    let message = if signed_at < earliest {
        let earliest = self::stamp(earliest);
        format!(
            "Signature expired: {signed} is now earlier than {earliest} ({stamp} - {minutes} min.)"
        )
    } else if signed_at > latest {
        let latest = self::stamp(latest);
        format!(
            "Signature not yet current: {signed} is still later than {latest} ({stamp} + {MAX_SKEW} min.)"
        )
    } else {
        return Ok(());
    };
    Err(AwsError::new(403, "SignatureDoesNotMatch", message))
}

/// `20150830T123600Z`
fn stamp(at: Millis) -> String {
    let at = Timestamp::from_second(at / 1000).unwrap_or(Timestamp::MAX);
    at.to_string().replace(['-', ':'], "")
}

fn check_signature(
    auth: &AuthParams,
    secret: &str,
    parts: &Parts,
    hash: &str,
) -> Result<(), ApiError> {
    let text = auth.string_to_sign(parts, hash)?;
    let key = SigningKey::new(secret, &auth.scope)?;

    if key.has_signed(&text, &auth.signature) {
        Ok(())
    } else {
        Err(ApiError::denied("mismatch"))
    }
}

fn mismatch() -> AwsError {
    AwsError::new(403, "SignatureDoesNotMatch", MISMATCH)
}

pub(super) fn check_end(caller: &Caller, now: Millis) -> Result<(), AwsError> {
    match &caller.session {
        Some(session) if now >= session.expires_at => {
            let message = "The security token included in the request is expired";
            Err(AwsError::new(403, "ExpiredToken", message))
        }
        _ => Ok(()),
    }
}

fn check_enabled(store: &Store, auth: &AuthParams, caller: &Caller) -> Result<(), AwsError> {
    if auth.scope.service != "sts" || !store.disabled_regions.contains(&auth.scope.region) {
        return Ok(());
    }

    let account = &caller.names.account;
    let message = format!(
        "STS is not activated in this region for account:{account}. Your account administrator can activate STS in this region using the IAM Console."
    );
    Err(AwsError::new(403, "RegionDisabledException", message))
}
