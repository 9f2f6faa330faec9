//! botocore as the oracle: the daemon has its endpoints, and signs as it does.

use reqwest::header::HeaderValue;
use reqwest::{Method, Request};
use rolekeeper_tests::harness::{Home, short_or_long};
use rolekeeperd::config::aws_endpoints::{Partition, Variant};
use rolekeeperd::upstream::aws::{Keys, Scope, sign_request};
use serde_json::{Value, json};

use super::assert_installed;
use super::driver::{Driver, botocore};

const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

fn oracle(home: &Home) -> Driver {
    assert_installed("python");
    Driver::start(home, botocore(home, "drivers/aws_oracle.py"))
}

#[test]
fn endpoints_are_those_of_botocore() {
    let home = Home::default();
    let mut oracle = oracle(&home);
    let regions = oracle.request(r#"{"what":"regions"}"#);
    let regions = regions.as_array().unwrap();
    assert!(regions.len() > 40, "{regions:?}");

    for region in regions.iter().map(|region| region.as_str().unwrap()) {
        let partition = Partition::of_region(region);
        for (fips, dual_stack) in [(false, false), (false, true), (true, false), (true, true)] {
            let variant = Variant { fips, dual_stack };
            let mut ask = |service| {
                let parameters = json!([service, region, fips, dual_stack]);
                let line = json!({ "what": "endpoint", "parameters": parameters });
                oracle.request(&line.to_string())
            };

            let sts = partition.sts(region, variant).unwrap().to_string();
            assert_eq!(ask("sts"), json!([sts, region]), "{region} {variant:?}");
            let iam = partition.iam(variant).unwrap().to_string();
            let signed_for = partition.iam_region();
            assert_eq!(ask("iam"), json!([iam, signed_for]), "{region} {variant:?}");
        }
    }
}

/// Text of any characters.
fn random_text(random: &mut fastrand::Rng) -> String {
    let length = random.usize(0..300);
    (0..length)
        .map(|_| match random.u8(0..4) {
            0 => random.char('\u{80}'..='\u{2fff}'),
            1 => random
                .choice([' ', '+', '%', '&', '=', '/', '~', '\n'])
                .unwrap(),
            _ => random.alphanumeric(),
        })
        .collect()
}

#[test]
fn signatures_are_those_of_botocore() {
    let home = Home::default();
    let mut oracle = oracle(&home);
    let mut random = fastrand::Rng::with_seed(20);

    for number in 0..short_or_long(1_000, 10_000) {
        let id: String = (0..20)
            .map(|_| random.alphanumeric().to_ascii_uppercase())
            .collect();
        let secret: String = (0..40).map(|_| random.char('!'..='~')).collect();
        let token: Option<String> = random.bool().then(|| {
            (0..random.usize(1..500))
                .map(|_| random.alphanumeric())
                .collect()
        });
        let body = random_text(&mut random);
        let time = random.i64(1_400_000_000..2_000_000_000);
        let region = random
            .choice(["eu-central-1", "us-gov-west-1", "cn-north-1"])
            .unwrap();
        let service = random.choice(["sts", "iam"]).unwrap();
        let url = random
            .choice([
                "https://sts.eu-central-1.amazonaws.com/",
                "http://127.0.0.1:4599/",
            ])
            .unwrap();

        let mut request = Request::new(Method::POST, url.parse().unwrap());
        let content_type = HeaderValue::from_static(CONTENT_TYPE);
        request.headers_mut().insert("content-type", content_type);
        let keys = Keys::new(&id, &secret, token.as_deref());
        let scope = Scope { service, region };
        let at = jiff::Timestamp::from_second(time).unwrap();
        sign_request(&mut request, body.as_bytes(), &keys, scope, at).unwrap();
        let ours = request.headers()["authorization"].to_str().unwrap();

        let line = json!({
            "what": "signature", "keys": [id, secret, token], "body": body, "time": time, "url": url,
            "region": region, "service": service, "content_type": CONTENT_TYPE,
        });
        let theirs = oracle.request(&line.to_string());
        assert_eq!(Value::from(ours), theirs, "request {number}: {line}");
    }
}
