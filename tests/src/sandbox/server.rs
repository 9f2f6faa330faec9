//! HTTP of the API and of the control interface: connections, bodies, and faults.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
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

/// The longest body of a request in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// How long a half-closed connection stays open.
const HALF_CLOSED: Duration = Duration::from_secs(30);

const JSON: &str = "application/json";
const GARBAGE: &[u8] = b"\x00\xff\xfe{\"session\": nonsense";
const PORTAL: &str = "<!doctype html><title>Sign in</title><h1>Sign in to use this network</h1>";

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
    if let Some(response) = replace_reply(fault.as_ref(), &socket, &arrival).await? {
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
    Ok(alter_reply(fault.as_ref(), reply))
}

async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_BODY} bytes");
            Err(ApiError::invalid(message))
        }
        Err(error) => Err(ApiError::invalid(format!("cannot read the body: {error}"))),
    }
}

/// The faults without an effect of the call.
async fn replace_reply(
    fault: Option<&Fault>,
    socket: &Socket,
    arrival: &Arrival,
) -> io::Result<Option<Response<Body>>> {
    let Some(fault) = fault else { return Ok(None) };

    let response = match fault {
        Fault::Reset {} => {
            socket.set_linger(Some(Duration::ZERO))?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Fault::HalfClose {} => {
            socket.shutdown(std::net::Shutdown::Write)?;
            tokio::time::sleep(HALF_CLOSED).await;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Fault::Status {
            status,
            code,
            message,
            retry_after,
        } => {
            let code = code.as_deref().unwrap_or(default_code(*status));
            let message = message.as_deref().unwrap_or("injected fault");
            let error = ApiError::new(*status, code, message);
            let mut response = reply_response(Reply::error(error, &arrival.request_id));
            if let Some(text) = retry_after {
                insert_header(&mut response, RETRY_AFTER, text)?;
            }
            response
        }
        Fault::Garbage {} => response(JSON, GARBAGE.into()),
        Fault::Html {} => response("text/html; charset=utf-8", PORTAL.into()),
        Fault::Huge { bytes } => {
            let text = "x".repeat(*bytes);
            response(JSON, format!("{{\"x\":\"{text}\"}}").into())
        }
        Fault::Redirect { location } => {
            let mut response = response("text/plain", Bytes::new());
            *response.status_mut() = StatusCode::FOUND;
            insert_header(&mut response, LOCATION, location)?;
            response
        }
        Fault::Delay { .. }
        | Fault::Truncated {}
        | Fault::SlowDrip { .. }
        | Fault::WrongDate { .. } => return Ok(None),
    };
    Ok(Some(response))
}

/// The faults with the effect of the call.
fn alter_reply(fault: Option<&Fault>, reply: Reply) -> Response<Body> {
    match fault {
        Some(Fault::Truncated {}) => stream_reply(reply, |body, mut sender| async move {
            let half = body.len() / 2;
            let _ = sender.send_data(body.slice(..half)).await;
            // Lets hyper send the half before the connection breaks.
            tokio::time::sleep(Duration::from_millis(20)).await;
            sender.abort(io::ErrorKind::UnexpectedEof.into());
        }),
        Some(&Fault::SlowDrip { ms }) => stream_reply(reply, move |body, mut sender| async move {
            for at in 0..body.len() {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if sender.send_data(body.slice(at..=at)).await.is_err() {
                    return;
                }
            }
        }),
        Some(&Fault::WrongDate { seconds }) => {
            let mut response = reply_response(reply);
            let date = httpdate::fmt_http_date(shifted_now(seconds));
            // A formatted date is a valid header value.
            let _ = insert_header(&mut response, DATE, &date);
            response
        }
        _ => reply_response(reply),
    }
}

fn shifted_now(seconds: i64) -> SystemTime {
    let shift = Duration::from_secs(seconds.unsigned_abs());

    if seconds < 0 {
        SystemTime::now() - shift
    } else {
        SystemTime::now() + shift
    }
}

/// A response with the full `Content-Length`, whose body `send` sends.
fn stream_reply<F: Future<Output = ()> + Send + 'static>(
    reply: Reply,
    send: impl FnOnce(Bytes, Sender<Bytes, io::Error>) -> F,
) -> Response<Body> {
    let body = Bytes::from(reply.body.clone());
    let (mut parts, _) = reply_response(reply).into_parts();
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));

    let (sender, channel) = Channel::new(1);
    tokio::spawn(send(body, sender));
    Response::from_parts(parts, Either::Right(channel))
}

fn reply_response(reply: Reply) -> Response<Body> {
    let mut response = json_response(reply.status, reply.body);
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

pub(super) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = response(JSON, body.into());
    *response.status_mut() = status;
    response
}

fn response(content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

fn insert_header(response: &mut Response<Body>, name: HeaderName, value: &str) -> io::Result<()> {
    let value = HeaderValue::from_str(value).map_err(io::Error::other)?;
    response.headers_mut().insert(name, value);
    Ok(())
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
