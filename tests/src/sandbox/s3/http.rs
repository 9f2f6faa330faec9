//! The S3 port's HTTP: bodies are read, replies and errors take their form.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{DATE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::xml::document;
use super::{Reply, identity, operation};
use crate::sandbox::State;
use crate::sandbox::error::ApiError;
use crate::sandbox::server::accept;

/// The longest body of a request, in bytes.
const BODY_CAP: usize = 64 * 1024 * 1024;

pub(in crate::sandbox) async fn serve(listener: TcpListener, state: Arc<State>) {
    accept(listener, move |stream, peer| {
        let state = Arc::clone(&state);
        async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), peer.ip(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
}

async fn answer(
    state: Arc<State>,
    ip: IpAddr,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = read(body).await;
    let (request_id, reply) = state.s3(&parts, &body, ip);
    let mut response = Response::new(Full::new(reply.body.into()));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Clients correct their clocks by it, so it is the sandbox's.
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(state.clock.now()).unwrap_or(0));
    let date = httpdate::fmt_http_date(now);
    let own = [("x-amz-request-id", request_id), (DATE.as_str(), date)]
        .map(|(name, value)| (name.to_owned(), value));
    for (name, value) in own.into_iter().chain(reply.headers) {
        let name = HeaderName::try_from(name).map_err(io::Error::other)?;
        response.headers_mut().insert(
            name,
            HeaderValue::try_from(value).map_err(io::Error::other)?,
        );
    }
    Ok(response)
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_CAP).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            400,
            "EntityTooLarge",
            format!("the body is longer than {BODY_CAP} bytes"),
        )),
        Err(error) => Err(ApiError::new(
            400,
            "IncompleteBody",
            format!("the body could not be read: {error}"),
        )),
    }
}

/// An error in the form of the service that was asked; HEAD has none.
pub(super) fn refusal(error: &ApiError, parts: &Parts, request_id: &str) -> Reply {
    let code = if error.code == "internal" {
        "InternalError"
    } else {
        &error.code
    };
    let body = if parts.method == Method::HEAD {
        return Reply::empty(error.status);
    } else if operation::is_sts(parts) {
        document("ErrorResponse", Some(identity::NAMESPACE), |xml| {
            xml.element("Error", |xml| {
                xml.text(
                    "Type",
                    if error.status < 500 {
                        "Sender"
                    } else {
                        "Receiver"
                    },
                );
                xml.text("Code", code);
                xml.text("Message", &error.message);
            });
            xml.text("RequestId", request_id);
        })
    } else {
        document("Error", None, |xml| {
            xml.text("Code", code);
            xml.text("Message", &error.message);
            xml.text("Resource", parts.uri.path());
            xml.text("RequestId", request_id);
        })
    };
    Reply {
        status: error.status,
        ..Reply::xml(body)
    }
}
