//! The control interface, on a listener of its own: faults, call counts, the clock, limits, and
//! users that accept invitations.

use std::sync::atomic::{AtomicI64, Ordering};

use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use rusqlite::Connection;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::State;
use super::clock::Millis;
use super::error::{ApiError, status_code};
use super::fault::{CENTURY, FaultRule};
use super::fault_reply::Body;
use super::handlers::{invitations, users};
use super::methods;
use super::server::json_response;
use super::store::{TokenKind, delete_token, insert_token, new_user_token};

/// Limits of the organization.
#[derive(Debug)]
pub(super) struct Limits {
    /// In seconds; zero for no limit.
    max_session: AtomicI64,
}

impl Limits {
    pub(super) fn new(max_session: Option<u64>) -> Self {
        let seconds = max_session.and_then(|seconds| i64::try_from(seconds).ok());

        Self {
            max_session: AtomicI64::new(seconds.unwrap_or(0)),
        }
    }

    /// The longest session in seconds.
    pub(super) fn max_session(&self) -> Option<i64> {
        let seconds = self.max_session.load(Ordering::SeqCst);
        (seconds > 0).then_some(seconds)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetClock {
    advance_seconds: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetLimits {
    /// `null` for no limit. Required: an omission must not lift a limit.
    #[serde(deserialize_with = "Option::deserialize")]
    max_session_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    email: String,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptInvitation {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    expires_in_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteToken {
    token: String,
}

pub(super) type ControlResult = Result<Value, ApiError>;

pub(super) fn handle(state: &State, parts: &Parts, body: &[u8]) -> ControlResult {
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();

    match (parts.method.as_str(), path.as_slice()) {
        ("POST", ["faults"]) => add_fault(state, parse(body)?),
        ("GET", ["faults"]) => Ok(state.faults.list()),
        ("DELETE", ["faults"]) => {
            state.faults.clear();
            empty()
        }
        ("DELETE", ["faults", id]) => {
            let id = id.parse().map_err(|_| ApiError::not_found("fault", id))?;
            state.faults.remove(id);
            empty()
        }

        ("GET", ["calls"]) => Ok(list_calls(state, parts)),
        ("GET", ["calls", "counts"]) => Ok(state.call_log.counts()),
        ("DELETE", ["calls"]) => {
            state.call_log.clear();
            empty()
        }
        ("GET", ["s3-requests"]) => Ok(state.s3_request_log.list()),
        ("DELETE", ["s3-requests"]) => {
            state.s3_request_log.clear();
            empty()
        }

        ("GET", ["clock"]) => Ok(show_clock(state)),
        ("POST", ["clock"]) => advance_clock(state, &parse(body)?),
        ("POST", ["limits"]) => set_limits(state, &parse(body)?),

        ("POST", ["users"]) => add_user(state, &parse(body)?),
        ("POST", ["users", id, "token"]) => add_token(state, id, &parse(body)?),
        ("POST", ["invitations", id, "accept"]) => accept_invitation(state, id, &parse(body)?),
        ("DELETE", ["tokens"]) => remove_token(state, &parse(body)?),

        (_, ["aws", rest @ ..]) => state.aws.control(rest, parts, body, state.aws_now()),

        (verb, _) => {
            let message = format!("no control call {verb} {}", parts.uri.path());
            Err(ApiError::new(404, "not_found", message))
        }
    }
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(error.to_string()))
}

/// The reply to a call without a result.
pub(super) fn empty() -> ControlResult {
    Ok(json!({}))
}

fn add_fault(state: &State, rule: FaultRule) -> ControlResult {
    rule.check(methods::exists).map_err(ApiError::invalid)?;
    Ok(json!({ "id": state.faults.add(rule) }))
}

fn list_calls(state: &State, parts: &Parts) -> Value {
    let query = parts.uri.query().unwrap_or("");
    let method = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "method");

    state
        .call_log
        .list(method.as_ref().map(|(_, method)| &**method))
}

fn show_clock(state: &State) -> Value {
    json!({ "ahead_seconds": state.clock.ahead_seconds() })
}

fn advance_clock(state: &State, set: &SetClock) -> ControlResult {
    let ahead = state
        .clock
        .ahead_seconds()
        .saturating_add(set.advance_seconds);
    if ahead.unsigned_abs() > CENTURY {
        return Err(ApiError::invalid("advance_seconds: the limit is a century"));
    }

    state.clock.advance(set.advance_seconds);
    Ok(show_clock(state))
}

fn set_limits(state: &State, set: &SetLimits) -> ControlResult {
    let seconds = set.max_session_seconds.unwrap_or(0);
    state
        .limits
        .max_session
        .store(seconds.into(), Ordering::SeqCst);

    empty()
}

fn add_user(state: &State, new: &NewUser) -> ControlResult {
    create_user(state, |tx, now| {
        users::insert(tx, new.name.as_deref(), &new.email, now)
    })
}

fn accept_invitation(state: &State, id: &str, accept: &AcceptInvitation) -> ControlResult {
    create_user(state, |tx, now| {
        invitations::accept(tx, id, accept.name.as_deref(), now)
    })
}

/// Creates a user, and returns its id and its first token.
fn create_user(
    state: &State,
    create: impl FnOnce(&Connection, Millis) -> Result<String, ApiError>,
) -> ControlResult {
    state.store.transaction(|tx| {
        let id = create(tx, state.clock.now())?;
        let token = insert_user_token(tx, &id, None)?;
        Ok(json!({ "id": id, "token": token }))
    })
}

fn add_token(state: &State, user: &str, new: &NewToken) -> ControlResult {
    let expires_at = new
        .expires_in_seconds
        .map(|seconds| state.clock.now() + i64::from(seconds) * 1000);

    state.store.transaction(|tx| {
        let mut statement = tx.prepare_cached("SELECT 1 FROM users WHERE id = ?")?;
        if !statement.exists([user])? {
            return Err(ApiError::not_found("user", user));
        }
        Ok(json!({ "token": insert_user_token(tx, user, expires_at)? }))
    })
}

fn insert_user_token(
    tx: &Connection,
    user: &str,
    expires_at: Option<Millis>,
) -> rusqlite::Result<String> {
    let token = new_user_token();
    insert_token(tx, &token, TokenKind::User, user, expires_at)?;
    Ok(token)
}

fn remove_token(state: &State, delete: &DeleteToken) -> ControlResult {
    state.store.transaction(|tx| {
        let deleted = delete_token(tx, &delete.token)?;
        Ok(json!({ "deleted": deleted }))
    })
}

pub(super) fn response(result: ControlResult) -> Response<Body> {
    match result {
        Ok(body) => json_response(StatusCode::OK, body.to_string()),
        Err(error) => {
            let body = json!({ "error": { "code": error.code, "message": error.message } });
            json_response(status_code(error.status), body.to_string())
        }
    }
}
