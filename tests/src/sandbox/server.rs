//! HTTP of the API and of the control interface: connections, bodies, and faults.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};

use super::dispatch::Reply;
use super::error::ApiError;
use super::fault::Fault;
use super::fault_reply::{self, Body, Protocol, full, insert_header, response};
use super::{State, control};

/// The longest body of a request in bytes.
const MAX_BODY: usize = 1024 * 1024;

const JSON: &str = "application/json";

pub(super) async fn serve_api(listener: TcpListener, state: Arc<State>) {
    accept(listener, move |stream, peer| {
        let state = Arc::clone(&state);
        async move {
            // A second handle, so that a fault can break the connection.
            let Ok(socket) = SockRef::from(&stream).try_clone().map(Arc::new) else {
                return;
            };
            let service = service_fn(move |request| {
                handle_api(Arc::clone(&state), Arc::clone(&socket), peer.ip(), request)
            });
            // Clients and faults may break a connection at any time.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
}

pub(super) async fn serve_control(listener: TcpListener, state: Arc<State>) {
    accept(listener, move |stream, _| {
        let state = Arc::clone(&state);
        async move {
            let service = service_fn(move |request| handle_control(Arc::clone(&state), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
}

pub(super) async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, peer));
            }
            // Most likely out of descriptors: wait until some connections end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn handle_control(
    state: Arc<State>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let result = match read_body(body).await {
        Ok(body) => control::handle(&state, &parts, &body),
        Err(error) => Err(error),
    };

    Ok(control::response(result))
}

/// An error ends the connection without a reply.
async fn handle_api(
    state: Arc<State>,
    socket: Arc<Socket>,
    ip: IpAddr,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let mut arrival = state.receive(&parts);

    let fault = arrival.fault.take();
    if let Some(delay) = fault.as_ref().and_then(Fault::delay) {
        tokio::time::sleep(delay).await;
    }
    let protocol = JsonApi {
        request_id: &arrival.request_id,
    };
    if let Some(response) = fault_reply::replace(fault.as_ref(), &socket, &protocol).await? {
        state.record_reply(&arrival, response.status());
        return Ok(response);
    }

    let body = read_body(body).await;
    let reply = state.handle(
        arrival,
        &parts,
        body.as_deref().map_err(ApiError::clone),
        ip,
    );
    let now = SystemTime::now();
    Ok(fault_reply::alter(
        fault.as_ref(),
        reply_response(reply),
        now,
    ))
}

/// The form of replies of the API, for faults.
struct JsonApi<'a> {
    request_id: &'a str,
}

impl Protocol for JsonApi<'_> {
    const CONTENT_TYPE: &'static str = JSON;
    const GARBAGE: &'static [u8] = b"\x00\xff\xfe{\"session\": nonsense";

    fn error(&self, status: u16, code: Option<&str>, message: &str) -> Response<Bytes> {
        let code = code.unwrap_or(default_code(status));
        let error = ApiError::new(status, code, message);
        reply_response(Reply::error(error, self.request_id))
    }

    fn huge(filler: &str) -> String {
        format!("{{\"x\":\"{filler}\"}}")
    }
}

pub(super) async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_BODY} bytes");
            Err(ApiError::invalid(message))
        }
        Err(error) => Err(ApiError::invalid(format!("cannot read the body: {error}"))),
    }
}

fn reply_response(reply: Reply) -> Response<Bytes> {
    let mut response = response(JSON, reply.body.into());
    *response.status_mut() = reply.status;
    if reply.status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_TYPE);
    }

    // Ids and verbs are valid header values.
    let _ = insert_header(
        &mut response,
        HeaderName::from_static("x-request-id"),
        &reply.request_id,
    );
    if let Some(verbs) = &reply.allow {
        let _ = insert_header(&mut response, ALLOW, verbs);
    }
    response
}

pub(super) fn json_response(status: StatusCode, body: String) -> Response<Body> {
    let mut response = response(JSON, body.into());
    *response.status_mut() = status;
    full(response)
}

/// The error code of a status (A6).
fn default_code(status: u16) -> &'static str {
    match status {
        401 => "invalid_token",
        403 => "access_denied",
        404 => "not_found",
        409 => "conflict",
        429 => "rate_limited",
        503 => "unavailable",
        500..=599 => "internal",
        _ => "invalid_request",
    }
}
