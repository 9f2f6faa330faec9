//! HTTP of the S3 port: bodies, replies, and the two forms of errors.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Reply, caller_identity, request};
use crate::sandbox::State;
use crate::sandbox::clock::Millis;
use crate::sandbox::error::{ApiError, status_code};
use crate::sandbox::server::accept;
use crate::sandbox::xml::document;

/// The longest body of a request in bytes.
const MAX_BODY: usize = 64 * 1024 * 1024;

pub(in crate::sandbox) async fn serve(listener: TcpListener, state: Arc<State>) {
    accept(listener, move |stream, peer| {
        let state = Arc::clone(&state);
        async move {
            let service = service_fn(move |request| handle(Arc::clone(&state), peer.ip(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
}

async fn handle(
    state: Arc<State>,
    ip: IpAddr,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = read_body(body).await;
    let (request_id, reply) = state.handle_s3(&parts, &body, ip);
    // Clients correct their clocks by the date, so it is the sandbox's.
    let date = http_date(state.clock.now());

    let mut response = Response::new(Full::new(reply.body.into()));
    *response.status_mut() = status_code(reply.status);
    let headers = [
        ("x-amz-request-id".into(), request_id),
        ("date".into(), date),
    ];
    for (name, value) in headers.into_iter().chain(reply.headers) {
        let name = HeaderName::try_from(name).map_err(io::Error::other)?;
        let value = HeaderValue::try_from(value).map_err(io::Error::other)?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

pub(super) fn http_date(at: Millis) -> String {
    let since_epoch = Duration::from_millis(u64::try_from(at).unwrap_or(0));
    let time: SystemTime = UNIX_EPOCH + since_epoch;

    httpdate::fmt_http_date(time)
}

async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_BODY} bytes");
            Err(ApiError::new(400, "EntityTooLarge", message))
        }
        Err(error) => {
            let message = format!("cannot read the body: {error}");
            Err(ApiError::new(400, "IncompleteBody", message))
        }
    }
}

/// The error in the form of S3 or of STS. A reply to HEAD has no body.
pub(super) fn error_reply(error: &ApiError, parts: &Parts, request_id: &str) -> Reply {
    if parts.method == Method::HEAD {
        return Reply::empty(error.status);
    }

    let code = if error.code == "internal" {
        "InternalError"
    } else {
        &error.code
    };
    let body = if request::is_sts(parts) {
        sts_error(error, code, request_id)
    } else {
        s3_error(error, code, parts.uri.path(), request_id)
    };
    Reply {
        status: error.status,
        ..Reply::xml(body)
    }
}

fn s3_error(error: &ApiError, code: &str, path: &str, request_id: &str) -> Vec<u8> {
    document("Error", None, |xml| {
        xml.text("Code", code);
        xml.text("Message", &error.message);
        xml.text("Resource", path);
        xml.text("RequestId", request_id);
    })
}

fn sts_error(error: &ApiError, code: &str, request_id: &str) -> Vec<u8> {
    let kind = if error.status < 500 {
        "Sender"
    } else {
        "Receiver"
    };

    document("ErrorResponse", Some(caller_identity::NAMESPACE), |xml| {
        xml.element("Error", |xml| {
            xml.text("Type", kind);
            xml.text("Code", code);
            xml.text("Message", &error.message);
        });
        xml.text("RequestId", request_id);
    })
}
