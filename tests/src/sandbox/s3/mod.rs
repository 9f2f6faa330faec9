//! A small S3 beside the API, so that tests can prove what leased keys are good for: it checks the signature of every
//! request, and the role's policies decide. It also says with GetCallerIdentity whose keys they are. It is no copy of S3:
//! what it does not know it refuses, and nothing that it refuses has an effect.
//!
//! Read [`State::s3`] first: it is the path of a request.

mod buckets;
mod checksum;
mod chunks;
mod http;
mod identity;
mod list;
mod objects;
mod operation;
mod payload;
mod requests;
mod verify;
mod xml;

use std::net::IpAddr;

use hyper::body::Bytes;
use hyper::http::request::Parts;
use rusqlite::Connection;
use serde_json::json;

use super::State;
use super::audit;
use super::clock::Millis;
use super::error::ApiError;
use super::sigv4::Claim;
use super::store::new_id;
use operation::{Asked, Operation};
use requests::Request;
use verify::Signer;

pub(super) use http::serve;
pub(super) use requests::Requests;

/// What is to be sent.
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
        Self {
            body,
            ..Self::empty(200)
        }
        .with("Content-Type", "application/xml")
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

/// A request as it came, and what it was read as.
struct Arrival<'a> {
    parts: &'a Parts,
    body: Result<&'a Bytes, &'a ApiError>,
    asked: Result<Asked, ApiError>,
    claim: Result<Claim, ApiError>,
    now: Millis,
    request_id: &'a str,
}

impl State {
    /// Reads a request, checks it, does it, notes it in the audit log and counts it.
    fn s3(&self, parts: &Parts, body: &Result<Bytes, ApiError>, ip: IpAddr) -> (String, Reply) {
        let request_id = new_id();
        let whole = body.as_deref().unwrap_or_default();
        let (asked, claim) = (Asked::read(parts, whole), Claim::read(parts));
        let arrival = Arrival {
            parts,
            body: body.as_ref(),
            asked,
            claim,
            now: self.clock.now(),
            request_id: &request_id,
        };
        let done = self.store.noted(
            |tx| self.s3_call(tx, &arrival),
            |tx, signer, answer| match &arrival.asked {
                Ok(asked) => note(
                    tx,
                    asked,
                    signer.as_ref(),
                    answer,
                    &Place {
                        ip,
                        request_id: &request_id,
                        now: arrival.now,
                    },
                ),
                Err(_) => Ok(()),
            },
        );
        let answer = done.map_err(ApiError::from).and_then(|(_, answer)| answer);
        let code = answer.as_ref().err().map(|error| error.code.clone());
        let reply = answer.unwrap_or_else(|error| http::refusal(&error, parts, &request_id));
        self.s3_requests.note(Request {
            access_key_id: arrival.claim.ok().map(|claim| claim.access_key_id),
            operation: arrival.asked.ok().map(|asked| asked.operation.name()),
            status: reply.status,
            code,
        });
        (request_id, reply)
    }

    /// The answer, and who has signed, as soon as that is known.
    fn s3_call(
        &self,
        tx: &Connection,
        arrival: &Arrival<'_>,
    ) -> (Option<Signer>, Result<Reply, ApiError>) {
        let mut signer = None;
        let answer = self.s3_answer(tx, arrival, &mut signer);
        let is_sts = operation::is_sts(arrival.parts);
        (
            signer,
            if is_sts {
                answer.map_err(verify::in_words_of_sts)
            } else {
                answer
            },
        )
    }

    fn s3_answer(
        &self,
        tx: &Connection,
        arrival: &Arrival<'_>,
        noted: &mut Option<Signer>,
    ) -> Result<Reply, ApiError> {
        let Arrival {
            parts,
            body,
            asked,
            claim,
            now,
            ..
        } = arrival;
        let claim = claim.as_ref().map_err(ApiError::clone)?;
        let body = body.map_err(ApiError::clone)?;
        let service = if operation::is_sts(parts) {
            "sts"
        } else {
            "s3"
        };
        let signed = verify::signature(tx, parts, claim, service, body, *now)?;
        let signer = noted.insert(signed.signer);
        let caller = verify::caller(tx, &self.store.org, signer, *now)?;
        let asked = asked.as_ref().map_err(ApiError::clone)?;
        verify::permit(&caller, asked.operation, &asked.crns(&self.store.org))?;
        let payload = payload::open(parts, claim, &signed.key, &signed.declared, body)?;
        match asked.operation {
            Operation::ListBuckets => buckets::list(tx, &self.store.org),
            Operation::CreateBucket => buckets::create(tx, &asked.bucket, *now),
            Operation::HeadBucket => buckets::head(tx, &asked.bucket),
            Operation::DeleteBucket => buckets::delete(tx, &asked.bucket),
            Operation::ListObjectsV2 => list::objects(tx, asked),
            Operation::PutObject => objects::put(tx, asked, parts, &payload, *now),
            Operation::GetObject | Operation::HeadObject => objects::get(tx, asked, parts),
            Operation::DeleteObject => objects::delete(tx, asked),
            Operation::GetCallerIdentity => Ok(identity::show(signer, arrival.request_id)),
        }
    }
}

/// Where and when a request came.
struct Place<'a> {
    ip: IpAddr,
    request_id: &'a str,
    now: Millis,
}

fn note(
    tx: &Connection,
    asked: &Asked,
    signer: Option<&Signer>,
    answer: &Result<Reply, ApiError>,
    place: &Place<'_>,
) -> rusqlite::Result<()> {
    let (resource_type, resource_id) = asked.resource();
    let (status, details) = match answer {
        Ok(_) => ("success", json!({})),
        Err(error) => {
            let denied = error.status == 403
                || matches!(error.code.as_str(), "ExpiredToken" | "InvalidToken");
            (
                if denied { "denied" } else { "error" },
                json!({ "code": error.code, "message": error.message }),
            )
        }
    };
    audit::insert(
        tx,
        &audit::Row {
            actor: signer
                .map(|signer| (signer.principal_id.as_str(), signer.principal_type.as_str())),
            action: format!("{}.{}", asked.operation.service(), asked.operation.name()),
            resource_type,
            resource_id: resource_id.as_deref(),
            status,
            details,
            ip: place.ip,
            request_id: place.request_id,
            session_id: signer.map(|signer| signer.session_id.as_str()),
            now: place.now,
        },
    )
}
