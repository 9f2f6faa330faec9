//! What arrives at the local socket: both sides read the same frame in it, and what is understood is written as it was.

use rolekeeper::frame::{self, FrameError};
use rolekeeper::protocol::{Code, ReplyFrame, RequestFrame, VERSION, Version};
use rolekeeperd::fuzzing;
use serde::Serialize;

pub fn run(bytes: &[u8]) {
    let frame = frame::read(&mut &*bytes);
    assert_eq!(format!("{frame:?}"), format!("{:?}", fuzzing::frame(bytes)));
    // What has no header is a text all the same, or hardly anything else than headers would be tried.
    let text = frame.as_deref().unwrap_or(bytes);
    let request = |text: &[u8]| {
        serde_json::from_slice::<RequestFrame<'_>>(text)
            .ok()
            .and_then(|it| written(&it))
    };
    let reply = |text: &[u8]| {
        serde_json::from_slice::<ReplyFrame<'_>>(text)
            .ok()
            .and_then(|it| written(&it))
    };
    request(text).inspect(|once| assert_eq!(request(once).as_ref(), Some(once)));
    reply(text).inspect(|once| assert_eq!(reply(once).as_ref(), Some(once)));
    let version = serde_json::from_slice(text).ok().map(|Version { v }| v);
    match fuzzing::request(text) {
        Ok(_) => assert_eq!(version, Some(VERSION)),
        Err(failure) if version.is_none_or(|version| version == VERSION) => {
            assert_eq!(failure.code, Code::BadRequest);
        }
        Err(failure) => assert_eq!(failure.code, Code::UnsupportedVersion),
    }
}

/// The text of a message's frame, unless it is too long for one.
fn written(message: &impl Serialize) -> Option<Vec<u8>> {
    match frame::encode(message) {
        Ok(frame) => Some(frame::read(&mut frame.as_slice()).unwrap()),
        Err(FrameError::TooLarge { length }) if length > frame::MAX => None,
        Err(error) => panic!("{error}"),
    }
}
