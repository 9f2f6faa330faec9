//! Parsing of the parameters of a signature.

use super::sigv4::{DATE, authorization, parts};
use crate::sandbox::clock::Millis;
use crate::sandbox::sigv4::AuthParams;

const MALFORMED: &str = "AuthorizationHeaderMalformed";

fn parse_error(uri: &str, headers: &[(&str, &str)]) -> String {
    let Err(error) = AuthParams::parse(&parts("GET", uri, headers)) else {
        panic!("{headers:?} {uri}: no error");
    };
    error.code
}

#[test]
fn invalid_authorization_header_is_refused() {
    let valid = authorization("AKIDEXAMPLE/20150830/us-east-1/s3", "host", "00");
    let valid = ("authorization", &*valid);
    let incomplete = "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request";

    for (headers, code) in [
        (vec![], "AccessDenied"),
        (vec![("authorization", "Bearer x"), DATE], "InvalidRequest"),
        (
            vec![("authorization", "AWS AKIDEXAMPLE:x"), DATE],
            "InvalidRequest",
        ),
        (vec![valid], "AccessDenied"),
        (vec![valid, DATE, DATE], "InvalidRequest"),
        (vec![valid, ("x-amz-date", "20150831T123600Z")], MALFORMED),
        (vec![("authorization", incomplete), DATE], MALFORMED),
        (
            vec![("authorization", "AWS4-HMAC-SHA256 nonsense"), DATE],
            MALFORMED,
        ),
    ] {
        assert_eq!(parse_error("/", &headers), code, "{headers:?}");
    }

    let uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256";
    assert_eq!(
        parse_error(uri, &[valid, DATE]),
        "InvalidArgument",
        "signed twice"
    );
}

#[test]
fn invalid_credential_is_refused() {
    for credential in [
        "A/20150830/r/s3/aws3_request",
        "A/20150830/r/s3/aws4_request/x",
        "/20150830/r/s3/aws4_request",
    ] {
        let header =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00");
        let headers = [("authorization", &*header), DATE];

        assert_eq!(parse_error("/", &headers), MALFORMED, "{credential}");
    }
}

#[test]
fn invalid_presigned_query_is_refused() {
    const CODE: &str = "AuthorizationQueryParametersError";

    for (uri, code) in [
        ("/?AWSAccessKeyId=A&Signature=x&Expires=1", "InvalidRequest"),
        ("/?X-Amz-Algorithm=AWS4-HMAC-SHA256", CODE),
        (
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=604801",
            CODE,
        ),
    ] {
        assert_eq!(parse_error(uri, &[]), code, "{uri}");
    }
}

/// `None` if the header or the time is invalid.
fn time_of(date: &str) -> Option<Millis> {
    let (day, _) = date.split_once('T').unwrap();
    let value = authorization(&format!("A/{day}/r/s3"), "host", "00");
    let headers = [("authorization", &*value), ("x-amz-date", date)];

    AuthParams::parse(&parts("GET", "/", &headers)).ok()?.time()
}

#[test]
fn time_has_one_valid_form() {
    assert_eq!(time_of("20150830T123600Z"), Some(1_440_938_160_000));

    for invalid in [
        "20150830T1236Z",
        "2015-08-30T12:36:00Z",
        "20151330T123600Z",
        "20150830T123600+01",
    ] {
        assert_eq!(time_of(invalid), None, "{invalid}");
    }
}
