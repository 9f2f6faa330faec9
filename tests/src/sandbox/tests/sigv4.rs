//! Signature Version 4 against the examples of the AWS documentation and its test suite, whose keys are published.

use hyper::Request;
use hyper::http::request::Parts;

use crate::sandbox::sigv4::{Claim, SigningKey};

const SUITE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const S3_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// Of the empty body.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parts(verb: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let request = headers.iter().fold(
        Request::builder().method(verb).uri(uri),
        |request, (name, value)| request.header(*name, *value),
    );
    request.body(()).unwrap().into_parts().0
}

fn authorization(scope: &str, signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={scope}/aws4_request, SignedHeaders={signed}, Signature={signature}"
    )
}

fn has_signed(parts: &Parts, secret: &str, payload: &str) -> bool {
    let claim = Claim::read(parts)
        .map_err(|error| error.to_string())
        .unwrap();
    let text = claim.string_to_sign(parts, payload).unwrap();
    SigningKey::new(secret, &claim.scope)
        .unwrap()
        .has_signed(&text, &claim.signature)
}

/// The S3 examples: 2013-05-24, `examplebucket`, headers that every one of them signs.
fn s3(verb: &str, uri: &str, more: &[(&str, &str)], payload: &str, signature: &str) -> Parts {
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

/// The test suite: 2015-08-30, a service that is called `service`.
fn suite(verb: &str, uri: &str, more: &[(&str, &str)], signature: &str) -> Parts {
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
fn the_test_suites_signatures_are_found_good() {
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
            has_signed(&suite(verb, uri, &[], signature), SUITE_SECRET, EMPTY),
            "{verb} {uri}"
        );
    }
    let spaces = [("my-header1", "value1"), ("my-header2", "\"a   b   c\"")];
    let signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736";
    assert!(
        has_signed(&suite("GET", "/", &spaces, signature), SUITE_SECRET, EMPTY),
        "spaces within a value"
    );
}

#[test]
fn the_documents_examples_of_s3_are_found_good() {
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
                &s3("GET", uri, more.as_slice(), EMPTY, signature),
                S3_SECRET,
                EMPTY
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
        &s3("PUT", "/test$file.text", &more, hash, signature),
        S3_SECRET,
        hash
    ));
}

#[test]
fn the_documents_presigned_url_is_found_good() {
    let uri = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3\
               %2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
               &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let request = parts("GET", uri, &[("host", "examplebucket.s3.amazonaws.com")]);
    assert!(has_signed(&request, S3_SECRET, "UNSIGNED-PAYLOAD"));
    assert!(!has_signed(&request, S3_SECRET, EMPTY));
    let longer = uri.replace("86400", "86401");
    let request = parts(
        "GET",
        &longer,
        &[("host", "examplebucket.s3.amazonaws.com")],
    );
    assert!(
        !has_signed(&request, S3_SECRET, "UNSIGNED-PAYLOAD"),
        "a longer time is not what was signed"
    );
}

#[test]
fn the_documents_chunks_are_found_good_in_their_order_and_whole() {
    let payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let more = [
        ("content-encoding", "aws-chunked"),
        ("content-length", "66824"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let mut request = s3(
        "PUT",
        "/examplebucket/chunkObject.txt",
        &more,
        payload,
        seed,
    );
    request
        .headers
        .insert("host", "s3.amazonaws.com".parse().unwrap());
    assert!(has_signed(&request, S3_SECRET, payload));
    let claim = Claim::read(&request).ok().unwrap();
    let key = SigningKey::new(S3_SECRET, &claim.scope).unwrap();
    let chunks = [
        (
            65536,
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        ),
        (
            1024,
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        ),
        (
            0,
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ),
    ];
    let mut chain = claim.chain(&key);
    for (size, signature) in chunks {
        chain.chunk(&vec![b'a'; size], signature).unwrap();
    }
    let mut other = claim.chain(&key);
    assert_eq!(
        other
            .chunk(&vec![b'a'; 1024], chunks[1].1)
            .unwrap_err()
            .code,
        "SignatureDoesNotMatch",
        "not the first"
    );
    assert_eq!(
        other
            .chunk(&vec![b'b'; 65536], chunks[0].1)
            .unwrap_err()
            .code,
        "SignatureDoesNotMatch"
    );
}

#[test]
fn the_documents_trailer_is_found_good() {
    let payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let more = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
    ];
    let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    let mut request = s3(
        "PUT",
        "/examplebucket/chunkObject.txt",
        &more,
        payload,
        seed,
    );
    request
        .headers
        .insert("host", "s3.amazonaws.com".parse().unwrap());
    assert!(has_signed(&request, S3_SECRET, payload));
    let claim = Claim::read(&request).ok().unwrap();
    let key = SigningKey::new(S3_SECRET, &claim.scope).unwrap();
    let mut chain = claim.chain(&key);
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
        chain.chunk(&vec![b'a'; size], signature).unwrap();
    }
    let signature = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    chain
        .trailer("x-amz-checksum-crc32c:sOO8/Q==\n", signature)
        .unwrap();
}

#[test]
fn a_header_that_matters_has_to_be_signed_and_a_signed_one_to_be_there() {
    let good = suite("GET", "/", &[], "00");
    let claim = Claim::read(&good).ok().unwrap();
    let mut more = suite("GET", "/", &[], "00");
    more.headers
        .insert("x-amz-meta-added", "later".parse().unwrap());
    assert_eq!(
        claim.string_to_sign(&more, EMPTY).unwrap_err().code,
        "AccessDenied"
    );
    let mut fewer = suite("GET", "/", &[], "00");
    fewer.headers.remove("host");
    assert_eq!(
        claim.string_to_sign(&fewer, EMPTY).unwrap_err().code,
        "SignatureDoesNotMatch"
    );
    let value = authorization("AKIDEXAMPLE/20150830/us-east-1/service", "x-amz-date", "00");
    let headers = [
        ("host", "x"),
        ("x-amz-date", "20150830T123600Z"),
        ("authorization", &*value),
    ];
    let no_host = parts("GET", "/", &headers);
    let claim = Claim::read(&no_host).ok().unwrap();
    assert_eq!(
        claim.string_to_sign(&no_host, EMPTY).unwrap_err().code,
        "AccessDenied",
        "the host is not signed"
    );
}

#[test]
fn a_claim_that_is_not_whole_is_refused_with_what_is_wrong() {
    const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");
    const MALFORMED: &str = "AuthorizationHeaderMalformed";
    let scope = "AKIDEXAMPLE/20150830/us-east-1/s3";
    let whole = authorization(scope, "host", "00");
    let table = [
        (vec![], "/", "AccessDenied"),
        (
            vec![("authorization", "Bearer x"), DATE],
            "/",
            "InvalidRequest",
        ),
        (
            vec![("authorization", "AWS AKIDEXAMPLE:x"), DATE],
            "/",
            "InvalidRequest",
        ),
        (vec![("authorization", whole.as_str())], "/", "AccessDenied"),
        (
            vec![("authorization", whole.as_str()), DATE, DATE],
            "/",
            "InvalidRequest",
        ),
        (
            vec![
                ("authorization", whole.as_str()),
                ("x-amz-date", "20150831T123600Z"),
            ],
            "/",
            MALFORMED,
        ),
        (
            vec![("authorization", whole.as_str()), DATE],
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "InvalidArgument",
        ),
        (
            vec![
                (
                    "authorization",
                    "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request",
                ),
                DATE,
            ],
            "/",
            MALFORMED,
        ),
        (
            vec![("authorization", "AWS4-HMAC-SHA256 nonsense"), DATE],
            "/",
            MALFORMED,
        ),
        (
            vec![],
            "/?AWSAccessKeyId=A&Signature=x&Expires=1",
            "InvalidRequest",
        ),
        (
            vec![],
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "AuthorizationQueryParametersError",
        ),
        (
            vec![],
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=604801",
            "AuthorizationQueryParametersError",
        ),
    ];
    for (headers, uri, want) in table {
        let error = Claim::read(&parts("GET", uri, &headers)).err().unwrap();
        assert_eq!(error.code, want, "{headers:?} {uri}");
    }
    for credential in [
        "A/20150830/r/s3/aws3_request",
        "A/20150830/r/s3/aws4_request/x",
        "/20150830/r/s3/aws4_request",
    ] {
        let header =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00");
        let error = Claim::read(&parts("GET", "/", &[("authorization", &header), DATE]))
            .err()
            .unwrap();
        assert_eq!(error.code, MALFORMED, "{credential}");
    }
}

#[test]
fn a_time_is_read_only_in_its_one_form() {
    let time = |at: &str| {
        let value = authorization(
            &format!("A/{}/r/s3", at.split('T').next().unwrap()),
            "host",
            "00",
        );
        Claim::read(&parts(
            "GET",
            "/",
            &[("authorization", &value), ("x-amz-date", at)],
        ))
        .ok()
        .and_then(|c| c.time())
    };
    assert_eq!(time("20150830T123600Z"), Some(1_440_938_160_000));
    for wrong in [
        "20150830T1236Z",
        "2015-08-30T12:36:00Z",
        "20151330T123600Z",
        "20150830T123600+01",
    ] {
        assert_eq!(time(wrong), None, "{wrong}");
    }
}
