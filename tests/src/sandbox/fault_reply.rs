//! What a fault does to a reply, in the form of the API's protocol.

use std::future::Future;
use std::io;
use std::time::{Duration, SystemTime};

use http_body_util::channel::{Channel, Sender};
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{
    CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use hyper::{Response, StatusCode};
use socket2::Socket;

use super::error::status_code;
use super::fault::Fault;

pub(super) type Body = Either<Full<Bytes>, Channel<Bytes, io::Error>>;

/// How long a half-closed connection stays open.
const HALF_CLOSED: Duration = Duration::from_secs(30);

const PORTAL: &str = "<!doctype html><title>Sign in</title><h1>Sign in to use this network</h1>";

/// The form of an API's replies.
pub(super) trait Protocol {
    const CONTENT_TYPE: &'static str;
    /// A body that cannot be parsed.
    const GARBAGE: &'static [u8];

    /// An error reply. Without a code, it has the usual code of its status.
    fn error(&self, status: u16, code: Option<&str>, message: &str) -> Response<Bytes>;

    /// A valid document with a text in it, but without the fields of a reply.
    fn huge(filler: &str) -> String;
}

/// The reply of a fault without an effect of the call. An error ends the connection.
pub(super) async fn replace<P: Protocol>(
    fault: Option<&Fault>,
    socket: &Socket,
    protocol: &P,
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
            let message = message.as_deref().unwrap_or("injected fault");
            let mut response = protocol.error(*status, code.as_deref(), message);
            if let Some(text) = retry_after {
                insert_header(&mut response, RETRY_AFTER, text)?;
            }
            response
        }
        Fault::Garbage {} => response(P::CONTENT_TYPE, P::GARBAGE.into()),
        Fault::Html {} => response("text/html; charset=utf-8", PORTAL.into()),
        Fault::Huge { bytes } => response(P::CONTENT_TYPE, P::huge(&"x".repeat(*bytes)).into()),
        Fault::EndlessList { item, count } => {
            let page = Fault::endless_page(item, *count).to_string();
            response(P::CONTENT_TYPE, page.into())
        }
        Fault::Redirect { location } => {
            let mut response = response("text/plain", Bytes::new());
            *response.status_mut() = StatusCode::FOUND;
            insert_header(&mut response, LOCATION, location)?;
            response
        }
        Fault::Body { status, text } => {
            let mut response = response(P::CONTENT_TYPE, text.clone().into());
            *response.status_mut() = status_code(*status);
            response
        }
        Fault::Delay { .. }
        | Fault::Truncated {}
        | Fault::SlowDrip { .. }
        | Fault::WrongDate { .. } => return Ok(None),
    };
    Ok(Some(full(response)))
}

/// Applies a fault with the effect of the call to the reply. `now` is the server's time.
pub(super) fn alter(
    fault: Option<&Fault>,
    mut response: Response<Bytes>,
    now: SystemTime,
) -> Response<Body> {
    match fault {
        Some(Fault::Truncated {}) => stream(response, |body, mut sender| async move {
            let half = body.len() / 2;
            let _ = sender.send_data(body.slice(..half)).await;
            // Lets hyper send the half before the connection breaks.
            tokio::time::sleep(Duration::from_millis(20)).await;
            sender.abort(io::ErrorKind::UnexpectedEof.into());
        }),
        Some(&Fault::SlowDrip { ms }) => stream(response, move |body, mut sender| async move {
            for at in 0..body.len() {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                if sender.send_data(body.slice(at..=at)).await.is_err() {
                    return;
                }
            }
        }),
        Some(&Fault::WrongDate { seconds }) => {
            let date = httpdate::fmt_http_date(shifted(now, seconds));
            // A formatted date is a valid header value.
            let _ = insert_header(&mut response, DATE, &date);
            full(response)
        }
        _ => full(response),
    }
}

fn shifted(now: SystemTime, seconds: i64) -> SystemTime {
    let shift = Duration::from_secs(seconds.unsigned_abs());

    if seconds < 0 {
        now - shift
    } else {
        now + shift
    }
}

/// A response with the full `Content-Length`, whose body `send` sends.
fn stream<F: Future<Output = ()> + Send + 'static>(
    response: Response<Bytes>,
    send: impl FnOnce(Bytes, Sender<Bytes, io::Error>) -> F,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));

    let (sender, channel) = Channel::new(1);
    tokio::spawn(send(body, sender));
    Response::from_parts(parts, Either::Right(channel))
}

pub(super) fn full(response: Response<Bytes>) -> Response<Body> {
    response.map(|body| Either::Left(Full::new(body)))
}

pub(super) fn response(content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

pub(super) fn insert_header(
    response: &mut Response<Bytes>,
    name: HeaderName,
    value: &str,
) -> io::Result<()> {
    let value = HeaderValue::from_str(value).map_err(io::Error::other)?;
    response.headers_mut().insert(name, value);
    Ok(())
}
