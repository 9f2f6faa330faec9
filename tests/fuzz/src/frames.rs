//! Bytes at the local socket: client and daemon read the same frame, and a parsed message is written back unchanged.

use rolekeeper::frame::{self, FrameError};
use rolekeeper::protocol::{Code, ReplyFrame, RequestFrame, VERSION, Version};
use rolekeeperd::fuzzing;
use serde::Serialize;

pub fn run(bytes: &[u8]) {
    let frame = frame::read(&mut &*bytes);
    assert_eq!(format!("{frame:?}"), format!("{:?}", fuzzing::frame(bytes)));
    // Bytes without a header are used as a text, too. Otherwise most inputs would reach only the header.
    let text = frame.as_deref().unwrap_or(bytes);
    if let Some(once) = rewritten_request(text) {
        assert_eq!(rewritten_request(&once), Some(once));
    }
    if let Some(once) = rewritten_reply(text) {
        assert_eq!(rewritten_reply(&once), Some(once));
    }

    let version = serde_json::from_slice(text).ok().map(|Version { v }| v);
    match fuzzing::request(text) {
        Ok(_) => assert_eq!(version, Some(VERSION)),
        Err(failure) if version.is_none_or(|version| version == VERSION) => {
            assert_eq!(failure.code, Code::BadRequest);
        }
        Err(failure) => assert_eq!(failure.code, Code::UnsupportedVersion),
    }
}

fn rewritten_request(text: &[u8]) -> Option<Vec<u8>> {
    let request: RequestFrame<'_> = serde_json::from_slice(text).ok()?;

    written(&request)
}

fn rewritten_reply(text: &[u8]) -> Option<Vec<u8>> {
    let reply: ReplyFrame<'_> = serde_json::from_slice(text).ok()?;

    written(&reply)
}

/// The text of a message's frame, unless it is too long for one.
fn written(message: &impl Serialize) -> Option<Vec<u8>> {
    match frame::encode(message) {
        Ok(frame) => Some(frame::read(&mut frame.as_slice()).unwrap()),
        Err(FrameError::TooLarge { length }) if length > frame::MAX => None,
        Err(error) => panic!("{error}"),
    }
}
