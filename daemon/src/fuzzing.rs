//! Private parsers, for the targets in `tests/fuzz`; the programs do not use it. It contains no rule of its own, so that
//! what is fuzzed is what runs.

use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use rolekeeper::frame::{FrameError, HEADER};
use rolekeeper::protocol::{Failure, Request};
use secrecy::SecretString;

use crate::config::Endpoint;
use crate::serve;
use crate::upstream::bycloud::{self, AssumedRole, IamError, SentCall, Session};

/// The text of the frame that these bytes begin with, as the local socket reads it.
pub fn frame(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
    let Some((first, mut rest)) = bytes.split_first() else {
        return Err(FrameError::Closed);
    };
    let mut header = [0; HEADER];
    header[0] = *first;
    // All of the bytes are there, so it waits for none.
    serve::rest(&mut rest, header, 1)
        .now_or_never()
        .unwrap_or(Err(FrameError::Closed))
}

/// What the text of a frame asks for, as the local socket reads it.
pub fn request(text: &[u8]) -> Result<Request<'_>, Failure> {
    serve::parse(text).map(|frame| frame.request)
}

/// How an answer is taken that is no success; nothing, if its status is none.
pub fn refusal(
    status: u16,
    retry_after: &str,
    body: &[u8],
    token: &SecretString,
) -> Option<IamError> {
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_success())?;
    let headers: HeaderMap = HeaderValue::from_str(retry_after)
        .ok()
        .map(|value| (RETRY_AFTER, value))
        .into_iter()
        .collect();
    let endpoint = Endpoint::parse("https://iam.example.test").ok()?;
    Some(
        SentCall {
            method: "assumeRole",
            endpoint: &endpoint,
            token,
            token_source: None,
        }
        .error(status, &headers, body),
    )
}

/// A session as it is granted, and its end; nothing, if the grant is not believed.
pub fn granted(assumed: AssumedRole, asked: Duration) -> Option<(Session, Timestamp)> {
    let end = bycloud::valid_end(&assumed, asked).ok()?;
    Some((assumed.session, end))
}
