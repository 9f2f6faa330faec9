//! What every request over HTTP must be like, before it is looked at who asks for what: meant for this very address, and sent
//! neither by a page in a browser nor through a proxy.

use hyper::Uri;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

/// Headers that browsers and proxies add, and SDKs do not: a page whose name leads to 127.0.0.1 must not get through, nor
/// somebody far away who has found an open proxy here.
const STRANGERS: [&str; 10] = [
    "forwarded",
    "origin",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "via",
    "x-real-ip",
];

/// The reason of a refusal is a sentence.
pub(super) fn check(headers: &HeaderMap, uri: &Uri, port: u16) -> Result<(), String> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, another) = (hosts.next().map(HeaderValue::as_bytes), hosts.next());
    let is_here = host.is_some_and(|host| is_here(host, port));
    if !is_here || another.is_some() || uri.authority().is_some() {
        return Err(format!(
            "this endpoint answers to the host 127.0.0.1:{port} only; try: the URL as it was given"
        ));
    }
    let is_strange = |name: &str| STRANGERS.contains(&name) || name.starts_with("x-forwarded-");
    if let Some(name) = headers
        .keys()
        .map(HeaderName::as_str)
        .find(|name| is_strange(name))
    {
        return Err(format!(
            "a request with the header {name} comes from a browser or through a proxy, and is not answered; \
             try: NO_PROXY=127.0.0.1"
        ));
    }
    // A body that nobody reads could pass for the next request.
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes() != b"0");
    if has_body {
        Err("a request has no body here; try: the same without one".into())
    } else {
        Ok(())
    }
}

fn is_here(host: &[u8], port: u16) -> bool {
    let text = std::str::from_utf8(host).unwrap_or_default();
    let Some((name, given)) = text.rsplit_once(':') else {
        return false;
    };
    // Digits alone: `+80` is a number to a parser, and to a proxy perhaps none.
    let is_port = given.bytes().all(|each| each.is_ascii_digit()) && given.parse() == Ok(port);
    is_port && (name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn judged(uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        check(request.headers(), request.uri(), 8080).is_ok()
    }

    #[test]
    fn a_program_on_this_machine_gets_through() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080"] {
            assert!(
                judged(
                    "/credentials/dev",
                    &[("host", host), ("accept", "application/json")]
                ),
                "{host}"
            );
        }
        assert!(judged(
            "/latest/api/token",
            &[("host", "127.0.0.1:8080"), ("content-length", "0")]
        ));
    }

    #[test]
    fn pages_proxies_and_other_names_do_not() {
        for host in [
            "",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:08080 ",
            "127.0.0.1:+8080",
            "127.1:8080",
            "0.0.0.0:8080",
            "evil.example:8080",
            "localhost.:8080",
            "localhost:8080.evil.example",
            "127.0.0.1.evil.example:8080",
            "evil.example@127.0.0.1:8080",
            "[::1]:8080",
            "2130706433:8080",
        ] {
            assert!(!judged("/credentials/dev", &[("host", host)]), "{host}");
        }
        assert!(!judged("/credentials/dev", &[]), "without a host");
        assert!(!judged(
            "/credentials/dev",
            &[("host", "127.0.0.1:8080"), ("host", "127.0.0.1:8080")]
        ));
        assert!(
            !judged(
                "http://127.0.0.1:8080/credentials/dev",
                &[("host", "127.0.0.1:8080")]
            ),
            "as to a proxy"
        );
        for (name, value) in [
            ("origin", "http://127.0.0.1:8080"),
            ("referer", "x"),
            ("sec-fetch-site", "none"),
            ("via", "1.1 p"),
            ("forwarded", "for=x"),
            ("x-forwarded-for", "x"),
            ("x-forwarded-host", "x"),
            ("x-forwarded-proto", "x"),
            ("x-real-ip", "x"),
            ("proxy-connection", "close"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
        ] {
            assert!(
                !judged(
                    "/credentials/dev",
                    &[("host", "127.0.0.1:8080"), (name, value)]
                ),
                "{name}"
            );
        }
    }
}
