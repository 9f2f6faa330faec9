//! Frames: a length of four bytes, big-endian, then that many bytes of JSON. A frame has at most [`MAX`] bytes, and the
//! length is checked before memory is allocated.

use std::io::{self, Read};

use serde::Serialize;

/// The maximum length of a frame's JSON text, in bytes.
pub const MAX: usize = 64 * 1024;

/// The length of the header, in bytes.
pub const HEADER: usize = 4;

#[derive(Debug)]
pub enum FrameError {
    /// The peer closed the connection between two frames: the normal end.
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
                write!(f, "a frame of {length} bytes exceeds the limit of {MAX}")
            }
            Self::Json(error) => write!(f, "a frame has unexpected JSON: {error}"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The length in a header.
///
/// # Errors
/// [`FrameError::TooLarge`] if it exceeds [`MAX`].
pub fn length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX {
        Err(FrameError::TooLarge { length })
    } else {
        Ok(length)
    }
}

/// A complete frame with this message.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    // A lease has about 1 KiB. With one allocation, growing leaves no copy of a secret in freed memory.
    encode_within(message, 2048)
}

/// The same with the message's expected length in bytes.
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

/// Reads the text of the next frame.
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
    fn encoded_frame_is_read_back() {
        let frame = encode(&"hello").unwrap();
        assert_eq!(read(&mut frame.as_slice()).unwrap(), b"\"hello\"");
    }

    #[test]
    fn length_over_limit_is_rejected() {
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
    fn end_inside_a_frame_is_truncated_not_closed() {
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
