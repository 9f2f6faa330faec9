//! The checks of every HTTP request before its authorization: it is meant for this address, and was sent neither by a page in
//! a browser nor through a proxy.

use hyper::Uri;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

/// Headers that browsers and proxies add, and SDKs do not. They give away a page whose host name resolves to 127.0.0.1 (DNS
/// rebinding), and a remote client of an open proxy on this machine.
const BROWSER_AND_PROXY_HEADERS: [&str; 10] = [
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

/// The error is a message with a hint.
pub(super) fn check(headers: &HeaderMap, uri: &Uri, port: u16) -> Result<(), String> {
    if !is_for_this_host(headers, uri, port) {
        return Err(format!(
            "the request is not for the host 127.0.0.1:{port}; try: use the endpoint's URL unchanged"
        ));
    }

    let mut names = headers.keys().map(HeaderName::as_str);
    if let Some(name) = names.find(|name| is_from_browser_or_proxy(name)) {
        return Err(format!(
            "the header {name} comes from a browser or through a proxy; try: set NO_PROXY=127.0.0.1"
        ));
    }

    if has_body(headers) {
        return Err("the request has a body; try: send it without a body".into());
    }

    Ok(())
}

fn is_for_this_host(headers: &HeaderMap, uri: &Uri, port: u16) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next().map(HeaderValue::as_bytes);
    let is_only = hosts.next().is_none();

    is_only && uri.authority().is_none() && first.is_some_and(|host| is_this_host(host, port))
}

fn is_this_host(host: &[u8], port: u16) -> bool {
    let text = std::str::from_utf8(host).unwrap_or_default();
    let Some((name, given)) = text.rsplit_once(':') else {
        return false;
    };

    // Only digits: a number parser accepts `+80`, which a proxy may not.
    let is_port = given.bytes().all(|each| each.is_ascii_digit()) && given.parse() == Ok(port);
    is_port && (name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost"))
}

fn is_from_browser_or_proxy(header: &str) -> bool {
    BROWSER_AND_PROXY_HEADERS.contains(&header) || header.starts_with("x-forwarded-")
}

/// The daemon does not read bodies, so a body could be parsed as the next request.
fn has_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();

    headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length.as_bytes() != b"0")
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn is_accepted(uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        check(request.headers(), request.uri(), 8080).is_ok()
    }

    #[test]
    fn request_for_this_host_is_accepted() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080"] {
            assert!(
                is_accepted(
                    "/credentials/dev",
                    &[("host", host), ("accept", "application/json")]
                ),
                "{host}"
            );
        }
        assert!(is_accepted(
            "/latest/api/token",
            &[("host", "127.0.0.1:8080"), ("content-length", "0")]
        ));
    }

    #[test]
    fn other_hosts_browsers_and_proxies_are_rejected() {
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
            assert!(
                !is_accepted("/credentials/dev", &[("host", host)]),
                "{host}"
            );
        }
        assert!(!is_accepted("/credentials/dev", &[]), "without a host");
        assert!(!is_accepted(
            "/credentials/dev",
            &[("host", "127.0.0.1:8080"), ("host", "127.0.0.1:8080")]
        ));
        assert!(
            !is_accepted(
                "http://127.0.0.1:8080/credentials/dev",
                &[("host", "127.0.0.1:8080")]
            ),
            "a URL as for a proxy"
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
                !is_accepted(
                    "/credentials/dev",
                    &[("host", "127.0.0.1:8080"), (name, value)]
                ),
                "{name}"
            );
        }
    }
}
