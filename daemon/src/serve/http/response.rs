//! Responses: documents, and errors as SDKs read them.

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

/// The capacity for a document with credentials, in bytes. Growing would leave a copy of the secrets behind.
const DOCUMENT_CAPACITY: usize = 1024;

pub(super) type HttpResponse = Response<Full<Bytes>>;

/// Credentials as SDKs read them over HTTP.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CredentialFields<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
}

impl<'a> CredentialFields<'a> {
    pub(super) fn of(lease: &'a Lease) -> Self {
        let issued = &lease.session.issued;
        let account_id = lease.entry.profile.account_id.as_ref();

        Self {
            access_key_id: &issued.access_key_id,
            secret_access_key: issued.secret_access_key.expose_secret(),
            token: issued.session_token.expose_secret(),
            expiration: to_rfc3339(lease.expires_at),
            account_id: account_id.map(AccountId::as_str),
        }
    }
}

pub(super) fn plain(
    status: StatusCode,
    body: impl Into<Bytes>,
    content_type: &'static str,
) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;

    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));

    response
}

/// A document that may contain secrets. It is zeroized after it is sent.
pub(super) fn json(document: &impl Serialize) -> HttpResponse {
    let mut text = Zeroizing::new(Vec::with_capacity(DOCUMENT_CAPACITY));

    match serde_json::to_writer(&mut *text, document) {
        Ok(()) => plain(StatusCode::OK, Bytes::from_owner(text), "application/json"),
        Err(error) => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unexpected,
            &error.to_string(),
        ),
    }
}

/// An error as SDKs read it: on one line, and never with a 2xx.
pub(super) fn failed(status: StatusCode, code: Code, message: &str) -> HttpResponse {
    let body = serde_json::json!({ "code": code.as_str(), "message": message }).to_string();
    let mut response = plain(status, body, "application/json");

    if status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }

    response
}

pub(super) fn refused(failure: &Failure) -> HttpResponse {
    failed(status(failure.code), failure.code, &sentence(failure))
}

pub(super) fn sentence(Failure { message, hint, .. }: &Failure) -> String {
    format!("{message}; try: {hint}")
}

pub(super) fn wrong_method(allowed: &'static str) -> HttpResponse {
    let message = format!("this path allows only {allowed}; try: send a {allowed} request");
    let mut response = failed(StatusCode::METHOD_NOT_ALLOWED, Code::BadRequest, &message);

    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));

    response
}

/// SDKs retry at once after a 5xx, so only an error that may pass by itself is a 503.
pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::UpstreamUnavailable | Code::ViewStale | Code::Busy | Code::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::UnknownProfile => StatusCode::NOT_FOUND,
        Code::NotAllowed
        | Code::LoginNeeded
        | Code::MfaNeeded
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
    async fn error_is_never_a_2xx_and_is_one_line_with_a_hint() {
        use http_body_util::BodyExt;

        for code in [
            Code::Held,
            Code::UpstreamUnavailable,
            Code::UnknownProfile,
            Code::Unexpected,
        ] {
            let response = refused(&Failure::new(code, "it is \"so\"\nand so", "that"));
            assert!(response.status().is_client_error() || response.status().is_server_error());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(!body.contains(&b'\n'));
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let want = serde_json::json!({ "code": code.as_str(), "message": "it is \"so\"\nand so; try: that" });
            assert_eq!(body, want);
        }
    }
}
