//! Bodies in `aws-chunked` form: each chunk with its size, and its signature if it is signed; behind the last one perhaps
//! a trailer. It must accept nothing that is not wholly there.

use crate::sandbox::error::ApiError;
use crate::sandbox::sigv4::{Chain, mismatch};

/// What was in the chunks, and the headers behind them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unwrapped {
    pub(super) data: Vec<u8>,
    pub(super) trailer: Vec<(String, String)>,
}

const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Takes a body apart. With a chain every signature is checked, without one there may be none.
pub(super) fn unwrap(
    body: &[u8],
    mut chain: Option<Chain<'_>>,
    has_trailer: bool,
) -> Result<Unwrapped, ApiError> {
    let (mut rest, mut data) = (body, Vec::new());
    loop {
        let head = line(&mut rest)?;
        let (size, extension) = head
            .split_once(';')
            .map_or((head, None), |(size, text)| (size, Some(text)));
        // A sign would be taken for part of a number.
        let size = if size.starts_with('+') {
            None
        } else {
            usize::from_str_radix(size, 16).ok()
        };
        let size = size.ok_or_else(|| malformed("a chunk begins with no size"))?;
        let chunk = take(&mut rest, size)?;
        check(&mut chain, chunk, extension)?;
        if size == 0 {
            break;
        }
        end(&mut rest)?;
        data.extend_from_slice(chunk);
    }
    let trailer = if has_trailer {
        read_trailer(&mut rest, &mut chain)?
    } else {
        Vec::new()
    };
    // The line that ends the body.
    if !rest.is_empty() {
        end(&mut rest)?;
    }
    if !rest.is_empty() {
        return Err(malformed("there is more behind the last chunk"));
    }
    Ok(Unwrapped { data, trailer })
}

fn check(
    chain: &mut Option<Chain<'_>>,
    chunk: &[u8],
    extension: Option<&str>,
) -> Result<(), ApiError> {
    let signature = extension.and_then(|text| text.strip_prefix("chunk-signature="));
    match (chain, signature) {
        (Some(chain), Some(signature)) => chain.chunk(chunk, signature),
        (Some(_), None) => Err(mismatch("a chunk of the body is not signed")),
        (None, None) if extension.is_none() => Ok(()),
        (None, _) => Err(malformed("a chunk has an extension where none is expected")),
    }
}

fn read_trailer(
    rest: &mut &[u8],
    chain: &mut Option<Chain<'_>>,
) -> Result<Vec<(String, String)>, ApiError> {
    let (mut trailer, mut signature) = (Vec::new(), None);
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let text = line(rest)?.trim_end();
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| malformed("a line of the trailer is no header"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if name != TRAILER_SIGNATURE {
            trailer.push((name, value));
        } else if signature.replace(value).is_some() {
            return Err(malformed("the trailer is signed twice"));
        }
    }
    match (chain, signature) {
        (Some(chain), Some(signature)) => {
            let headers: String = trailer
                .iter()
                .map(|(name, value)| format!("{name}:{value}\n"))
                .collect();
            chain.trailer(&headers, &signature)?;
        }
        (Some(_), None) => return Err(mismatch("the trailer of the body is not signed")),
        (None, Some(_)) => {
            return Err(malformed(
                "the trailer is signed where no signature is expected",
            ));
        }
        (None, None) => {}
    }
    Ok(trailer)
}

/// A line without its CRLF.
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a str, ApiError> {
    let length = rest
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .ok_or_else(cut)?;
    let text = take(rest, length)?;
    end(rest)?;
    std::str::from_utf8(text).map_err(|_| malformed("a line between the chunks is no text"))
}

fn end(rest: &mut &[u8]) -> Result<(), ApiError> {
    match take(rest, 2)? {
        b"\r\n" => Ok(()),
        _ => Err(malformed("a chunk is longer than it says")),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], ApiError> {
    let (taken, left) = rest.split_at_checked(length).ok_or_else(cut)?;
    *rest = left;
    Ok(taken)
}

fn cut() -> ApiError {
    ApiError::new(400, "IncompleteBody", "the body ends before its last chunk")
}

fn malformed(why: &str) -> ApiError {
    ApiError::new(
        400,
        "InvalidRequest",
        format!("the body is not aws-chunked: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_what_is_not_whole_is_refused() {
        let join = |body: &str, has_trailer| {
            unwrap(body.as_bytes(), None, has_trailer).map_err(|error| error.code)
        };
        let whole = |data: &str| {
            Ok(Unwrapped {
                data: data.into(),
                trailer: Vec::new(),
            })
        };
        assert_eq!(
            join("3\r\nabc\r\n2\r\n\r\n\r\n0\r\n\r\n", false),
            whole("abc\r\n")
        );
        assert_eq!(join("0\r\n\r\n", false), whole(""));
        assert_eq!(
            join("0\r\n", true),
            whole(""),
            "some leave out the last line"
        );
        let trailer = vec![("x-a".into(), "1".into()), ("x-b".into(), "2".into())];
        assert_eq!(
            join("0\r\nX-A: 1\r\nx-b:2\r\n\r\n", true),
            Ok(Unwrapped {
                data: Vec::new(),
                trailer
            })
        );
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
            assert_eq!(join(body, false), Err(code.into()), "{body:?}");
        }
    }
}
