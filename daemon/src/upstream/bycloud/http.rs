//! The one way a request leaves for ByCloud IAM: [`ByCloud::call`], and [`ByCloud::send`] with types on top. Timeouts, no
//! redirects, TLS unless loopback, a cap on replies, and one reading of every answer.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::tls::{Certificate, Version};
use reqwest::{Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use thiserror::Error;
use zeroize::Zeroizing;

use super::error::{IamError, ServiceError};
use super::{ByCloud, Method, Route, Verb};
use crate::clock::{BootTime, Clock};
use crate::config::{Endpoint, HttpTransport, Proxy};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole call, slow bodies included.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection waits for another call. Its buffers hold what went over it, a token and a session, until it is
/// closed; calls of one task follow each other sooner than this, and others are half a minute apart.
const POOL_IDLE: Duration = Duration::from_secs(1);
/// The longest reply that is read, in bytes: a thousand policies of 8 KiB.
const REPLY_CAP: usize = 8 * 1024 * 1024;
/// What stands in a path segment as it is (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// The most that is repeated of an upstream's message, in characters.
const MESSAGE_CAP: usize = 200;

/// The HTTP client cannot be set up on this machine.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error("the HTTP client for {endpoint} cannot be set up: {cause}")]
    Client {
        endpoint: Endpoint,
        cause: reqwest::Error,
    },
    #[error("the certificates in {path} cannot be used: {why}", path = path.display())]
    Authorities { path: PathBuf, why: String },
}

impl SetupError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Client { .. } => {
                "see that the system has a certificate store (Debian: ca-certificates)"
            }
            Self::Authorities { .. } => {
                "name a file with certificates in PEM as the upstream's `ca`"
            }
        }
    }
}

/// A client that sends tokens to the endpoint and nowhere else.
pub(super) fn client(
    endpoint: &Endpoint,
    way: &HttpTransport,
) -> Result<reqwest::Client, SetupError> {
    let broken = |cause| SetupError::Client {
        endpoint: endpoint.clone(),
        cause,
    };
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
    let builder = if endpoint.is_loopback_http() {
        builder.no_proxy().tls_certs_only([])
    } else {
        let builder = match &way.proxy {
            Proxy::Environment => builder,
            Proxy::Nothing => builder.no_proxy(),
            Proxy::At(url) => {
                builder.proxy(reqwest::Proxy::all(url.expose_secret()).map_err(broken)?)
            }
        };
        let builder = builder.https_only(true).tls_version_min(Version::TLS_1_2);
        match &way.ca {
            Some(path) => builder.tls_certs_only(authorities(path)?),
            None => builder,
        }
    };
    builder.build().map_err(broken)
}

/// Those that an upstream's certificate has to be signed by.
fn authorities(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let fail = |why: String| SetupError::Authorities {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&text).map_err(|error| fail(error.to_string()))?;
    if found.is_empty() {
        Err(fail("there is none in it".into()))
    } else {
        Ok(found)
    }
}

/// What came back with a success.
pub struct Answer {
    /// JSON; empty after a 204.
    pub body: Zeroizing<Vec<u8>>,
    /// A6: how the audit log names the call.
    pub request_id: Option<String>,
    /// Its `Date`, and when the request left and the answer was there.
    stamp: Option<Stamp>,
}

type Stamp = (Timestamp, BootTime, BootTime);

impl ByCloud {
    /// Sends a request of a known type as the principal, and reads its reply.
    pub async fn send<M: Method>(&self, request: &M) -> Result<M::Reply, IamError> {
        self.send_noted(request).await.map(|(reply, _)| reply)
    }

    /// The same, with the request's id.
    pub async fn send_noted<M: Method>(
        &self,
        request: &M,
    ) -> Result<(M::Reply, Option<String>), IamError> {
        let route = M::ROUTE;
        let invalid = |why: String| IamError::Invalid {
            method: route.name,
            why,
        };
        let Ok(Value::Object(parameters)) = serde_json::to_value(request) else {
            return Err(invalid("the request is not an object".into()));
        };
        let Answer {
            body,
            request_id,
            stamp,
        } = self.call(&route, parameters, &self.token().await?).await?;
        let text: &[u8] = if body.is_empty() { b"null" } else { &body };
        let reply = serde_json::from_slice(text).map_err(|_| IamError::NoAnswer {
            what: format!(
                "{} at {}: a reply that is not the documented one",
                route.name, self.endpoint
            ),
            retry_after: None,
        })?;
        self.learn_time(stamp);
        Ok((reply, request_id))
    }

    /// The principal's token, as it is now.
    pub async fn token(&self) -> Result<SecretString, IamError> {
        match &self.given {
            Some(token) => Ok(token.clone()),
            None => Ok(self.key.token().await?),
        }
    }

    /// The one way out: parameters into path, query and body (A2, A3), the answer read whole, an error classified (A6).
    pub async fn call(
        &self,
        route: &Route,
        mut parameters: Map<String, Value>,
        bearer: &SecretString,
    ) -> Result<Answer, IamError> {
        let call = Call {
            method: route.name,
            endpoint: &self.endpoint,
            token: bearer,
        };
        parameters.retain(|_, value| !value.is_null());
        let path = path(route, &mut parameters).map_err(|why| IamError::Invalid {
            method: route.name,
            why,
        })?;
        let verb = match route.verb {
            Verb::Get => reqwest::Method::GET,
            Verb::Post => reqwest::Method::POST,
            Verb::Patch => reqwest::Method::PATCH,
            Verb::Delete => reqwest::Method::DELETE,
        };
        let mut request = self
            .http
            .load()
            .request(verb, self.endpoint.join(&path))
            .header(AUTHORIZATION, authorization(bearer));
        request = match route.verb {
            Verb::Get | Verb::Delete => request.query(&query(parameters)),
            Verb::Post | Verb::Patch => request
                .header(CONTENT_TYPE, "application/json")
                .body(Value::Object(parameters).to_string()),
        };
        let sent = Clock::System.now().boot;
        let response = request.send().await.map_err(|error| call.broken(error))?;
        let (status, headers, received) = (
            response.status(),
            response.headers().clone(),
            Clock::System.now().boot,
        );
        let body = read(response, &call).await?;
        let text = std::str::from_utf8(&body).ok();
        let is_json = text.is_some_and(|text| {
            text.is_empty() || serde_json::from_str::<IgnoredAny>(text).is_ok()
        });
        let stamp =
            date(&headers).and_then(|date| Some((Timestamp::try_from(date).ok()?, sent, received)));
        if status.is_success() && is_json {
            let request_id = headers
                .get("x-request-id")
                .and_then(|id| Some(call.clean(id.to_str().ok()?)));
            return Ok(Answer {
                body,
                request_id,
                stamp,
            });
        }
        if status.is_success() {
            return Err(call.no_answer(
                &format!("a {} that is not the documented reply", status.as_u16()),
                None,
            ));
        }
        let refused = call.refused(status, &headers, &body);
        if matches!(
            refused.said(),
            Some(ServiceError::InvalidToken | ServiceError::TokenExpired)
        ) {
            self.key.was_refused();
        }
        if refused.said().is_some_and(ServiceError::is_verdict) {
            self.learn_time(stamp);
        }
        Err(refused)
    }

    /// Only from answers that the upstream has surely given: a captive portal's clock, or that of a machine that cannot
    /// reach it, is not the upstream's.
    fn learn_time(&self, stamp: Option<Stamp>) {
        if let Some((date, sent, received)) = stamp {
            self.server_clock.dated(date, sent, received);
        }
    }
}

/// The path with its parameters taken out of the others. They stay one segment each, whatever they contain.
fn path(route: &Route, parameters: &mut Map<String, Value>) -> Result<String, String> {
    let mut path = String::from("/iam/v1");
    for segment in route.path.split('/').skip(1) {
        path.push('/');
        match segment
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
        {
            None => path += segment,
            Some(name) => match parameters.remove(name) {
                Some(Value::String(text)) if !matches!(text.as_str(), "" | "." | "..") => {
                    path.extend(utf8_percent_encode(&text, SEGMENT));
                }
                Some(_) => return Err(format!("{name} is not an id")),
                None => return Err(format!("{name} is missing")),
            },
        }
    }
    Ok(path)
}

fn query(parameters: Map<String, Value>) -> Vec<(String, String)> {
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    parameters
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

/// Marked, so that nothing on the way prints it.
fn authorization(bearer: &SecretString) -> HeaderValue {
    let text = Zeroizing::new(format!("Bearer {}", bearer.expose_secret()));
    // A token has been looked through when it was read; a service's is looked through when it is granted.
    let mut value =
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);
    value
}

async fn read(mut response: Response, call: &Call<'_>) -> Result<Zeroizing<Vec<u8>>, IamError> {
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(|error| call.broken(error))? {
        if text.len() + chunk.len() > REPLY_CAP {
            let what = format!(
                "{} at {}: a reply of more than {REPLY_CAP} bytes",
                call.method, call.endpoint
            );
            return Err(IamError::TooLong { what });
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// What a message about a call needs.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) token: &'a SecretString,
}

impl Call<'_> {
    fn no_answer(&self, what: &dyn std::fmt::Display, retry_after: Option<Duration>) -> IamError {
        IamError::NoAnswer {
            what: format!("{} at {}: {what}", self.method, self.endpoint),
            retry_after,
        }
    }

    /// No answer, or half of one.
    fn broken(&self, error: reqwest::Error) -> IamError {
        let error = error.without_url();
        if error.is_timeout() && !error.is_connect() {
            return self.no_answer(
                &format!("no answer within {} s", TOTAL_TIMEOUT.as_secs()),
                None,
            );
        }
        let mut causes = vec![error.to_string()];
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            causes.push(inner.to_string());
            cause = inner.source();
        }
        causes.dedup();
        self.no_answer(&causes.join(": "), None)
    }

    /// An answer that is not a success. Only the upstream's own error envelope (A6) counts as its word: a proxy's page
    /// or a captive portal's says nothing about a token or a role.
    pub(crate) fn refused(&self, status: StatusCode, headers: &HeaderMap, text: &[u8]) -> IamError {
        let Some(error) = ErrorBody::read(text) else {
            return self.no_answer(
                &format!("answered {status}, not as ByCloud IAM does"),
                retry_after(headers),
            );
        };
        let request_id = self.clean(&error.request_id);
        IamError::Service {
            what: format!(
                "{} at {}: {} ({}, request {})",
                self.method,
                self.endpoint,
                self.clean(&error.message),
                self.clean(&error.code),
                request_id,
            ),
            said: ServiceError::new(status.as_u16(), &error.code),
            request_id: Some(request_id),
            retry_after: retry_after(headers),
        }
    }

    /// A text of the upstream's, fit for a terminal and a log: short, printable, and without the token if it repeats it.
    fn clean(&self, text: &str) -> String {
        let text = text.replace(self.token.expose_secret(), "[token]");
        text.chars()
            .map(|each| if each.is_control() { ' ' } else { each })
            .take(MESSAGE_CAP)
            .collect()
    }
}

/// A6.
struct ErrorBody {
    code: String,
    message: String,
    request_id: String,
}

impl ErrorBody {
    /// Field by field: a derived reader would also take lists for objects. All three have to be there: many a gateway's
    /// error has the first two.
    fn read(text: &[u8]) -> Option<Self> {
        let envelope: Value = serde_json::from_slice(text).ok()?;
        let error = envelope.get("error")?;
        let field = |name| error.get(name)?.as_str().map(str::to_owned);
        Some(Self {
            code: field("code")?,
            message: field("message")?,
            request_id: field("request_id")?,
        })
    }
}

/// RFC 9110, 10.2.3: seconds, or a date, which is compared with the reply's own `Date` if it has one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    then.duration_since(date(headers).unwrap_or_else(|| Clock::System.now().wall.into()))
        .ok()
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::UpstreamError;

    fn said(status: u16, body: &str) -> IamError {
        let endpoint = Endpoint::parse("https://iam.example.test").unwrap();
        let token = SecretString::from("canary-token");
        let call = Call {
            method: "assumeRole",
            endpoint: &endpoint,
            token: &token,
        };
        call.refused(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
        )
    }

    fn refused(status: u16, body: &str) -> UpstreamError {
        said(status, body).into()
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
            assert_eq!(
                kind(&refused(status, &envelope(code))),
                want,
                "{status} {code}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_not_the_upstreams_own_is_never_its_word() {
        for status in [301, 302, 400, 401, 403, 404, 407, 418, 500, 502, 511] {
            for body in [
                "",
                "<html>sign in</html>",
                "{}",
                r#"{"error":"invalid_token"}"#,
                r#"{"error":{"code":1}}"#,
            ] {
                assert_eq!(
                    kind(&refused(status, body)),
                    "unavailable",
                    "{status} {body}"
                );
            }
        }
    }

    #[test]
    fn a_message_that_repeats_the_token_or_escapes_is_cleaned() {
        let error =
            refused(403, r#"{"error":{"code":"access_denied","message":"canary-token \u001b[31m","request_id":"q"}}"#)
                .to_string();
        assert!(
            error.contains("[token]") && !error.contains("canary") && !error.contains('\u{1b}'),
            "{error}"
        );
    }

    #[test]
    fn path_parameters_stay_one_segment_and_leave_the_others() {
        let route = Route {
            name: "x",
            verb: Verb::Get,
            path: "/roles/{role_id}/policies",
            parameters: &[],
        };
        let given = |id: &str| {
            serde_json::json!({ "role_id": id, "limit": 5 })
                .as_object()
                .unwrap()
                .clone()
        };
        for (id, want) in [
            ("r-1", "r-1"),
            ("a/b", "a%2Fb"),
            ("../x", "..%2Fx"),
            ("a b?#%é", "a%20b%3F%23%25%C3%A9"),
        ] {
            let mut parameters = given(id);
            assert_eq!(
                path(&route, &mut parameters).unwrap(),
                format!("/iam/v1/roles/{want}/policies")
            );
            assert_eq!(query(parameters), [("limit".to_owned(), "5".to_owned())]);
        }
        for id in ["", ".", ".."] {
            assert!(
                path(&route, &mut given(id))
                    .unwrap_err()
                    .contains("role_id is not an id"),
                "{id:?}"
            );
        }
        assert!(
            path(&route, &mut Map::new())
                .unwrap_err()
                .contains("role_id is missing")
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_own_clock() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>()
        };
        assert_eq!(
            retry_after(&headers(&[("retry-after", "7")])),
            Some(Duration::from_secs(7))
        );
        let date = [
            ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"),
        ];
        assert_eq!(retry_after(&headers(&date)), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    }
}
