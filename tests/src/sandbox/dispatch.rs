//! The path of a request: route it, log the call, apply a fault, authenticate, parse the
//! parameters, authorize, handle, reply.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use rusqlite::Connection;
use serde_json::json;

use super::State;
use super::audit::{self, CallRecord};
use super::auth::{Caller, authenticate};
use super::clock::Millis;
use super::error::{ApiError, status_code};
use super::fault::Fault;
use super::handlers::{Call, crns_of};
use super::methods::{self, HandlerResult, Method, RoutedMethod};
use super::params::Params;
use super::store::new_id;

/// What to send, unless a fault alters it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    pub(super) request_id: String,
    /// The supported verbs of the path, with 405.
    pub(super) allow: Option<String>,
}

/// A request that has been routed and logged, and its fault.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) request_id: String,
    pub(super) fault: Option<Fault>,
    route: Result<RoutedMethod, ApiError>,
    /// Its number in the call log, if the request has a method.
    seq: Option<u64>,
}

/// A body, or the error of reading it.
type Body<'a> = Result<&'a [u8], ApiError>;

impl State {
    pub(super) fn receive(&self, parts: &Parts) -> Arrival {
        let request_id = new_id();
        let route = methods::route(parts.method.as_str(), parts.uri.path());
        let Ok((method, _)) = &route else {
            return Arrival {
                request_id,
                fault: None,
                route,
                seq: None,
            };
        };

        let name = method.name;
        let fault = self.faults.take(name);
        let kind = fault.as_ref().map(Fault::kind);
        let seq = self
            .call_log
            .record_arrival(name, self.clock.now(), &request_id, kind);

        Arrival {
            request_id,
            fault,
            route,
            seq: Some(seq),
        }
    }

    pub(super) fn handle(
        &self,
        arrival: Arrival,
        parts: &Parts,
        body: Body<'_>,
        ip: IpAddr,
    ) -> Reply {
        let request_id = arrival.request_id;
        let (caller, result) = match &arrival.route {
            Err(error) => (None, Err(error.clone())),
            Ok(route) => self
                .execute(route, parts, body, ip, &request_id)
                .unwrap_or_else(|error| (None, Err(ApiError::from(error)))),
        };

        let reply = Reply::new(result, request_id);
        if let Some(seq) = arrival.seq {
            let actor_id = caller.map(|caller| caller.principal_id);
            self.call_log
                .record_reply(seq, reply.status.as_u16(), actor_id);
        }
        reply
    }

    /// Logs the reply of a fault.
    pub(super) fn record_reply(&self, arrival: &Arrival, status: StatusCode) {
        if let Some(seq) = arrival.seq {
            self.call_log.record_reply(seq, status.as_u16(), None);
        }
    }

    /// Runs the call and writes its audit log entry in one transaction.
    fn execute(
        &self,
        (method, path): &RoutedMethod,
        parts: &Parts,
        body: Body<'_>,
        ip: IpAddr,
        request_id: &str,
    ) -> rusqlite::Result<(Option<Caller>, HandlerResult)> {
        let now = self.clock.now();
        let target = path.first().map(|(_, id)| id.as_str());

        let query = parts.uri.query().unwrap_or("");
        // An error of the parameters is reported only to an authenticated caller.
        let params = body.and_then(|body| Params::parse(&method.spec, path, query, body));

        self.store.audited_transaction(
            |tx| {
                let caller = match self.authenticate(tx, parts, now) {
                    Ok(caller) => caller,
                    Err(error) => return (None, Err(error)),
                };
                let result = params.and_then(|params| {
                    let call = Call {
                        caller: &caller,
                        params: &params,
                        org: &self.store.org,
                        now,
                        ip,
                        limits: &self.limits,
                    };
                    authorize(method, target, &call, tx)?;
                    (method.handler)(&call, tx)
                });
                (Some(caller), result)
            },
            |tx, caller, result| {
                let record = CallRecord {
                    method,
                    target,
                    caller: caller.as_ref(),
                    ip,
                    request_id,
                    now,
                };
                audit::record_call(tx, &record, result)
            },
        )
    }

    fn authenticate(
        &self,
        tx: &Connection,
        parts: &Parts,
        now: Millis,
    ) -> Result<Caller, ApiError> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        authenticate(tx, &self.store.org, header, now)
    }
}

fn authorize(
    method: &Method,
    id: Option<&str>,
    call: &Call<'_>,
    tx: &Connection,
) -> Result<(), ApiError> {
    let action = method.action();
    let resource = crns_of(call, method.kind, id, tx)?;
    if call.caller.may(&action, &resource) || call.is_own_session(method.kind, id, tx)? {
        return Ok(());
    }

    let name = resource.first();
    let message = format!("no policy of the caller allows {action} on {name}, or one denies it");
    Err(ApiError::denied(message))
}

impl Reply {
    fn new(result: HandlerResult, request_id: String) -> Self {
        let (status, body) = match result {
            Ok(success) => success,
            Err(error) => return Self::error(error, &request_id),
        };

        Self {
            status: status_code(status),
            body: body.map_or_else(Vec::new, |body| body.to_string().into_bytes()),
            request_id,
            allow: None,
        }
    }

    /// The body is that of A6.
    pub(super) fn error(error: ApiError, request_id: &str) -> Self {
        let fields =
            json!({ "code": error.code, "message": error.message, "request_id": request_id });

        Self {
            status: status_code(error.status),
            body: json!({ "error": fields }).to_string().into_bytes(),
            request_id: request_id.into(),
            allow: error.allow,
        }
    }
}
