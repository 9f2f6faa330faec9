//! Version 2 of EC2's instance metadata service (EC2 User Guide, "Use the Instance Metadata Service"), as far as SDKs use it:
//! a token by `PUT`, then with it the role's name and its credentials. A port has one profile, whose name is the role's.
//!
//! The kernel identifies the user, so the token protects nothing but the protocol. A body has no final line break, since SDKs
//! use it unchanged.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use ring::hmac;
use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;

use super::connection::HttpConnection;
use super::response::{
    CredentialFields, HttpResponse, failed, json, plain, refused, sentence, status, wrong_method,
};
use crate::access::OwnerGrant;
use crate::cache::CacheEntry;
use crate::clock::BootTime;
use crate::config::{AccountId, ProfileName};
use crate::model::to_rfc3339;
use crate::platform::random::hex;

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");

/// The longest lifetime of a token, in seconds.
const MAX_TTL: u64 = 21_600;

const TOKEN_PATH: &str = "latest/api/token";
const ROLES_PATH: &str = "latest/meta-data/iam/security-credentials/";

/// Credentials as the service returns them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    code: &'a str,
    last_updated: &'a str,
    r#type: &'a str,
    #[serde(flatten)]
    fields: CredentialFields<'a>,
}

pub(super) async fn respond(
    connection: &HttpConnection,
    profile: &ProfileName,
    request: &Request<Incoming>,
) -> HttpResponse {
    let services = &connection.context.services;
    let grant = services
        .access
        .authorize_owner(&connection.peer, profile.as_str())
        .await;
    let grant = match grant {
        Ok(grant) => grant,
        Err(error) => return refused(&(&error).into()),
    };

    let key = match connection.context.endpoints.key() {
        Ok(key) => key,
        Err(error) => {
            return failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unexpected,
                &error.to_string(),
            );
        }
    };

    let now = services.clock.now().boot;
    // The SDK for Java appends a slash to the endpoint, which already ends with one for old versions of the AWS CLI.
    let path = request.uri().path().trim_start_matches('/');
    if path == TOKEN_PATH {
        return if request.method() == Method::PUT {
            issue_token(request.headers(), key, profile, now)
        } else {
            wrong_method("PUT")
        };
    }

    if request.method() != Method::GET {
        return wrong_method("GET");
    }

    let Some(ttl) = valid_ttl(request.headers(), key, profile, now) else {
        let message = "the token is missing, wrong or expired; try: PUT /latest/api/token first";
        return failed(StatusCode::UNAUTHORIZED, Code::NotAllowed, message);
    };

    let mut response = metadata(connection, &grant, path).await;
    response.headers_mut().insert(TTL, HeaderValue::from(ttl));

    response
}

/// The remaining lifetime of the request's token, in seconds.
fn valid_ttl(
    headers: &HeaderMap,
    key: &hmac::Key,
    profile: &ProfileName,
    now: BootTime,
) -> Option<u64> {
    let token = headers.get(TOKEN)?;

    remaining_ttl(token.as_bytes(), key, profile, now)
}

async fn metadata(connection: &HttpConnection, grant: &OwnerGrant, path: &str) -> HttpResponse {
    let profile = &grant.entry().profile.name;

    match path.strip_prefix(ROLES_PATH) {
        Some(role) if role == profile.as_str() => credentials(connection, profile).await,
        Some("") => plain(StatusCode::OK, profile.to_string(), "text/plain"),
        Some(_) => unknown_path(),
        None => region_metadata(grant.entry(), path),
    }
}

/// The paths where SDKs look for the region.
fn region_metadata(entry: &CacheEntry, path: &str) -> HttpResponse {
    let Some(region) = &entry.profile.region else {
        return unknown_path();
    };

    let region = region.as_str();

    match path {
        "latest/meta-data/placement/region" => {
            plain(StatusCode::OK, region.to_owned(), "text/plain")
        }
        "latest/meta-data/placement/availability-zone"
        | "latest/meta-data/placement/availability-zone/" => {
            plain(StatusCode::OK, format!("{region}a"), "text/plain")
        }
        "latest/dynamic/instance-identity/document" => json(&identity_document(entry, region)),
        _ => unknown_path(),
    }
}

fn identity_document(entry: &CacheEntry, region: &str) -> serde_json::Value {
    let account = entry.profile.account_id.as_ref().map(AccountId::as_str);

    serde_json::json!({ "version": "2017-09-30", "region": region, "accountId": account })
}

/// A permanent refusal is a document, as from the service, because SDKs print it. A temporary one is a 5xx.
async fn credentials(connection: &HttpConnection, profile: &ProfileName) -> HttpResponse {
    match connection.lease(profile).await {
        Ok(lease) => {
            let last_updated = to_rfc3339(lease.session.issued.issued_at);
            json(&Document {
                code: "Success",
                last_updated: &last_updated,
                r#type: "AWS-HMAC",
                fields: CredentialFields::of(&lease),
            })
        }
        Err(failure) if status(failure.code).is_server_error() => refused(&failure),
        Err(failure) => json(&refusal_document(&failure)),
    }
}

fn refusal_document(failure: &Failure) -> serde_json::Value {
    serde_json::json!({
        "Code": "AssumeRoleUnauthorizedAccess",
        "Message": format!("{} ({})", sentence(failure), failure.code.as_str()),
    })
}

/// A token is its end in boot time, and a signature of the end and the profile. The daemon stores no token.
fn issue_token(
    headers: &HeaderMap,
    key: &hmac::Key,
    profile: &ProfileName,
    now: BootTime,
) -> HttpResponse {
    let requested = headers
        .get(TTL)
        .and_then(|ttl| ttl.to_str().ok()?.parse::<u64>().ok());
    let Some(ttl) = requested.filter(|ttl| (1..=MAX_TTL).contains(ttl)) else {
        let message = "x-aws-ec2-metadata-token-ttl-seconds is out of range; try: send 1 to 21600";
        return failed(StatusCode::BAD_REQUEST, Code::BadRequest, message);
    };

    let end = seconds(now.plus(Duration::from_secs(ttl)));
    let signature = hmac::sign(key, &signed_bytes(end, profile));
    let token = format!("{end:016x}{}", hex(signature.as_ref()));

    let mut response = plain(StatusCode::OK, token, "text/plain");
    response.headers_mut().insert(TTL, HeaderValue::from(ttl));

    response
}

/// The remaining lifetime of a valid token, in seconds.
fn remaining_ttl(
    token: &[u8],
    key: &hmac::Key,
    profile: &ProfileName,
    now: BootTime,
) -> Option<u64> {
    let (end, signature) = token.split_at_checked(16)?;
    let end = u64::from_str_radix(std::str::from_utf8(end).ok()?, 16).ok()?;
    let signature = from_hex(signature)?;
    hmac::verify(key, &signed_bytes(end, profile), &signature).ok()?;

    end.checked_sub(seconds(now)).filter(|ttl| *ttl > 0)
}

fn seconds(time: BootTime) -> u64 {
    time.since(BootTime::ZERO).as_secs()
}

fn signed_bytes(end: u64, profile: &ProfileName) -> Vec<u8> {
    [&end.to_be_bytes(), profile.as_str().as_bytes()].concat()
}

fn from_hex(hex: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = hex.as_chunks::<2>() else {
        return None;
    };

    pairs
        .iter()
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn unknown_path() -> HttpResponse {
    let message =
        "unknown path; try: GET /latest/meta-data/iam/security-credentials/ for the role's name";

    failed(StatusCode::NOT_FOUND, Code::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
    }

    fn profile(name: &str) -> ProfileName {
        ProfileName::parse(name).unwrap()
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn issue(ttl: &str, now: BootTime) -> HttpResponse {
        let mut headers = HeaderMap::new();
        headers.insert(TTL, HeaderValue::from_str(ttl).unwrap());

        issue_token(&headers, &key("key"), &profile("dev"), now)
    }

    fn ttl_of_dev(token: &[u8], now: BootTime) -> Option<u64> {
        remaining_ttl(token, &key("key"), &profile("dev"), now)
    }

    async fn body(response: HttpResponse) -> Vec<u8> {
        use http_body_util::BodyExt;

        let collected = response.into_body().collect().await.unwrap();
        collected.to_bytes().to_vec()
    }

    #[tokio::test]
    async fn token_is_valid_for_its_profile_until_its_end() {
        let token = body(issue("300", at(100))).await;
        assert!(token.is_ascii() && !token.contains(&b'\n'));

        assert_eq!(ttl_of_dev(&token, at(100)), Some(300));
        assert_eq!(ttl_of_dev(&token, at(399)), Some(1));
        assert_eq!(ttl_of_dev(&token, at(400)), None);

        let other_profile = remaining_ttl(&token, &key("key"), &profile("prod"), at(100));
        assert_eq!(other_profile, None);
        let other_key = remaining_ttl(&token, &key("other"), &profile("dev"), at(100));
        assert_eq!(other_key, None);
    }

    #[tokio::test]
    async fn changed_token_is_invalid() {
        let token = body(issue("300", at(100))).await;

        for index in 0..token.len() {
            let mut wrong = token.clone();
            wrong[index] = if wrong[index] == b'0' { b'1' } else { b'0' };
            assert_eq!(ttl_of_dev(&wrong, at(100)), None, "{index}");
        }
        for wrong in [
            &b""[..],
            b"x",
            &token[..16],
            &token[..token.len() - 1],
            "é".repeat(40).as_bytes(),
        ] {
            assert_eq!(ttl_of_dev(wrong, at(100)), None);
        }
    }

    #[test]
    fn ttl_out_of_range_is_a_bad_request() {
        for wrong in ["0", "21601", "-1", "", "x", "99999999999999999999"] {
            let response = issue(wrong, BootTime::ZERO);
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{wrong}");
        }
        let without = issue_token(
            &HeaderMap::new(),
            &key("key"),
            &profile("dev"),
            BootTime::ZERO,
        );
        assert_eq!(without.status(), StatusCode::BAD_REQUEST);

        for valid in ["1", "21600"] {
            let response = issue(valid, BootTime::ZERO);
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[TTL].as_bytes(), valid.as_bytes());
        }
    }
}
