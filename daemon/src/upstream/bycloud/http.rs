//! The one way a request leaves for ByCloud IAM: [`ByCloud::send`]. Timeouts, no redirects, TLS unless loopback, a cap
//! on replies, and one reading of every answer.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

use super::ByCloud;
use crate::clock::Clock;
use crate::config::Endpoint;
use crate::keys;
use crate::upstream::UpstreamError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole call, slow bodies included.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are closed before most servers and middleboxes would.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// The longest reply that is read, in bytes.
const REPLY_CAP: usize = 1024 * 1024;
/// The most that is repeated of an upstream's message, in characters.
const MESSAGE_CAP: usize = 200;

/// The HTTP client cannot be set up on this machine.
#[derive(Debug, Error)]
#[error("the HTTP client for {endpoint} cannot be set up: {cause}")]
pub struct SetupError {
    endpoint: Endpoint,
    cause: reqwest::Error,
}

/// A client that sends tokens to the endpoint and nowhere else.
pub(super) fn client(endpoint: &Endpoint) -> Result<reqwest::Client, SetupError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("rolekeeper/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(4);
    // A proxy would get to read what plain HTTP sends, and has no business on loopback. Everything else is TLS, and no
    // certificate store is loaded where there is none to check.
    let builder =
        if endpoint.is_loopback_http() { builder.no_proxy().tls_certs_only([]) } else { builder.https_only(true) };
    builder.build().map_err(|cause| SetupError { endpoint: endpoint.clone(), cause })
}

impl ByCloud {
    /// Sends one request and reads its answer. `method` is the documented name, for messages.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        verb: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, UpstreamError> {
        let token = keys::token(&self.token)
            .map_err(|error| UpstreamError::LoginNeeded { what: error.to_string(), hint: error.hint() })?;
        let call = Call { method, endpoint: &self.endpoint, token: &token };
        let mut request = self.http.request(verb, self.endpoint.join(path)).bearer_auth(token.expose_secret());
        if let Some(body) = body {
            let json = serde_json::to_vec(body).map_err(|error| call.unavailable(&error, None))?;
            request = request.header(CONTENT_TYPE, "application/json").body(json);
        }
        let response = request.send().await.map_err(|error| call.broken(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = read(response, &call).await?;
        if status.is_success() {
            return serde_json::from_slice(&text).map_err(|_| {
                call.unavailable(&format!("a {} that is not the documented reply", status.as_u16()), None)
            });
        }
        Err(call.refused(status, &headers, &text))
    }
}

async fn read(mut response: Response, call: &Call<'_>) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(|error| call.broken(error))? {
        if text.len() + chunk.len() > REPLY_CAP {
            return Err(call.unavailable(&format!("a reply of more than {REPLY_CAP} bytes"), None));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// What a message about a call needs.
struct Call<'a> {
    method: &'a str,
    endpoint: &'a Endpoint,
    token: &'a SecretString,
}

impl Call<'_> {
    fn unavailable(&self, what: &dyn std::fmt::Display, retry_after: Option<Duration>) -> UpstreamError {
        UpstreamError::Unavailable { what: format!("{} at {}: {what}", self.method, self.endpoint), retry_after }
    }

    /// No answer, or half of one.
    fn broken(&self, error: reqwest::Error) -> UpstreamError {
        let error = error.without_url();
        if error.is_timeout() && !error.is_connect() {
            return self.unavailable(&format!("no answer within {} s", TOTAL_TIMEOUT.as_secs()), None);
        }
        let mut causes = vec![error.to_string()];
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            causes.push(inner.to_string());
            cause = inner.source();
        }
        causes.dedup();
        self.unavailable(&causes.join(": "), None)
    }

    /// An answer that is not a success. Only the upstream's own error envelope (A6) counts as its word: a proxy's page
    /// or a captive portal's says nothing about a token or a role.
    fn refused(&self, status: StatusCode, headers: &HeaderMap, text: &[u8]) -> UpstreamError {
        let Ok(Envelope { error }) = serde_json::from_slice(text) else {
            return self.unavailable(&format!("answered {status}, not as ByCloud IAM does"), retry_after(headers));
        };
        let what = format!(
            "{} at {}: {} ({}, request {})",
            self.method,
            self.endpoint,
            self.clean(&error.message),
            self.clean(&error.code),
            self.clean(error.request_id.as_deref().unwrap_or("unknown"))
        );
        match (status.as_u16(), error.code.as_str()) {
            (401, "token_expired" | "session_revoked" | "invalid_token") => {
                UpstreamError::LoginNeeded { what, hint: "put a new token where the configuration says it is".into() }
            }
            (400, "invalid_request")
            | (401, "principal_disabled")
            | (403, "access_denied" | "trust_policy_denied")
            | (404, "not_found")
            | (409, "conflict" | "in_use") => UpstreamError::Refused { what },
            _ => UpstreamError::Unavailable { what, retry_after: retry_after(headers) },
        }
    }

    /// A text of the upstream's, fit for a terminal and a log: short, printable, and without the token if it repeats it.
    fn clean(&self, text: &str) -> String {
        let text = text.replace(self.token.expose_secret(), "[token]");
        text.chars().map(|each| if each.is_control() { ' ' } else { each }).take(MESSAGE_CAP).collect()
    }
}

/// A6.
#[derive(serde::Deserialize)]
struct Envelope {
    error: ErrorBody,
}

#[derive(serde::Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
    request_id: Option<String>,
}

/// RFC 9110, 10.2.3: seconds, or a date, which is compared with the reply's own `Date` if it has one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    let date = headers.get(reqwest::header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    then.duration_since(date.unwrap_or_else(|| Clock::System.now().wall.into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> UpstreamError {
        let endpoint = Endpoint::parse("https://iam.example.test").unwrap();
        let token = SecretString::from("canary-token");
        let call = Call { method: "assumeRole", endpoint: &endpoint, token: &token };
        call.refused(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    fn envelope(code: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"no","request_id":"q-1"}}}}"#)
    }

    fn kind(error: &UpstreamError) -> &'static str {
        match error {
            UpstreamError::Unavailable { .. } => "unavailable",
            UpstreamError::LoginNeeded { .. } => "login needed",
            UpstreamError::Refused { .. } => "refused",
        }
    }

    #[test]
    fn every_documented_error_has_its_consequence() {
        let table = [
            (400, "invalid_request", "refused"),
            (401, "invalid_token", "login needed"),
            (401, "token_expired", "login needed"),
            (401, "session_revoked", "login needed"),
            (401, "principal_disabled", "refused"),
            (401, "something_new", "unavailable"),
            (403, "access_denied", "refused"),
            (403, "trust_policy_denied", "refused"),
            (404, "not_found", "refused"),
            (409, "conflict", "refused"),
            (409, "in_use", "refused"),
            (429, "rate_limited", "unavailable"),
            (500, "internal", "unavailable"),
            (503, "unavailable", "unavailable"),
            (503, "invalid_token", "unavailable"),
        ];
        for (status, code, want) in table {
            assert_eq!(kind(&refused(status, &envelope(code))), want, "{status} {code}");
        }
    }

    #[test]
    fn an_answer_that_is_not_the_upstreams_own_is_never_its_word() {
        for status in [301, 302, 400, 401, 403, 404, 407, 418, 500, 502, 511] {
            for body in ["", "<html>sign in</html>", "{}", r#"{"error":"invalid_token"}"#, r#"{"error":{"code":1}}"#] {
                assert_eq!(kind(&refused(status, body)), "unavailable", "{status} {body}");
            }
        }
    }

    #[test]
    fn a_message_that_repeats_the_token_or_escapes_is_cleaned() {
        let error =
            refused(403, r#"{"error":{"code":"access_denied","message":"canary-token \u001b[31m"}}"#).to_string();
        assert!(error.contains("[token]") && !error.contains("canary") && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_own_clock() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        let date = [("date", "Thu, 01 Jan 2026 00:00:00 GMT"), ("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT")];
        assert_eq!(retry_after(&headers(&date)), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    }
}
