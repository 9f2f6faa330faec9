//! Calls of ByCloud IAM: parameters into path, query and body (A2, A3), the bearer token (A4), and every reply classified
//! (A6). [`ByCloud::send`] adds types on top of [`ByCloud::call`].

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::error::{IamError, ServiceError};
use super::{ByCloud, Method, Route, Verb};
use crate::config::Endpoint;
use crate::text::one_line;
use crate::token_source::TokenSource;
use crate::upstream::http::{DateStamp, HttpError, retry_after};

/// What a path segment shows unescaped (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A typed reply.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    pub(crate) value: T,
    /// Of the body, in bytes.
    pub(super) length: usize,
    /// The id of the call in the audit log (A6).
    pub(crate) request_id: Option<String>,
}

/// The reply to a call that succeeded, not yet parsed.
pub(super) struct RawReply {
    /// JSON; empty after a 204.
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) request_id: Option<String>,
    date: Option<DateStamp>,
}

impl ByCloud {
    /// Sends a request as the principal, and parses the reply.
    ///
    /// # Errors
    /// When the token cannot be read, the service rejects the call, or there is no valid reply.
    pub(crate) async fn send<M: Method>(&self, request: &M) -> Result<Reply<M::Reply>, IamError> {
        let route = M::ROUTE;
        let Ok(Value::Object(parameters)) = serde_json::to_value(request) else {
            return Err(IamError::Invalid {
                method: route.name,
                why: "the request is not an object".into(),
            });
        };

        let raw = self.call(&route, parameters, None).await?;

        let text: &[u8] = if raw.body.is_empty() {
            b"null"
        } else {
            &raw.body
        };

        let value = serde_json::from_slice(text).map_err(|_| IamError::NoAnswer {
            what: format!(
                "{} at {}: not the documented reply",
                route.name,
                self.endpoint()
            ),
            retry_after: None,
            hint: None,
        })?;

        self.learn_time(raw.date);

        Ok(Reply {
            value,
            length: raw.body.len(),
            request_id: raw.request_id,
        })
    }

    /// Makes one call: with a session's token, or else as the principal.
    pub(super) async fn call(
        &self,
        route: &Route,
        mut parameters: Map<String, Value>,
        session_token: Option<&SecretString>,
    ) -> Result<RawReply, IamError> {
        parameters.retain(|_, value| !value.is_null());
        let path = path(route, &mut parameters).map_err(|why| IamError::Invalid {
            method: route.name,
            why,
        })?;

        let token = match session_token.or(self.token.as_ref()) {
            Some(token) => token.clone(),
            None => self.token_source.token().await?,
        };

        let request = self
            .http
            .request(verb(route.verb), &path)
            .header(AUTHORIZATION, authorization(&token));
        let request = match route.verb {
            Verb::Get | Verb::Delete => request.query(&query(parameters)),
            Verb::Post | Verb::Patch => request
                .header(CONTENT_TYPE, "application/json")
                .body(Value::Object(parameters).to_string()),
        };

        let sent = SentCall {
            method: route.name,
            endpoint: self.endpoint(),
            token: &token,
            token_source: Some(&self.token_source),
        };

        let reply = self
            .http
            .send(request)
            .await
            .map_err(|error| sent.no_reply(&error))?;

        if !reply.status.is_success() {
            let error = sent.error(reply.status, &reply.headers, &reply.body);
            self.learn_from(&error, reply.date, session_token);
            return Err(error);
        }

        if !is_json(&reply.body) {
            let status = reply.status.as_u16();
            return Err(sent.no_answer(
                &format!("a {status} that is not the documented reply"),
                None,
            ));
        }

        let request_id = reply
            .headers
            .get("x-request-id")
            .and_then(|id| Some(sent.clean(id.to_str().ok()?)));
        Ok(RawReply {
            body: reply.body,
            request_id,
            date: reply.date,
        })
    }

    fn learn_from(
        &self,
        error: &IamError,
        date: Option<DateStamp>,
        session_token: Option<&SecretString>,
    ) {
        let Some(service) = error.service_error() else {
            return;
        };

        if service.is_rejection() {
            self.learn_time(date);
        }

        let is_from_source = session_token.is_none() && self.token.is_none();
        if is_from_source
            && matches!(
                service,
                ServiceError::InvalidToken | ServiceError::TokenExpired
            )
        {
            self.token_source.discard_cached();
        }
    }

    fn learn_time(&self, date: Option<DateStamp>) {
        if let Some(date) = date {
            date.teach(&self.server_clock);
        }
    }
}

fn verb(verb: Verb) -> reqwest::Method {
    match verb {
        Verb::Get => reqwest::Method::GET,
        Verb::Post => reqwest::Method::POST,
        Verb::Patch => reqwest::Method::PATCH,
        Verb::Delete => reqwest::Method::DELETE,
    }
}

/// The path, with its parameters removed from the others. Each is one segment, whatever it contains.
fn path(route: &Route, parameters: &mut Map<String, Value>) -> Result<String, String> {
    let mut path = String::from("/iam/v1");
    for segment in route.path.split('/').skip(1) {
        path.push('/');
        let name = segment
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        let Some(name) = name else {
            path += segment;
            continue;
        };

        match parameters.remove(name) {
            Some(Value::String(text)) if !matches!(text.as_str(), "" | "." | "..") => {
                path.extend(utf8_percent_encode(&text, SEGMENT));
            }
            Some(_) => return Err(format!("{name} is not an id")),
            None => return Err(format!("{name} is missing")),
        }
    }

    Ok(path)
}

fn query(parameters: Map<String, Value>) -> Vec<(String, String)> {
    parameters
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect()
}

/// Marked as sensitive, so that no log prints it.
fn authorization(token: &SecretString) -> HeaderValue {
    let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    // Tokens are validated when they are read or issued.
    let mut value =
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);

    value
}

fn is_json(body: &[u8]) -> bool {
    let is_valid = |text| serde_json::from_str::<IgnoredAny>(text).is_ok();

    std::str::from_utf8(body).is_ok_and(|text| text.is_empty() || is_valid(text))
}

/// A call that was sent, for messages about it.
pub(crate) struct SentCall<'a> {
    pub(crate) method: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) token: &'a SecretString,
    pub(crate) token_source: Option<&'a TokenSource>,
}

impl SentCall<'_> {
    /// Classifies a reply that is not a success. Only the service's own error envelope (A6) means something about a
    /// token or a role: the page of a proxy or a captive portal does not.
    pub(crate) fn error(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> IamError {
        let Some(error) = ErrorBody::read(body) else {
            return self.no_answer(
                &format!("answered {status}, not as ByCloud IAM does"),
                retry_after(headers),
            );
        };

        let request_id = self.clean(&error.request_id);
        IamError::Service {
            what: format!(
                "{} at {}: {} ({}, request {request_id})",
                self.method,
                self.endpoint,
                self.clean(&error.message),
                self.clean(&error.code),
            ),
            error: ServiceError::new(status.as_u16(), &error.code),
            request_id: Some(request_id),
            retry_after: retry_after(headers),
            new_token: self
                .token_source
                .map_or_else(|| "use a new token".into(), TokenSource::new_token_hint),
        }
    }

    fn no_reply(&self, error: &HttpError) -> IamError {
        match error {
            HttpError::NoReply { message, hint } => IamError::NoAnswer {
                what: format!("{} at {}: {message}", self.method, self.endpoint),
                retry_after: None,
                hint: hint.clone(),
            },
            HttpError::TooLong => IamError::TooLong {
                what: format!("{} at {}: {error}", self.method, self.endpoint),
            },
        }
    }

    fn no_answer(&self, why: &str, retry_after: Option<std::time::Duration>) -> IamError {
        IamError::NoAnswer {
            what: format!("{} at {}: {why}", self.method, self.endpoint),
            retry_after,
            hint: None,
        }
    }

    /// A text of the upstream's, safe for a terminal and a log: short, printable, and with the token replaced.
    fn clean(&self, text: &str) -> String {
        one_line(&text.replace(self.token.expose_secret(), "[token]"))
    }
}

/// A6.
struct ErrorBody {
    code: String,
    message: String,
    request_id: String,
}

impl ErrorBody {
    /// All three fields are required, because the errors of many gateways have the first two. A derived reader would
    /// also accept lists for objects.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::UpstreamError;

    fn error(status: u16, body: &str) -> IamError {
        let endpoint = Endpoint::parse("https://iam.example.test").unwrap();
        let token = SecretString::from("canary-token");
        let call = SentCall {
            method: "assumeRole",
            endpoint: &endpoint,
            token: &token,
            token_source: None,
        };
        call.error(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
        )
    }

    fn refused(status: u16, body: &str) -> UpstreamError {
        error(status, body).into()
    }

    fn envelope(code: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"no","request_id":"q-1"}}}}"#)
    }

    fn kind(error: &UpstreamError) -> &'static str {
        match error {
            UpstreamError::Unavailable { .. } => "unavailable",
            UpstreamError::LoginNeeded { .. } => "login needed",
            UpstreamError::MfaNeeded { .. } => "MFA needed",
            UpstreamError::Refused { .. } => "refused",
        }
    }

    #[test]
    fn documented_errors_map_to_upstream_errors() {
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
    fn replies_without_error_envelope_are_unavailable() {
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
    fn token_and_escapes_in_messages_are_removed() {
        let error =
            refused(403, r#"{"error":{"code":"access_denied","message":"canary-token \u001b[31m\u202e","request_id":"q"}}"#)
                .to_string();
        assert!(
            error.contains("[token]")
                && !error.contains("canary")
                && !error.contains(rolekeeper::text::is_hidden),
            "{error}"
        );
    }

    #[test]
    fn path_parameters_stay_one_segment() {
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
}
