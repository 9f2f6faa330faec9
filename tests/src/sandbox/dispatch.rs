//! The path of a request: find the method, count the call, apply a fault, authenticate, read the parameters, authorise,
//! handle, reply.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::State;
use super::audit::{self, Entry};
use super::auth::{Caller, authenticate};
use super::clock::Millis;
use super::error::ApiError;
use super::fault::Fault;
use super::handlers::{Call, resource_of};
use super::methods::{self, Answer, Found, Method};
use super::params::Params;
use super::store::new_id;

/// What is to be sent, before a fault spoils it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    pub(super) request_id: String,
    /// The verbs that the path takes, if it does not take this one.
    pub(super) allow: Option<String>,
}

/// A request that has arrived and been counted, and the fault that awaits it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) request_id: String,
    pub(super) fault: Option<Fault>,
    found: Result<Found, ApiError>,
    seq: Option<u64>,
}

/// A body, or why it could not be read.
type Body<'a> = Result<&'a [u8], ApiError>;

impl State {
    pub(super) fn arrive(&self, parts: &Parts) -> Arrival {
        let request_id = new_id();
        let found = methods::find(parts.method.as_str(), parts.uri.path());
        let name = found.as_ref().ok().map(|(method, _)| method.name());
        let fault = name.and_then(|name| self.faults.take(name));
        let kind = fault.as_ref().map(Fault::kind);
        let seq = name.map(|name| {
            self.calls
                .arrived(name, self.clock.now(), &request_id, kind)
        });
        Arrival {
            request_id,
            fault,
            found,
            seq,
        }
    }

    pub(super) fn handle(
        &self,
        arrival: Arrival,
        parts: &Parts,
        body: Body<'_>,
        ip: IpAddr,
    ) -> Reply {
        let Arrival {
            request_id,
            found,
            seq,
            ..
        } = arrival;
        let (caller, answer) = match found {
            Err(error) => (None, Err(error)),
            Ok(found) => self
                .noted(&found, parts, body, ip, &request_id)
                .unwrap_or_else(|error| (None, Err(ApiError::from(error)))),
        };
        let reply = Reply::of(answer, request_id);
        if let Some(seq) = seq {
            self.calls.answered(
                seq,
                reply.status.as_u16(),
                caller.map(|caller| caller.principal_id),
            );
        }
        reply
    }

    /// The call and its entry in the audit log, in one transaction.
    fn noted(
        &self,
        (method, path): &Found,
        parts: &Parts,
        body: Body<'_>,
        ip: IpAddr,
        request_id: &str,
    ) -> rusqlite::Result<(Option<Caller>, Answer)> {
        let (now, target) = (self.clock.now(), path.first().map(|(_, id)| id.as_str()));
        self.store.noted(
            |tx| {
                let caller = match self.authenticate(tx, parts, now) {
                    Ok(caller) => caller,
                    Err(error) => return (None, Err(error)),
                };
                let query = parts.uri.query().unwrap_or("");
                let answer = body
                    .and_then(|body| Params::read(&method.documented, path, query, body))
                    .and_then(|params| {
                        let (org, limits) = (&self.store.org, &self.limits);
                        authorised(
                            method,
                            target,
                            &Call {
                                caller: &caller,
                                params: &params,
                                org,
                                now,
                                ip,
                                limits,
                            },
                            tx,
                        )
                    });
                (Some(caller), answer)
            },
            |tx, caller, answer| {
                audit::note(
                    tx,
                    &Entry {
                        method,
                        target,
                        caller: caller.as_ref(),
                        ip,
                        request_id,
                        now,
                    },
                    answer,
                )
            },
        )
    }

    /// Notes an answer that no handler gave.
    pub(super) fn answered(&self, arrival: &Arrival, status: StatusCode) {
        if let Some(seq) = arrival.seq {
            self.calls.answered(seq, status.as_u16(), None);
        }
    }

    fn authenticate(
        &self,
        tx: &Connection,
        parts: &Parts,
        now: Millis,
    ) -> Result<Caller, ApiError> {
        let authorization = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        authenticate(tx, &self.store.org, authorization, now)
    }
}

fn authorised(method: &Method, id: Option<&str>, call: &Call<'_>, tx: &Connection) -> Answer {
    let (action, resource) = (method.action(), resource_of(call, method.kind, id, tx)?);
    if !call.caller.may(&action, &resource) && !call.is_own_session(method.kind, id, tx)? {
        let name = resource.0.first().map_or("*", String::as_str);
        let message =
            format!("no policy of the caller allows {action} on {name}, or one denies it");
        return Err(ApiError::denied(message));
    }
    (method.handler)(call, tx)
}

impl Reply {
    fn of(answer: Answer, request_id: String) -> Self {
        match answer {
            Err(error) => Self::error(error, &request_id),
            Ok((status, body)) => {
                let body = body
                    .map(|body| body.to_string().into_bytes())
                    .unwrap_or_default();
                Self {
                    status: status_code(status),
                    body,
                    request_id,
                    allow: None,
                }
            }
        }
    }

    pub(super) fn error(error: ApiError, request_id: &str) -> Self {
        let body = error_body(&error, request_id).to_string().into_bytes();
        Self {
            status: status_code(error.status),
            body,
            request_id: request_id.into(),
            allow: error.allow,
        }
    }
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A6.
fn error_body(error: &ApiError, request_id: &str) -> Value {
    json!({ "error": { "code": error.code, "message": error.message, "request_id": request_id } })
}
