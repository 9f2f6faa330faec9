//! Decoding of `aws-chunked` bodies: chunks with their sizes and perhaps signatures, and perhaps a
//! trailer. An incomplete body is refused.

use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{SignatureChain, mismatch};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct DecodedBody {
    pub(super) data: Vec<u8>,
    /// Names in lower case, and values.
    pub(super) trailer: Vec<(String, String)>,
}

const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Decodes a body. With a chain, every chunk must have a valid signature; without one, none may
/// have a signature.
pub(super) fn decode(
    body: &[u8],
    mut chain: Option<SignatureChain<'_>>,
    has_trailer: bool,
) -> Result<DecodedBody, ApiError> {
    let mut rest = body;
    let mut data = Vec::new();

    loop {
        let (size, extension) = take_chunk_header(&mut rest)?;
        let chunk = take(&mut rest, size)?;
        verify_chunk(chain.as_mut(), chunk, extension)?;
        if size == 0 {
            break;
        }
        take_line_end(&mut rest)?;
        data.extend_from_slice(chunk);
    }

    let trailer = if has_trailer {
        take_trailer(&mut rest, chain.as_mut())?
    } else {
        Vec::new()
    };

    // Some clients omit the final line.
    if !rest.is_empty() {
        take_line_end(&mut rest)?;
    }
    if !rest.is_empty() {
        return Err(malformed("there is data behind the last chunk"));
    }
    Ok(DecodedBody { data, trailer })
}

/// The size of a chunk, and its extension.
fn take_chunk_header<'a>(rest: &mut &'a [u8]) -> Result<(usize, Option<&'a str>), ApiError> {
    let header = take_line(rest)?;
    let (size, extension) = match header.split_once(';') {
        Some((size, extension)) => (size, Some(extension)),
        None => (header, None),
    };

    // `from_str_radix` accepts a sign.
    if size.starts_with('+') {
        return Err(malformed("a chunk has no size"));
    }
    let size = usize::from_str_radix(size, 16).map_err(|_| malformed("a chunk has no size"))?;
    Ok((size, extension))
}

fn verify_chunk(
    chain: Option<&mut SignatureChain<'_>>,
    chunk: &[u8],
    extension: Option<&str>,
) -> Result<(), ApiError> {
    let signature = extension.and_then(|text| text.strip_prefix("chunk-signature="));

    match (chain, signature) {
        (Some(chain), Some(signature)) => chain.verify_chunk(chunk, signature),
        (Some(_), None) => Err(mismatch("a chunk is not signed")),
        (None, None) if extension.is_none() => Ok(()),
        (None, _) => Err(malformed("a chunk has an unexpected extension")),
    }
}

fn take_trailer(
    rest: &mut &[u8],
    chain: Option<&mut SignatureChain<'_>>,
) -> Result<Vec<(String, String)>, ApiError> {
    let mut trailer = Vec::new();
    let mut signature = None;

    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let (name, value) = take_line(rest)?
            .split_once(':')
            .ok_or_else(|| malformed("a line of the trailer is not a header"))?;
        let name = name.trim().to_ascii_lowercase();
        let value = value.trim().to_owned();

        if name != TRAILER_SIGNATURE {
            trailer.push((name, value));
        } else if signature.replace(value).is_some() {
            return Err(malformed("the trailer is signed twice"));
        }
    }

    match (chain, signature) {
        (Some(chain), Some(signature)) => {
            let lines = trailer
                .iter()
                .map(|(name, value)| format!("{name}:{value}\n"));
            chain.verify_trailer(&lines.collect::<String>(), &signature)?;
        }
        (Some(_), None) => return Err(mismatch("the trailer is not signed")),
        (None, Some(_)) => return Err(malformed("the trailer has an unexpected signature")),
        (None, None) => {}
    }
    Ok(trailer)
}

/// A line without its CRLF.
fn take_line<'a>(rest: &mut &'a [u8]) -> Result<&'a str, ApiError> {
    let length = rest
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or_else(incomplete)?;
    let line = take(rest, length)?;
    take_line_end(rest)?;

    std::str::from_utf8(line).map_err(|_| malformed("a line is not UTF-8"))
}

fn take_line_end(rest: &mut &[u8]) -> Result<(), ApiError> {
    match take(rest, 2)? {
        b"\r\n" => Ok(()),
        _ => Err(malformed("a chunk is longer than its size")),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], ApiError> {
    let (taken, remaining) = rest.split_at_checked(length).ok_or_else(incomplete)?;
    *rest = remaining;

    Ok(taken)
}

fn incomplete() -> ApiError {
    ApiError::new(400, "IncompleteBody", "the body ends before its last chunk")
}

fn malformed(reason: &str) -> ApiError {
    let message = format!("the body is not aws-chunked: {reason}");
    ApiError::new(400, "InvalidRequest", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_unsigned(body: &str, has_trailer: bool) -> Result<DecodedBody, String> {
        decode(body.as_bytes(), None, has_trailer).map_err(|error| error.code)
    }

    fn without_trailer(data: &str) -> Result<DecodedBody, String> {
        Ok(DecodedBody {
            data: data.into(),
            trailer: Vec::new(),
        })
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(decode_unsigned("0\r\n\r\n", false), without_trailer(""));
        assert_eq!(
            decode_unsigned("3\r\nabc\r\n2\r\n\r\n\r\n0\r\n\r\n", false),
            without_trailer("abc\r\n")
        );
        assert_eq!(
            decode_unsigned("0\r\n", true),
            without_trailer(""),
            "without the final line"
        );
    }

    #[test]
    fn trailer_names_are_in_lower_case() {
        let decoded = decode_unsigned("0\r\nX-A: 1\r\nx-b:2\r\n\r\n", true).unwrap();
        let trailer = vec![("x-a".into(), "1".into()), ("x-b".into(), "2".into())];

        assert_eq!(
            decoded,
            DecodedBody {
                data: Vec::new(),
                trailer
            }
        );
    }

    #[test]
    fn incomplete_or_malformed_body_is_refused() {
        for (body, code) in [
            ("", "IncompleteBody"),
            ("3\r\nabc\r\n", "IncompleteBody"),
            ("4\r\nabc", "IncompleteBody"),
            ("ffffffffffffffff\r\nabc\r\n0\r\n\r\n", "IncompleteBody"),
            ("fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "InvalidRequest"),
            ("-1\r\nabc\r\n0\r\n\r\n", "InvalidRequest"),
            ("+3\r\nabc\r\n0\r\n\r\n", "InvalidRequest"),
            ("2\r\nabc\r\n0\r\n\r\n", "InvalidRequest"),
            ("3;x=y\r\nabc\r\n0\r\n\r\n", "InvalidRequest"),
            ("0\r\n\r\nx", "InvalidRequest"),
            ("0\r\nx-a:1\r\n\r\n", "InvalidRequest"),
        ] {
            assert_eq!(decode_unsigned(body, false), Err(code.into()), "{body:?}");
        }
    }
}
