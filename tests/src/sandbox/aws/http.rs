//! HTTP of STS and IAM: the Query protocol, with faults.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, Socket};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::actions::{self, Action, STS, Service};
use super::call_log::LoggedCall;
use super::error::AwsError;
use super::params::Params;
use super::verify;
use crate::sandbox::State;
use crate::sandbox::clock::{Millis, to_rfc3339};
use crate::sandbox::error::status_code;
use crate::sandbox::fault::Fault;
use crate::sandbox::fault_reply::{self, Body, Protocol, full, insert_header, response};
use crate::sandbox::server::{accept, read_body};
use crate::sandbox::sigv4::QueryString;
use crate::sandbox::xml::document;

const XML: &str = "text/xml";

pub(in crate::sandbox) async fn serve(listener: TcpListener, state: Arc<State>) {
    accept(listener, move |stream, _| {
        let state = Arc::clone(&state);
        async move {
            // A second handle, so that a fault can break the connection.
            let Ok(socket) = SockRef::from(&stream).try_clone().map(Arc::new) else {
                return;
            };
            let service =
                service_fn(move |request| handle(Arc::clone(&state), Arc::clone(&socket), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
}

/// An error ends the connection without a reply.
async fn handle(
    state: Arc<State>,
    socket: Arc<Socket>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let mut response = respond(&state, &socket, request).await?;

    // Clients correct their clocks by the date. A fault may have set another one.
    let date = httpdate::fmt_http_date(system_time(state.aws_now()));
    let date = HeaderValue::from_str(&date).map_err(io::Error::other)?;
    response.headers_mut().entry(DATE).or_insert(date);
    Ok(response)
}

async fn respond(
    state: &State,
    socket: &Socket,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let arrival = match read_body(body).await {
        Ok(body) => parse(parts, body),
        Err(error) => Err(AwsError::new(400, "MalformedInput", error.message)),
    };
    let arrival = match arrival {
        Ok(arrival) => arrival,
        Err(error) => return Ok(full(error_response(&STS, &error, &new_request_id()))),
    };

    let (seq, fault) = state.receive_aws(&arrival);
    if let Some(delay) = fault.as_ref().and_then(Fault::delay) {
        tokio::time::sleep(delay).await;
    }
    if let Some(response) = fault_reply::replace(fault.as_ref(), socket, &arrival).await? {
        state.record_aws_fault(seq, response.status());
        return Ok(response);
    }

    let response = state.handle_aws(&arrival, seq);
    let now = system_time(state.aws_now());
    Ok(fault_reply::alter(fault.as_ref(), response, now))
}

fn system_time(at: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at).unwrap_or(0))
}

fn new_request_id() -> String {
    Uuid::new_v4().to_string()
}

/// A request for a known action. Its signature is not verified.
struct Arrival {
    parts: Parts,
    body: Bytes,
    params: Params,
    action: &'static Action,
    request_id: String,
}

fn parse(parts: Parts, body: Bytes) -> Result<Arrival, AwsError> {
    if parts.uri.path() != "/" || (parts.method == Method::POST && !is_form(&parts)) {
        return Err(AwsError::new(
            404,
            "UnknownOperationException",
            "Unknown operation",
        ));
    }
    if parts.method != Method::POST && parts.method != Method::GET {
        let message = format!("{} is not supported", parts.method);
        return Err(AwsError::new(405, "UnsupportedMethod", message));
    }

    let query = QueryString::parse(parts.uri.query().unwrap_or(""));
    let params = Params::new(query, QueryString::from_form(&body));
    let action = actions::find(&params)?;
    Ok(Arrival {
        parts,
        body,
        params,
        action,
        request_id: new_request_id(),
    })
}

fn is_form(parts: &Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();

    kind.starts_with("application/x-www-form-urlencoded")
}

impl Protocol for Arrival {
    const CONTENT_TYPE: &'static str = XML;
    const GARBAGE: &'static [u8] = b"\x00\xff\xfe<Response><unclosed";

    fn error(&self, status: u16, code: Option<&str>, message: &str) -> Response<Bytes> {
        let code = code.unwrap_or(match status {
            400 => "ValidationError",
            403 => "AccessDenied",
            404 => "NoSuchEntity",
            429 => "Throttling",
            503 => "ServiceUnavailable",
            _ => "InternalFailure",
        });
        let error = AwsError::new(status, code, message);
        error_response(self.action.service, &error, &self.request_id)
    }

    fn huge(filler: &str) -> String {
        format!("<Response><x>{filler}</x></Response>")
    }
}

impl State {
    /// AWS's time: the sandbox's, and how far AWS's clock was moved.
    pub(in crate::sandbox) fn aws_now(&self) -> Millis {
        self.clock.now() + self.aws.clock.ahead_seconds() * 1000
    }

    /// Logs a call. Returns its number in the log and its fault.
    fn receive_aws(&self, arrival: &Arrival) -> (u64, Option<Fault>) {
        let auth = verify::parse(&arrival.parts).ok();
        let fault = self.aws.faults.take(arrival.action.name);

        let seq = self.aws.call_log.record_arrival(LoggedCall {
            seq: 0,
            action: arrival.action.name,
            at: to_rfc3339(self.aws_now()),
            request_id: arrival.request_id.clone(),
            region: auth.as_ref().map(|auth| auth.scope.region.clone()),
            access_key_id: auth.map(|auth| auth.access_key_id),
            params: arrival.params.without_codes(),
            fault: fault.as_ref().map(Fault::kind),
            status: None,
            code: None,
            caller_arn: None,
        });
        (seq, fault)
    }

    fn record_aws_fault(&self, seq: u64, status: hyper::StatusCode) {
        self.aws
            .call_log
            .record_reply(seq, status.as_u16(), None, None);
    }

    fn handle_aws(&self, arrival: &Arrival, seq: u64) -> Response<Bytes> {
        let (caller, result) = actions::execute(
            &mut self.aws.store(),
            arrival.action,
            &arrival.params,
            (&arrival.parts, &arrival.body),
            &arrival.request_id,
            self.aws_now(),
        );

        let caller_arn = caller.as_ref().map(|caller| caller.arn.as_str());
        let (response, code) = match result {
            Ok(body) => (xml_response(200, body, &arrival.request_id), None),
            Err(error) => {
                let service = arrival.action.service;
                let response = error_response(service, &error, &arrival.request_id);
                (response, Some(error.code))
            }
        };
        self.aws.call_log.record_reply(
            seq,
            response.status().as_u16(),
            code.as_deref(),
            caller_arn,
        );
        response
    }
}

fn error_response(service: &Service, error: &AwsError, request_id: &str) -> Response<Bytes> {
    let kind = if error.status < 500 {
        "Sender"
    } else {
        "Receiver"
    };

    let body = document("ErrorResponse", Some(service.namespace), |xml| {
        xml.element("Error", |xml| {
            xml.text("Type", kind);
            xml.text("Code", &error.code);
            xml.text("Message", &error.message);
        });
        xml.text("RequestId", request_id);
    });
    xml_response(error.status, body, request_id)
}

fn xml_response(status: u16, body: Vec<u8>, request_id: &str) -> Response<Bytes> {
    let mut response = response(XML, body.into());
    *response.status_mut() = status_code(status);

    // An id is a valid header value.
    let name = HeaderName::from_static("x-amzn-requestid");
    let _ = insert_header(&mut response, name, request_id);
    response
}
