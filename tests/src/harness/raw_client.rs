//! The socket protocol without the client: for requests that `rolekeeper` never sends, and for
//! processes that are not it.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use rolekeeper::frame::{self, FrameError};
use serde_json::{Value, json};

/// A request for a lease, as a frame.
///
/// # Panics
/// When the request is longer than a frame.
pub fn lease_request(profile: &str) -> Vec<u8> {
    let request = json!({ "v": 1, "request": { "lease": { "profile": profile } } });

    frame::encode(&request).expect("the request fits into a frame")
}

/// The daemon's challenge, as a frame.
///
/// # Panics
/// When the nonce is longer than a frame.
pub fn challenge(nonce: &str) -> Vec<u8> {
    let reply = json!({ "v": 1, "reply": { "challenge": { "nonce": nonce } } });

    frame::encode(&reply).expect("the reply fits into a frame")
}

/// The response to the daemon's challenge, as a frame.
///
/// # Panics
/// When the nonce is longer than a frame.
pub fn challenge_response(nonce: &str) -> Vec<u8> {
    let request = json!({ "v": 1, "request": { "challenge_response": { "nonce": nonce } } });

    frame::encode(&request).expect("the request fits into a frame")
}

/// Reads one reply.
///
/// # Errors
/// When the connection ends or times out before the end of a reply.
///
/// # Panics
/// When the reply is not JSON.
pub fn read_reply(stream: &mut UnixStream) -> Result<Value, FrameError> {
    let text = frame::read(stream)?;

    Ok(serde_json::from_slice(&text).expect("the daemon replies in JSON"))
}

/// The nonce in a challenge; `None` for every other reply.
pub fn nonce(reply: &Value) -> Option<&str> {
    reply["reply"]["challenge"]["nonce"].as_str()
}

/// Requests a lease of the profile `dev` and answers the daemon's challenge, as `rolekeeper` does.
///
/// # Errors
/// When the connection fails.
///
/// # Panics
/// When the connection ends before the reply.
pub fn request_lease(stream: &mut UnixStream) -> io::Result<Value> {
    stream.write_all(&lease_request("dev"))?;
    let reply = read_reply(stream).expect("the daemon replies");

    let Some(nonce) = nonce(&reply) else {
        return Ok(reply);
    };

    stream.write_all(&challenge_response(nonce))?;
    Ok(read_reply(stream).expect("the daemon replies to the response"))
}

pub fn is_lease(reply: &Value) -> bool {
    reply["reply"]["lease"].is_object()
}

/// Why a request was refused.
///
/// # Panics
/// When it was not.
pub fn refusal(reply: &Value) -> &str {
    reply["reply"]["error"]["message"]
        .as_str()
        .unwrap_or_else(|| panic!("the request was not refused: {reply}"))
}
