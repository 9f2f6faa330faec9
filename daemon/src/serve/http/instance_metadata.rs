//! Version 2 of EC2's instance metadata service (EC2 User Guide, "Use the Instance Metadata Service"), as far as SDKs use it:
//! a token by `PUT`, then with it the role's name and its credentials. A port has one profile, whose name is the role's.
//!
//! There is no secret in it that a caller would have to know: who may ask is told by the kernel. No body ends with a line's
//! end, since SDKs take each as it stands.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use ring::hmac;
use rolekeeper::protocol::{Code, Failure};
use serde::Serialize;

use super::Caller;
use super::response::{Answer, Keys, failed, json, plain, refused, sentence, status, wrong_method};
use crate::cache::CacheEntry;
use crate::clock::BootTime;
use crate::config::{AccountId, ProfileName};
use crate::model::to_rfc3339;
use crate::platform::random::hex;

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
/// The longest life of a token, in seconds.
const LONGEST: u64 = 21_600;
const ROLES: &str = "latest/meta-data/iam/security-credentials/";

pub(super) async fn answer(
    caller: &Caller,
    profile: &ProfileName,
    request: &Request<Incoming>,
) -> Answer {
    let access = &caller.context.services.access;
    let grant = match access.authorize_owner(&caller.peer, profile.as_str()).await {
        Ok(grant) => grant,
        Err(error) => return refused(&(&error).into()),
    };

    // The SDK for Java puts a slash of its own behind the endpoint's, which an old AWS CLI needs.
    let path = request.uri().path().trim_start_matches('/');
    let (method, now) = (request.method(), caller.context.services.clock.now().boot);
    let key = match caller.context.endpoints.key() {
        Ok(key) => key,
        Err(error) => {
            return failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unexpected,
                &error.to_string(),
            );
        }
    };
    if path == "latest/api/token" {
        return if method == Method::PUT {
            token(request.headers(), key, profile, now)
        } else {
            wrong_method("PUT")
        };
    }
    if method != Method::GET {
        return wrong_method("GET");
    }
    let Some(left) = request
        .headers()
        .get(TOKEN)
        .and_then(|token| left(token.as_bytes(), key, profile, now))
    else {
        let message = "the token is missing, wrong or too old, and version 1 is not answered; \
                       try: PUT /latest/api/token first";
        return failed(StatusCode::UNAUTHORIZED, Code::NotAllowed, message);
    };
    let mut answer = match path.strip_prefix(ROLES) {
        Some(role) if role == profile.as_str() => credentials(caller, profile).await,
        Some("") => plain(StatusCode::OK, profile.to_string(), "text/plain"),
        Some(_) => unknown(),
        None => about(grant.entry(), path),
    };
    answer.headers_mut().insert(TTL, HeaderValue::from(left));
    answer
}

/// Whatever else SDKs ask for to find out the region.
fn about(entry: &CacheEntry, path: &str) -> Answer {
    let Some(region) = &entry.profile.region else {
        return unknown();
    };
    match path {
        "latest/meta-data/placement/region" => {
            plain(StatusCode::OK, region.as_str().to_owned(), "text/plain")
        }
        "latest/meta-data/placement/availability-zone"
        | "latest/meta-data/placement/availability-zone/" => plain(
            StatusCode::OK,
            format!("{}a", region.as_str()),
            "text/plain",
        ),
        "latest/dynamic/instance-identity/document" => json(&identity(entry, region.as_str())),
        _ => unknown(),
    }
}

fn identity(entry: &CacheEntry, region: &str) -> serde_json::Value {
    let account = entry.profile.account_id.as_ref().map(AccountId::as_str);
    serde_json::json!({ "version": "2017-09-30", "region": region, "accountId": account })
}

/// A refusal that will not pass by itself is told as the service tells one: in a document of its own, which SDKs show.
async fn credentials(caller: &Caller, profile: &ProfileName) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document<'a> {
        code: &'a str,
        last_updated: &'a str,
        r#type: &'a str,
        #[serde(flatten)]
        keys: Keys<'a>,
    }
    match caller.lease(profile).await {
        Err(failure) if status(failure.code).is_server_error() => {
            failed(status(failure.code), failure.code, &sentence(&failure))
        }
        Err(failure) => json(&refusal(&failure)),
        Ok(lease) => {
            let since = to_rfc3339(lease.session.issued.issued_at);
            json(&Document {
                code: "Success",
                last_updated: &since,
                r#type: "AWS-HMAC",
                keys: Keys::of(&lease),
            })
        }
    }
}

fn refusal(failure: &Failure) -> serde_json::Value {
    serde_json::json!({
        "Code": "AssumeRoleUnauthorizedAccess",
        "Message": format!("{} ({})", sentence(failure), failure.code.as_str()),
    })
}

/// A token is its own end in boot time and a signature on that and the profile: nothing has to be remembered of it.
fn token(headers: &HeaderMap, key: &hmac::Key, profile: &ProfileName, now: BootTime) -> Answer {
    let asked = headers
        .get(TTL)
        .and_then(|ttl| ttl.to_str().ok()?.parse::<u64>().ok());
    let Some(ttl) = asked.filter(|ttl| (1..=LONGEST).contains(ttl)) else {
        let message = "x-aws-ec2-metadata-token-ttl-seconds must be 1 to 21600; try: 21600";
        return failed(StatusCode::BAD_REQUEST, Code::BadRequest, message);
    };
    let end = now
        .plus(Duration::from_secs(ttl))
        .since(BootTime::ZERO)
        .as_secs();
    let token = format!(
        "{end:016x}{}",
        hex(hmac::sign(key, &signed(end, profile)).as_ref())
    );
    let mut answer = plain(StatusCode::OK, token, "text/plain");
    answer.headers_mut().insert(TTL, HeaderValue::from(ttl));
    answer
}

/// For how many seconds a token is still good.
fn left(token: &[u8], key: &hmac::Key, profile: &ProfileName, now: BootTime) -> Option<u64> {
    let (end, signature) = token.split_at_checked(16)?;
    let end = u64::from_str_radix(std::str::from_utf8(end).ok()?, 16).ok()?;
    let signature = bytes(signature)?;
    hmac::verify(key, &signed(end, profile), &signature).ok()?;
    end.checked_sub(now.since(BootTime::ZERO).as_secs())
        .filter(|left| *left > 0)
}

fn signed(end: u64, profile: &ProfileName) -> Vec<u8> {
    [&end.to_be_bytes(), profile.as_str().as_bytes()].concat()
}

fn bytes(hex: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = hex.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn unknown() -> Answer {
    failed(
        StatusCode::NOT_FOUND,
        Code::BadRequest,
        "there is no such metadata here; try: the role's credentials",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(key: &hmac::Key, profile: &ProfileName, ttl: &str, now: BootTime) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(TTL, HeaderValue::from_str(ttl).unwrap());
        token(&headers, key, profile, now)
    }

    async fn text(answer: Answer) -> Vec<u8> {
        use http_body_util::BodyExt;
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec()
    }

    #[tokio::test]
    async fn a_token_is_good_for_its_profile_and_its_time() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let name = |name| ProfileName::parse(name).unwrap();
        let at = |seconds| BootTime::ZERO.plus(Duration::from_secs(seconds));
        let token = text(issued(&key, &name("dev"), "300", at(100))).await;
        assert!(token.is_ascii() && !token.contains(&b'\n'));
        assert_eq!(left(&token, &key, &name("dev"), at(100)), Some(300));
        assert_eq!(left(&token, &key, &name("dev"), at(399)), Some(1));
        assert_eq!(left(&token, &key, &name("dev"), at(400)), None);
        assert_eq!(left(&token, &key, &name("prod"), at(100)), None);
        assert_eq!(
            left(
                &token,
                &hmac::Key::new(hmac::HMAC_SHA256, b"other"),
                &name("dev"),
                at(100)
            ),
            None
        );
        for place in 0..token.len() {
            let mut wrong = token.clone();
            wrong[place] = if wrong[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(left(&wrong, &key, &name("dev"), at(100)), None, "{place}");
        }
        for wrong in [
            &b""[..],
            b"x",
            &token[..16],
            &token[..token.len() - 1],
            "é".repeat(40).as_bytes(),
        ] {
            assert_eq!(left(wrong, &key, &name("dev"), at(100)), None);
        }
    }

    #[test]
    fn a_life_out_of_range_is_a_bad_request() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let profile = ProfileName::parse("dev").unwrap();
        for wrong in ["0", "21601", "-1", "", "x", "99999999999999999999"] {
            assert_eq!(
                issued(&key, &profile, wrong, BootTime::ZERO).status(),
                StatusCode::BAD_REQUEST,
                "{wrong}"
            );
        }
        assert_eq!(
            token(&HeaderMap::new(), &key, &profile, BootTime::ZERO).status(),
            StatusCode::BAD_REQUEST
        );
        for right in ["1", "21600"] {
            let answer = issued(&key, &profile, right, BootTime::ZERO);
            assert_eq!(
                (answer.status(), answer.headers()[TTL].as_bytes()),
                (StatusCode::OK, right.as_bytes())
            );
        }
    }
}
