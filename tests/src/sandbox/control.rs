//! The control interface: what no cloud offers, on a listener of its own. Faults, counted calls, time, limits, and the
//! users that an invitation would bring.

use std::sync::atomic::{AtomicI64, Ordering};

use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use rusqlite::Connection;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::State;
use super::clock::Millis;
use super::error::ApiError;
use super::fault::{CENTURY, Order};
use super::handlers::{invitations, users};
use super::server::{Body, raw};
use super::store::{TokenKind, forget_token, put_token, random_text};

/// What the organisation limits.
#[derive(Debug)]
pub(super) struct Limits {
    /// Zero for none.
    max_session: AtomicI64,
}

impl Limits {
    pub(super) fn new(max_session: Option<u64>) -> Self {
        Self {
            max_session: AtomicI64::new(
                max_session
                    .and_then(|most| i64::try_from(most).ok())
                    .unwrap_or(0),
            ),
        }
    }

    /// The longest session that is granted, in seconds.
    pub(super) fn max_session(&self) -> Option<i64> {
        Some(self.max_session.load(Ordering::SeqCst)).filter(|most| *most > 0)
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
    /// `null` for none; it must be said.
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
struct Accepted {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    expires_in_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldToken {
    token: String,
}

pub(super) fn answer(state: &State, parts: &Parts, body: &[u8]) -> Result<Value, ApiError> {
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    match (parts.method.as_str(), path.as_slice()) {
        ("POST", ["faults"]) => {
            let order: Order = read(body)?;
            order.check().map_err(ApiError::invalid)?;
            Ok(json!({ "id": state.faults.add(order) }))
        }
        ("GET", ["faults"]) => Ok(state.faults.list()),
        ("DELETE", ["faults"]) => {
            state.faults.remove(None);
            Ok(json!({}))
        }
        ("DELETE", ["faults", id]) => {
            let id = id.parse().map_err(|_| ApiError::not_found("fault", id))?;
            state.faults.remove(Some(id));
            Ok(json!({}))
        }
        ("GET", ["calls"]) => {
            let query = parts.uri.query().unwrap_or("");
            let method =
                form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "method");
            Ok(state
                .calls
                .list(method.as_ref().map(|(_, method)| &**method)))
        }
        ("GET", ["calls", "counts"]) => Ok(state.calls.counts()),
        ("DELETE", ["calls"]) => {
            state.calls.clear();
            Ok(json!({}))
        }
        ("GET", ["s3-requests"]) => Ok(state.s3_requests.list()),
        ("DELETE", ["s3-requests"]) => {
            state.s3_requests.clear();
            Ok(json!({}))
        }
        ("GET", ["clock"]) => Ok(json!({ "ahead_seconds": state.clock.ahead_seconds() })),
        ("POST", ["clock"]) => {
            let seconds = read::<SetClock>(body)?.advance_seconds;
            if state
                .clock
                .ahead_seconds()
                .saturating_add(seconds)
                .unsigned_abs()
                > CENTURY
            {
                return Err(ApiError::invalid(
                    "advance_seconds: the clock goes a century at the most",
                ));
            }
            state.clock.advance(seconds);
            Ok(json!({ "ahead_seconds": state.clock.ahead_seconds() }))
        }
        ("POST", ["limits"]) => {
            let most = read::<SetLimits>(body)?.max_session_seconds.unwrap_or(0);
            state
                .limits
                .max_session
                .store(most.into(), Ordering::SeqCst);
            Ok(json!({}))
        }
        ("POST", ["users"]) => {
            let NewUser { email, name } = read(body)?;
            new_user(state, |tx, now| {
                users::insert(tx, name.as_deref(), &email, now)
            })
        }
        ("POST", ["invitations", id, "accept"]) => {
            let Accepted { name } = read(body)?;
            new_user(state, |tx, now| {
                invitations::accept(tx, id, name.as_deref(), now)
            })
        }
        ("POST", ["users", id, "token"]) => add_token(state, id, &read(body)?),
        ("DELETE", ["tokens"]) => {
            let OldToken { token } = read(body)?;
            state
                .store
                .call(|tx| Ok(json!({ "forgotten": forget_token(tx, &token)? })))
        }
        (verb, _) => Err(ApiError::new(
            404,
            "not_found",
            format!("no control call {verb} {}", parts.uri.path()),
        )),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(error.to_string()))
}

/// Makes a user and shows it with its first token.
fn new_user(
    state: &State,
    make: impl FnOnce(&Connection, Millis) -> Result<String, ApiError>,
) -> Result<Value, ApiError> {
    state.store.call(|tx| {
        let id = make(tx, state.clock.now())?;
        Ok(json!({ "id": id, "token": user_token(tx, &id, None)? }))
    })
}

fn add_token(state: &State, user: &str, new: &NewToken) -> Result<Value, ApiError> {
    let end = new
        .expires_in_seconds
        .map(|seconds| state.clock.now() + i64::from(seconds) * 1000);
    state.store.call(|tx| {
        if !tx
            .prepare_cached("SELECT 1 FROM users WHERE id = ?")?
            .exists([user])?
        {
            return Err(ApiError::not_found("user", user));
        }
        Ok(json!({ "token": user_token(tx, user, end)? }))
    })
}

fn user_token(tx: &Connection, user: &str, end: Option<Millis>) -> rusqlite::Result<String> {
    let token = random_text("byu_", 48);
    put_token(tx, &token, TokenKind::User, user, end).map(|()| token)
}

pub(super) fn response(answer: Result<Value, ApiError>) -> Response<Body> {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => {
            let status =
                StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (
                status,
                json!({ "error": { "code": error.code, "message": error.message } }),
            )
        }
    };
    let mut response = raw("application/json", body.to_string().into());
    *response.status_mut() = status;
    response
}
