//! Signature Version 4 against the examples of the AWS documentation and of the AWS test suite.
//! Their keys are public.

use hyper::Request;
use hyper::http::request::Parts;

use crate::sandbox::sigv4::{AuthParams, SigningKey};

const SUITE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const S3_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// The hash of the empty body.
const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(super) fn parts(verb: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let request = headers.iter().fold(
        Request::builder().method(verb).uri(uri),
        |request, (name, value)| request.header(*name, *value),
    );
    request.body(()).unwrap().into_parts().0
}

pub(super) fn authorization(scope: &str, signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={scope}/aws4_request, SignedHeaders={signed}, Signature={signature}"
    )
}

fn has_signed(parts: &Parts, secret: &str, payload: &str) -> bool {
    let auth = AuthParams::parse(parts).unwrap();
    let text = auth.string_to_sign(parts, payload).unwrap();

    SigningKey::new(secret, &auth.scope)
        .unwrap()
        .has_signed(&text, &auth.signature)
}

/// An example of the S3 documentation.
fn s3_request(
    verb: &str,
    uri: &str,
    more: &[(&str, &str)],
    payload: &str,
    signature: &str,
) -> Parts {
    let mut headers = vec![
        ("host", "examplebucket.s3.amazonaws.com"),
        ("x-amz-content-sha256", payload),
        ("x-amz-date", "20130524T000000Z"),
    ];
    headers.extend(more);
    let mut names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3";
    let value = authorization(scope, &names.join(";"), signature);
    headers.push(("authorization", &value));
    parts(verb, uri, &headers)
}

/// An example of the test suite.
fn suite_request(verb: &str, uri: &str, more: &[(&str, &str)], signature: &str) -> Parts {
    let mut headers = vec![
        ("host", "example.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
    ];
    headers.extend(more);
    let mut names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let value = authorization(
        "AKIDEXAMPLE/20150830/us-east-1/service",
        &names.join(";"),
        signature,
    );
    headers.push(("authorization", &value));
    parts(verb, uri, &headers)
}

#[test]
fn signatures_of_the_test_suite_are_valid() {
    let table = [
        (
            "GET",
            "/",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            "/",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/ሴ",
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
        (
            "GET",
            "//",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "GET",
            "/./example/..",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
    ];
    for (verb, uri, signature) in table {
        assert!(
            has_signed(
                &suite_request(verb, uri, &[], signature),
                SUITE_SECRET,
                EMPTY_HASH
            ),
            "{verb} {uri}"
        );
    }
    let spaces = [("my-header1", "value1"), ("my-header2", "\"a   b   c\"")];
    let signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736";
    assert!(
        has_signed(
            &suite_request("GET", "/", &spaces, signature),
            SUITE_SECRET,
            EMPTY_HASH
        ),
        "spaces within a value"
    );
}

#[test]
fn documented_signatures_are_valid() {
    let get = ("range", "bytes=0-9");
    let table = [
        (
            "/test.txt",
            Some(get),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/?lifecycle",
            None,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/?max-keys=2&prefix=J",
            None,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ];
    for (uri, more, signature) in table {
        assert!(
            has_signed(
                &s3_request("GET", uri, more.as_slice(), EMPTY_HASH, signature),
                S3_SECRET,
                EMPTY_HASH
            ),
            "{uri}"
        );
    }
    let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
    let more = [
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    assert!(has_signed(
        &s3_request("PUT", "/test$file.text", &more, hash, signature),
        S3_SECRET,
        hash
    ));
}

#[test]
fn documented_presigned_url_is_valid() {
    let uri = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3\
               %2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
               &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let request = parts("GET", uri, &[("host", "examplebucket.s3.amazonaws.com")]);
    assert!(has_signed(&request, S3_SECRET, "UNSIGNED-PAYLOAD"));
    assert!(!has_signed(&request, S3_SECRET, EMPTY_HASH));
    let longer = uri.replace("86400", "86401");
    let request = parts(
        "GET",
        &longer,
        &[("host", "examplebucket.s3.amazonaws.com")],
    );
    assert!(
        !has_signed(&request, S3_SECRET, "UNSIGNED-PAYLOAD"),
        "a longer time"
    );
}

/// The documentation's put of 65 KiB in chunks.
fn chunked_put(payload: &str, more: &[(&str, &str)], signature: &str) -> Parts {
    let mut headers = vec![
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    headers.extend(more);
    let uri = "/examplebucket/chunkObject.txt";
    let mut request = s3_request("PUT", uri, &headers, payload, signature);
    request
        .headers
        .insert("host", "s3.amazonaws.com".parse().unwrap());

    request
}

#[test]
fn documented_chunks_are_valid_only_in_their_order() {
    let payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let signature = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let request = chunked_put(payload, &[("content-length", "66824")], signature);
    assert!(has_signed(&request, S3_SECRET, payload));

    let auth = AuthParams::parse(&request).unwrap();
    let key = SigningKey::new(S3_SECRET, &auth.scope).unwrap();
    let first = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648";
    let second = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497";
    let last = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9";

    let mut chain = auth.chain(&key);
    chain.verify_chunk(&[b'a'; 65536], first).unwrap();
    chain.verify_chunk(&[b'a'; 1024], second).unwrap();
    chain.verify_chunk(&[], last).unwrap();

    let mut chain = auth.chain(&key);
    let skipped = chain.verify_chunk(&[b'a'; 1024], second).unwrap_err();
    assert_eq!(skipped.code, "SignatureDoesNotMatch");
    let changed = chain.verify_chunk(&[b'b'; 65536], first).unwrap_err();
    assert_eq!(changed.code, "SignatureDoesNotMatch");
}

#[test]
fn documented_trailer_is_valid() {
    let payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let signature = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    let request = chunked_put(
        payload,
        &[("x-amz-trailer", "x-amz-checksum-crc32c")],
        signature,
    );
    assert!(has_signed(&request, S3_SECRET, payload));

    let auth = AuthParams::parse(&request).unwrap();
    let key = SigningKey::new(S3_SECRET, &auth.scope).unwrap();
    let mut chain = auth.chain(&key);
    for (size, signature) in [
        (
            65536,
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        ),
        (
            1024,
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        ),
        (
            0,
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ),
    ] {
        chain.verify_chunk(&vec![b'a'; size], signature).unwrap();
    }
    chain
        .verify_trailer(
            "x-amz-checksum-crc32c:sOO8/Q==\n",
            "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
        )
        .unwrap();
}

pub(super) const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");
const SCOPE: &str = "AKIDEXAMPLE/20150830/us-east-1/service";

fn error_of_string_to_sign(auth: &AuthParams, request: &Parts) -> String {
    auth.string_to_sign(request, EMPTY_HASH).unwrap_err().code
}

#[test]
fn unsigned_amz_header_is_refused() {
    let mut request = suite_request("GET", "/", &[], "00");
    let auth = AuthParams::parse(&request).unwrap();
    request
        .headers
        .insert("x-amz-meta-added", "later".parse().unwrap());

    assert_eq!(error_of_string_to_sign(&auth, &request), "AccessDenied");
}

#[test]
fn unsigned_host_is_refused() {
    let value = authorization(SCOPE, "x-amz-date", "00");
    let request = parts(
        "GET",
        "/",
        &[("host", "x"), DATE, ("authorization", &value)],
    );
    let auth = AuthParams::parse(&request).unwrap();

    assert_eq!(error_of_string_to_sign(&auth, &request), "AccessDenied");
}

#[test]
fn missing_signed_header_is_a_mismatch() {
    let mut request = suite_request("GET", "/", &[], "00");
    let auth = AuthParams::parse(&request).unwrap();
    request.headers.remove("host");

    assert_eq!(
        error_of_string_to_sign(&auth, &request),
        "SignatureDoesNotMatch"
    );
}
