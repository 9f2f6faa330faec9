//! One frame: four bytes of length, big-endian, then that many bytes of JSON. No frame is longer than [`MAX`], and no
//! length is believed before it is checked.

use std::io::{self, Read};

use serde::Serialize;

/// The longest JSON text of a frame, in bytes.
pub const MAX: usize = 64 * 1024;

/// The bytes in front of the text.
pub const HEADER: usize = 4;

#[derive(Debug)]
pub enum FrameError {
    /// The peer closed the connection between two frames: the ordinary end.
    Closed,
    /// The peer closed the connection inside a frame.
    Truncated {
        got: usize,
        want: usize,
    },
    TooLarge {
        length: usize,
    },
    Json(serde_json::Error),
    Io(io::Error),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => write!(f, "the connection was closed"),
            Self::Truncated { got, want } => {
                write!(
                    f,
                    "the connection was closed after {got} of {want} bytes of a frame"
                )
            }
            Self::TooLarge { length } => {
                write!(f, "a frame of {length} bytes is over the limit of {MAX}")
            }
            Self::Json(error) => write!(f, "a frame is not the JSON that was expected: {error}"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The length in a header, once it is known to be allowed.
pub fn length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX {
        Err(FrameError::TooLarge { length })
    } else {
        Ok(length)
    }
}

/// A whole frame, ready to be written in one piece.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    // A lease is about 1 KiB: one allocation, and no copy of a secret is left behind by growing.
    encode_within(message, 2048)
}

/// The same for a message that is expected to have this length, in bytes.
pub fn encode_within(message: &impl Serialize, expected: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = Vec::with_capacity(expected);
    frame.extend_from_slice(&[0; HEADER]);
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Json)?;
    let length = frame.len() - HEADER;
    let header = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX)
        .ok_or(FrameError::TooLarge { length })?;
    for (byte, value) in frame.iter_mut().zip(header.to_be_bytes()) {
        *byte = value;
    }
    Ok(frame)
}

/// The text of the next frame.
pub fn read(stream: &mut impl Read) -> Result<Vec<u8>, FrameError> {
    let mut header = [0; HEADER];
    match fill(stream, &mut header)? {
        0 => return Err(FrameError::Closed),
        HEADER => {}
        got => return Err(FrameError::Truncated { got, want: HEADER }),
    }
    let want = length(header)?;
    let mut text = vec![0; want];
    let got = fill(stream, &mut text)?;
    if got < want {
        Err(FrameError::Truncated { got, want })
    } else {
        Ok(text)
    }
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize, FrameError> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let frame = encode(&"hello").unwrap();
        assert_eq!(read(&mut frame.as_slice()).unwrap(), b"\"hello\"");
    }

    #[test]
    fn a_length_over_the_cap_is_refused_before_anything_is_allocated() {
        let header = u32::MAX.to_be_bytes();
        assert!(matches!(
            read(&mut header.as_slice()),
            Err(FrameError::TooLarge { .. })
        ));
        assert!(matches!(
            encode(&"x".repeat(MAX)),
            Err(FrameError::TooLarge { .. })
        ));
        assert!(encode(&"x".repeat(MAX - 2)).is_ok());
    }

    #[test]
    fn an_end_inside_a_frame_is_told_from_an_end_between_frames() {
        let frame = encode(&"hello").unwrap();
        assert!(matches!(read(&mut [].as_slice()), Err(FrameError::Closed)));
        for cut in 1..frame.len() {
            assert!(
                matches!(read(&mut &frame[..cut]), Err(FrameError::Truncated { .. })),
                "cut at {cut}"
            );
        }
    }
}
