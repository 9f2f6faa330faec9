//! Answers: documents, and errors as SDKs read them.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use rolekeeper::protocol::{Code, Failure};
use secrecy::ExposeSecret;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::config::AccountId;
use crate::credentials::Lease;
use crate::model::to_rfc3339;

/// About as long as credentials are, in bytes.
const DOCUMENT: usize = 1024;

pub(super) type Answer = Response<Full<Bytes>>;

/// Credentials as SDKs read them over HTTP.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Keys<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(lease: &'a Lease) -> Self {
        let issued = &lease.session.issued;
        Self {
            access_key_id: &issued.access_key_id,
            secret_access_key: issued.secret_access_key.expose_secret(),
            token: issued.session_token.expose_secret(),
            expiration: to_rfc3339(lease.expires_at),
            account_id: lease
                .entry
                .profile
                .account_id
                .as_ref()
                .map(AccountId::as_str),
        }
    }
}

pub(super) fn plain(status: StatusCode, body: impl Into<Bytes>, kind: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A document that may hold secrets, which are wiped once it is sent.
pub(super) fn json(document: &impl Serialize) -> Answer {
    let mut text = Zeroizing::new(Vec::with_capacity(DOCUMENT));
    match serde_json::to_writer(&mut *text, document) {
        Ok(()) => plain(StatusCode::OK, Bytes::from_owner(text), "application/json"),
        Err(error) => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unexpected,
            &error.to_string(),
        ),
    }
}

/// As SDKs read it: never with a status of success, and on one line.
pub(super) fn failed(status: StatusCode, code: Code, message: &str) -> Answer {
    let body = serde_json::json!({ "code": code.as_str(), "message": message }).to_string();
    let mut answer = plain(status, body, "application/json");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

pub(super) fn refused(failure: &Failure) -> Answer {
    failed(status(failure.code), failure.code, &sentence(failure))
}

pub(super) fn sentence(Failure { message, hint, .. }: &Failure) -> String {
    format!("{message}; try: {hint}")
}

pub(super) fn wrong_method(right: &'static str) -> Answer {
    let message = format!("this path takes {right}; try: {right}, as SDKs do");
    let mut answer = failed(StatusCode::METHOD_NOT_ALLOWED, Code::BadRequest, &message);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(right));
    answer
}

/// SDKs ask again after a 5xx, at once: only what may pass by itself is one.
pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::UpstreamUnavailable | Code::ViewStale | Code::Busy | Code::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::UnknownProfile => StatusCode::NOT_FOUND,
        Code::NotAllowed
        | Code::LoginNeeded
        | Code::Held
        | Code::UpstreamRefused
        | Code::RoleGone
        | Code::TrustDenied
        | Code::AccountDisabled => StatusCode::FORBIDDEN,
        Code::BadRequest
        | Code::FrameTooLarge
        | Code::UnsupportedVersion
        | Code::UnknownUpstream
        | Code::UnknownMethod
        | Code::Usage
        | Code::Configuration
        | Code::NoDaemon
        | Code::CommandNotFound
        | Code::CommandNotRun
        | Code::Unexpected => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_is_never_a_success_and_says_what_to_do_on_one_line() {
        use http_body_util::BodyExt;

        for code in [
            Code::Held,
            Code::UpstreamUnavailable,
            Code::UnknownProfile,
            Code::Unexpected,
        ] {
            let answer = refused(&Failure::new(code, "it is \"so\"\nand so", "that"));
            assert!(answer.status().is_client_error() || answer.status().is_server_error());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(!body.contains(&b'\n'));
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let want = serde_json::json!({ "code": code.as_str(), "message": "it is \"so\"\nand so; try: that" });
            assert_eq!(body, want);
        }
    }
}
