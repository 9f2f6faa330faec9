//! A small S3 for AWS clients, so that tests can use leased keys. It verifies the signature of
//! every request, and the role's policies authorize it. Keys of the sandbox's AWS work, too. STS `GetCallerIdentity` is on the same
//! port. It supports only what tests need: a request that it does not support is refused and has no
//! effect.
//!
//! Start with [`State::handle_s3`], the path of a request.

mod aws_chunked;
mod aws_keys;
mod buckets;
mod caller_identity;
mod checksum;
mod http;
mod list;
mod objects;
mod operation;
mod payload;
mod request;
mod request_log;
mod verify;

use std::net::IpAddr;

use hyper::body::Bytes;
use hyper::http::request::Parts;
use rusqlite::Connection;
use serde_json::json;

use super::State;
use super::audit;
use super::clock::Millis;
use super::error::ApiError;
use super::sigv4::AuthParams;
use super::store::new_id;
use operation::Operation;
use request::S3Request;
use request_log::LoggedRequest;
use verify::Signer;

pub(super) use http::serve;
pub(super) use request_log::RequestLog;

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn xml(body: Vec<u8>) -> Self {
        let reply = Self {
            body,
            ..Self::empty(200)
        };
        reply.with("Content-Type", "application/xml")
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn with_checksum(self, header: &str, value: &str) -> Self {
        self.with(header, value)
            .with("x-amz-checksum-type", "FULL_OBJECT")
    }

    fn partial(self, body: Vec<u8>) -> Self {
        Self {
            status: 206,
            body,
            ..self
        }
    }
}

/// A request as received, and what was parsed of it.
struct Arrival<'a> {
    parts: &'a Parts,
    body: Result<&'a Bytes, &'a ApiError>,
    request: Result<S3Request, ApiError>,
    auth: Result<AuthParams, ApiError>,
    ip: IpAddr,
    now: Millis,
    request_id: &'a str,
}

impl State {
    /// Parses, verifies, authorizes and handles a request, and logs it. Returns the request id and
    /// the reply.
    fn handle_s3(
        &self,
        parts: &Parts,
        body: &Result<Bytes, ApiError>,
        ip: IpAddr,
    ) -> (String, Reply) {
        let request_id = new_id();
        let arrival = Arrival {
            parts,
            body: body.as_ref(),
            request: S3Request::parse(parts, body.as_deref().unwrap_or_default()),
            auth: AuthParams::parse(parts),
            ip,
            now: self.clock.now(),
            request_id: &request_id,
        };

        let result = self
            .store
            .audited_transaction(
                |tx| self.execute_s3(tx, &arrival),
                |tx, signer, result| record(tx, &arrival, signer.as_ref(), result),
            )
            .map_err(ApiError::from)
            .and_then(|(_, result)| result);

        let code = result.as_ref().err().map(|error| error.code.clone());
        let reply = result.unwrap_or_else(|error| http::error_reply(&error, parts, &request_id));
        self.s3_request_log.add(LoggedRequest {
            access_key_id: arrival.auth.ok().map(|auth| auth.access_key_id),
            operation: arrival.request.ok().map(|request| request.operation.name()),
            status: reply.status,
            code,
        });
        (request_id, reply)
    }

    /// The signer is known even if the request is refused later.
    fn execute_s3(
        &self,
        tx: &Connection,
        arrival: &Arrival<'_>,
    ) -> (Option<Signer>, Result<Reply, ApiError>) {
        let mut signer = None;
        let result = self.try_execute_s3(tx, arrival, &mut signer);

        if request::is_sts(arrival.parts) {
            (signer, result.map_err(verify::to_sts_error))
        } else {
            (signer, result)
        }
    }

    fn try_execute_s3(
        &self,
        tx: &Connection,
        arrival: &Arrival<'_>,
        signer: &mut Option<Signer>,
    ) -> Result<Reply, ApiError> {
        let Arrival { parts, now, .. } = *arrival;
        let auth = arrival.auth.as_ref().map_err(ApiError::clone)?;
        let body = arrival.body.map_err(ApiError::clone)?;
        let org = &self.store.org;

        let signed = verify::signature(self, tx, parts, auth, body, now)?;
        let signer = signer.insert(signed.signer);
        let request = arrival.request.as_ref().map_err(ApiError::clone);
        let request = if let Some(caller) = &signer.aws {
            let request = request?;
            aws_keys::authorize(self, caller, request, &auth.scope.region)?;
            request
        } else {
            let caller = verify::caller(tx, org, signer, now)?;
            let request = request?;
            verify::authorize(&caller, request.operation, &request.crns(org))?;
            request
        };
        let payload = payload::open(parts, auth, &signed.key, &signed.payload_hash, body)?;

        match request.operation {
            Operation::ListBuckets => buckets::list(tx, org),
            Operation::CreateBucket => buckets::create(tx, &request.bucket, now),
            Operation::HeadBucket => buckets::head(tx, &request.bucket),
            Operation::DeleteBucket => buckets::delete(tx, &request.bucket),
            Operation::ListObjectsV2 => list::objects(tx, request),
            Operation::PutObject => objects::put(tx, request, parts, &payload, now),
            Operation::GetObject | Operation::HeadObject => objects::get(tx, request, parts),
            Operation::DeleteObject => objects::delete(tx, request),
            Operation::GetCallerIdentity => Ok(caller_identity::show(signer, arrival.request_id)),
        }
    }
}

/// Writes the audit log entry of a request with a known operation.
fn record(
    tx: &Connection,
    arrival: &Arrival<'_>,
    signer: Option<&Signer>,
    result: &Result<Reply, ApiError>,
) -> rusqlite::Result<()> {
    let Ok(request) = &arrival.request else {
        return Ok(());
    };

    let operation = request.operation;
    let resource_id = request.resource_id();
    let entry = audit::Entry {
        actor_id: signer.map(|signer| signer.principal_id.as_str()),
        actor_type: signer.map(|signer| signer.principal_type.as_str()),
        action: format!("{}.{}", operation.service(), operation.name()),
        resource_type: request.resource_type(),
        resource_id: resource_id.as_deref(),
        status: audit_status(result),
        details: result
            .as_ref()
            .map_or_else(audit::error_details, |_| json!({})),
        ip: arrival.ip,
        request_id: arrival.request_id,
        session_id: signer.map(|signer| signer.session_id.as_str()),
        now: arrival.now,
    };

    audit::insert(tx, &entry)
}

fn audit_status(result: &Result<Reply, ApiError>) -> &'static str {
    match result {
        Ok(_) => "success",
        Err(error) if error.status == 403 => "denied",
        Err(error) if matches!(error.code.as_str(), "ExpiredToken" | "InvalidToken") => "denied",
        Err(_) => "error",
    }
}
