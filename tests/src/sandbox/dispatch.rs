//! The path of a request: find the method, count the call, apply a fault, authenticate, read the parameters, authorise,
//! handle, reply.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use rusqlite::Transaction;
use serde_json::{Value, json};

use super::State;
use super::auth::{Caller, authenticate};
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
}

/// A request that has arrived and been counted, and the fault that awaits it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) request_id: String,
    pub(super) fault: Option<Fault>,
    found: Result<Found, ApiError>,
    seq: Option<u64>,
}

impl State {
    pub(super) fn arrive(&self, parts: &Parts) -> Arrival {
        let request_id = new_id();
        let found = methods::find(parts.method.as_str(), parts.uri.path());
        let name = found.as_ref().ok().map(|(method, _)| method.name());
        let fault = name.and_then(|name| self.faults.take(name));
        let kind = fault.as_ref().map(Fault::kind);
        let seq = name.map(|name| self.calls.arrived(name, self.clock.now(), &request_id, kind));
        Arrival { request_id, fault, found, seq }
    }

    pub(super) fn handle(&self, arrival: Arrival, parts: &Parts, body: &[u8], ip: IpAddr) -> Reply {
        let Arrival { request_id, found, seq, .. } = arrival;
        let mut actor = None;
        let answer = found.and_then(|(method, path)| {
            self.store.call(|tx| {
                let caller = self.authenticate(tx, parts)?;
                actor = Some(caller.principal_id.clone());
                let params = Params::read(&method.documented, &path, parts.uri.query().unwrap_or(""), body)?;
                self.authorised(method, &path, &caller, &params, ip, tx)
            })
        });
        let reply = Reply::of(answer, request_id);
        if let Some(seq) = seq {
            self.calls.answered(seq, reply.status.as_u16(), actor);
        }
        reply
    }

    /// Notes an answer that no handler gave.
    pub(super) fn answered(&self, arrival: &Arrival, status: StatusCode) {
        if let Some(seq) = arrival.seq {
            self.calls.answered(seq, status.as_u16(), None);
        }
    }

    fn authenticate(&self, tx: &Transaction<'_>, parts: &Parts) -> Result<Caller, ApiError> {
        let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        authenticate(tx, &self.store.org, authorization, self.clock.now())
    }

    fn authorised(
        &self,
        method: &Method,
        path: &[(String, String)],
        caller: &Caller,
        params: &Params,
        ip: IpAddr,
        tx: &Transaction<'_>,
    ) -> Answer {
        let id = path.first().map(|(_, id)| id.as_str());
        let call = Call { caller, params, org: &self.store.org, now: self.clock.now(), ip, limits: &self.limits };
        let (action, resource) = (method.action(), resource_of(&call, method.kind, id, tx)?);
        if !caller.may(&action, &resource) && !call.is_own_session(method.kind, id, tx)? {
            let name = resource.0.first().map_or("*", String::as_str);
            return Err(ApiError::denied(format!(
                "no policy of the caller allows {action} on {name}, or one denies it"
            )));
        }
        (method.handler)(&call, tx)
    }
}

impl Reply {
    fn of(answer: Answer, request_id: String) -> Self {
        let (status, body) = match answer {
            Ok((status, body)) => (status, body),
            Err(error) => (error.status, Some(error_body(&error, &request_id))),
        };
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        Self { status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body, request_id }
    }

    pub(super) fn error(error: &ApiError, request_id: &str) -> Self {
        let body = error_body(error, request_id).to_string().into_bytes();
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, body, request_id: request_id.into() }
    }
}

/// A6.
fn error_body(error: &ApiError, request_id: &str) -> Value {
    json!({ "error": { "code": error.code, "message": error.message, "request_id": request_id } })
}
