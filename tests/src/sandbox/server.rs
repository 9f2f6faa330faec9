//! HTTP: connections, bodies, and the faults that are done to them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, LOCATION, RETRY_AFTER,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};

use super::dispatch::{Arrival, Reply};
use super::error::ApiError;
use super::fault::Fault;
use super::{State, control};

pub(super) type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

/// The longest body of a request, in bytes.
const BODY_CAP: usize = 1024 * 1024;
/// How long a connection is held that was closed on one side.
const HALF_CLOSED: Duration = Duration::from_secs(30);
const PORTAL: &str = "<!doctype html><title>Sign in</title><h1>Sign in to use this network</h1>";

pub(super) async fn serve_api(listener: TcpListener, state: Arc<State>) {
    accept(listener, move |stream, peer| {
        let state = Arc::clone(&state);
        async move {
            let Ok(socket) = SockRef::from(&stream).try_clone().map(Arc::new) else {
                return;
            };
            let service = service_fn(move |request| {
                api(Arc::clone(&state), Arc::clone(&socket), peer.ip(), request)
            });
            // A connection that ends badly is the client's business, or a fault's.
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
            let service = service_fn(move |request: Request<Incoming>| {
                let state = Arc::clone(&state);
                async move {
                    let (parts, body) = request.into_parts();
                    let answer = match read(body).await {
                        Ok(body) => control::answer(&state, &parts, &body),
                        Err(error) => Err(error),
                    };
                    Ok::<_, io::Error>(control::response(answer))
                }
            });
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
            // Out of descriptors, most likely: waiting lets some connections end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One request. An error ends the connection without an answer.
async fn api(
    state: Arc<State>,
    socket: Arc<Socket>,
    ip: IpAddr,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let mut arrival = state.arrive(&parts);
    let fault = arrival.fault.take();
    if let Some(wait) = fault.as_ref().and_then(Fault::wait) {
        tokio::time::sleep(wait).await;
    }
    match instead(fault.as_ref(), &socket, &arrival).await? {
        Some(response) => {
            state.answered(&arrival, response.status());
            Ok(response)
        }
        None => Ok(spoil(
            fault.as_ref(),
            answer(&state, arrival, parts, body, ip).await,
        )),
    }
}

/// Those faults that keep the call from having its effect.
async fn instead(
    fault: Option<&Fault>,
    socket: &Socket,
    arrival: &Arrival,
) -> io::Result<Option<Response<Body>>> {
    let response = match fault {
        Some(Fault::Reset {}) => {
            socket.set_linger(Some(Duration::ZERO))?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(Fault::HalfClose {}) => {
            socket.shutdown(std::net::Shutdown::Write)?;
            tokio::time::sleep(HALF_CLOSED).await;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Some(Fault::Status {
            status,
            code,
            message,
            retry_after,
        }) => {
            let code = code.as_deref().unwrap_or(default_code(*status));
            let error = ApiError::new(
                *status,
                code,
                message.as_deref().unwrap_or("a fault that was asked for"),
            );
            let mut response = whole(Reply::error(error, &arrival.request_id));
            if let Some(text) = retry_after {
                response.headers_mut().insert(
                    RETRY_AFTER,
                    HeaderValue::from_str(text).map_err(io::Error::other)?,
                );
            }
            response
        }
        Some(Fault::Garbage {}) => raw(
            "application/json",
            b"\x00\xff\xfe{\"session\": nonsense".as_slice().into(),
        ),
        Some(Fault::Html {}) => raw("text/html; charset=utf-8", PORTAL.into()),
        Some(Fault::Huge { bytes }) => raw(
            "application/json",
            format!("{{\"x\":\"{}\"}}", "x".repeat(*bytes)).into(),
        ),
        Some(Fault::Redirect { location }) => {
            let mut response = raw("text/plain", Bytes::new());
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(
                LOCATION,
                HeaderValue::from_str(location).map_err(io::Error::other)?,
            );
            response
        }
        _ => return Ok(None),
    };
    Ok(Some(response))
}

async fn answer(
    state: &State,
    arrival: Arrival,
    parts: Parts,
    body: Incoming,
    ip: IpAddr,
) -> Reply {
    let body = read(body).await;
    state.handle(
        arrival,
        &parts,
        body.as_deref().map_err(ApiError::clone),
        ip,
    )
}

async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_CAP).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::invalid(format!(
            "the body is longer than {BODY_CAP} bytes"
        ))),
        Err(error) => Err(ApiError::invalid(format!(
            "the body could not be read: {error}"
        ))),
    }
}

/// Those faults that let the call have its effect.
fn spoil(fault: Option<&Fault>, reply: Reply) -> Response<Body> {
    match fault {
        Some(Fault::Truncated {}) => {
            let half = reply.body.len() / 2;
            fed(reply, move |body, mut sender| async move {
                let _ = sender.send_data(body.slice(..half)).await;
                // So that the half is on its way before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                sender.abort(io::ErrorKind::UnexpectedEof.into());
            })
        }
        Some(&Fault::SlowDrip { ms }) => fed(reply, move |body, mut sender| async move {
            for at in 0..body.len() {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if sender.send_data(body.slice(at..=at)).await.is_err() {
                    return;
                }
            }
        }),
        Some(&Fault::WrongDate { seconds }) => {
            let mut response = whole(reply);
            let shift = Duration::from_secs(seconds.unsigned_abs());
            let now = SystemTime::now();
            let date = if seconds < 0 {
                now - shift
            } else {
                now + shift
            };
            if let Ok(value) = HeaderValue::from_str(&httpdate::fmt_http_date(date)) {
                response.headers_mut().insert(DATE, value);
            }
            response
        }
        _ => whole(reply),
    }
}

fn whole(reply: Reply) -> Response<Body> {
    let Reply {
        status,
        body,
        request_id,
        allow,
    } = reply;
    let mut response = raw("application/json", body.into());
    *response.status_mut() = status;
    if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_TYPE);
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    if let Some(verbs) = allow.and_then(|verbs| HeaderValue::from_str(&verbs).ok()) {
        response.headers_mut().insert(ALLOW, verbs);
    }
    response
}

/// The reply with its full length announced, and a body that somebody feeds.
fn fed<F: Future<Output = ()> + Send + 'static>(
    reply: Reply,
    feed: impl FnOnce(Bytes, http_body_util::channel::Sender<Bytes, io::Error>) -> F,
) -> Response<Body> {
    let body = Bytes::from(reply.body.clone());
    let (mut parts, _) = whole(reply).into_parts();
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let (sender, channel) = Channel::new(1);
    tokio::spawn(feed(body, sender));
    Response::from_parts(parts, Either::Right(channel))
}

pub(super) fn raw(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A6.
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
