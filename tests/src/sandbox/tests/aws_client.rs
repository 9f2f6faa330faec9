//! A client of the sandbox's AWS that signs its requests. The signing shares no code with the
//! sandbox.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderMap;
use serde_json::json;
use sha2::Sha256;

use super::World;
use super::s3_client::{hex_sha256, signing_time};
use crate::hex;

#[derive(Clone, Debug)]
pub(super) struct AwsKeys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

#[derive(Debug)]
pub(super) struct AwsReply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl AwsReply {
    /// The text of the first element with a name, unescaped; empty without one.
    pub(super) fn tag(&self, name: &str) -> String {
        let start = format!("<{name}>");
        let end = format!("</{name}>");
        let (_, rest) = self.body.split_once(&start).unwrap_or_default();
        let (text, _) = rest.split_once(&end).unwrap_or_default();

        text.replace("&quot;", "\"").replace("&amp;", "&")
    }

    /// The status and the error code, which is empty for a success.
    pub(super) fn code(&self) -> (u16, String) {
        (self.status, self.tag("Code"))
    }

    pub(super) fn message(&self) -> String {
        self.tag("Message")
    }

    /// The keys of a successful reply.
    pub(super) fn keys(&self) -> AwsKeys {
        assert_eq!(self.status, 200, "{}", self.body);
        AwsKeys {
            id: self.tag("AccessKeyId"),
            secret: self.tag("SecretAccessKey"),
            token: Some(self.tag("SessionToken")),
        }
    }

    pub(super) fn check_denied(&self, message: &str) {
        assert_eq!(self.code(), (403, "AccessDenied".into()), "{}", self.body);
        assert_eq!(self.message(), message);
    }

    pub(super) fn check_invalid(&self, message: &str) {
        assert_eq!(
            self.code(),
            (400, "ValidationError".into()),
            "{}",
            self.body
        );
        assert!(self.message().contains(message), "{}", self.body);
    }
}

/// How a request is signed.
#[derive(Clone, Debug)]
pub(super) struct Signing {
    pub(super) service: &'static str,
    pub(super) region: &'static str,
    /// Seconds from now.
    pub(super) shift: i64,
}

pub(super) const STS: Signing = Signing {
    service: "sts",
    region: "eu-central-1",
    shift: 0,
};

pub(super) const IAM: Signing = Signing {
    service: "iam",
    region: "us-east-1",
    shift: 0,
};

pub(super) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// A form with the action and the version of its service.
pub(super) fn form(action: &str, version: &str, params: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action);
    form.append_pair("Version", version);
    for (name, value) in params {
        form.append_pair(name, value);
    }
    form.finish()
}

impl World {
    pub(super) fn fixture(&self, pointer: &str) -> &str {
        let value = self.sandbox.ready["aws_fixture"].pointer(pointer);
        value.and_then(|value| value.as_str()).unwrap()
    }

    /// The long-term keys of a user.
    pub(super) fn user_keys(&self, name: &str) -> AwsKeys {
        AwsKeys {
            id: self.fixture(&format!("/users/{name}/access_key_id")).into(),
            secret: self
                .fixture(&format!("/users/{name}/secret_access_key"))
                .into(),
            token: None,
        }
    }

    /// Calls STS.
    pub(super) async fn sts(
        &self,
        keys: &AwsKeys,
        action: &str,
        params: &[(&str, &str)],
    ) -> AwsReply {
        let body = form(action, "2011-06-15", params);
        self.send_signed(keys, &STS, &body).await
    }

    /// Calls IAM.
    pub(super) async fn iam(
        &self,
        keys: &AwsKeys,
        action: &str,
        params: &[(&str, &str)],
    ) -> AwsReply {
        let body = form(action, "2010-05-08", params);
        self.send_signed(keys, &IAM, &body).await
    }

    /// Assumes a role of the fixture.
    pub(super) async fn assume_role(
        &self,
        keys: &AwsKeys,
        role: &str,
        params: &[(&str, &str)],
    ) -> AwsReply {
        let arn = self.fixture(&format!("/roles/{role}"));
        let mut all = vec![("RoleArn", arn), ("RoleSessionName", "test")];
        all.extend_from_slice(params);

        self.sts(keys, "AssumeRole", &all).await
    }

    pub(super) async fn send_signed(
        &self,
        keys: &AwsKeys,
        signing: &Signing,
        body: &str,
    ) -> AwsReply {
        let host = self.ready("aws").strip_prefix("http://").unwrap();
        let at = signing_time(signing.shift);
        let authorization = authorization(keys, signing, host, &at, body);

        let mut request = self
            .http
            .post(format!("http://{host}/"))
            .header("content-type", FORM)
            .header("x-amz-date", at)
            .header("authorization", authorization)
            .body(body.to_owned());
        if let Some(token) = &keys.token {
            request = request.header("x-amz-security-token", token);
        }
        send(request).await
    }

    /// The current MFA code of `ada`.
    pub(super) async fn mfa_code(&self) -> String {
        let codes = self.control("GET", "/aws/users/ada/mfa-code", None).await;
        let codes = codes.body.as_object().unwrap();
        codes[self.fixture("/mfa/serial")].as_str().unwrap().into()
    }

    pub(super) async fn aws_control(&self, path: &str, body: serde_json::Value) {
        let reply = self
            .control("POST", &format!("/aws{path}"), Some(body))
            .await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    pub(super) async fn advance_aws_clock(&self, seconds: i64) {
        self.aws_control("/clock", json!({ "advance_seconds": seconds }))
            .await;
    }
}

pub(super) async fn send(request: reqwest::RequestBuilder) -> AwsReply {
    let response = request.send().await.unwrap();
    AwsReply {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.text().await.unwrap(),
    }
}

fn authorization(keys: &AwsKeys, signing: &Signing, host: &str, at: &str, body: &str) -> String {
    let Signing {
        service, region, ..
    } = signing;
    let day = &at[..8];
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let mut headers = format!("host:{host}\nx-amz-date:{at}\n");
    let mut names = "host;x-amz-date".to_owned();
    if let Some(token) = &keys.token {
        headers += &format!("x-amz-security-token:{token}\n");
        names += ";x-amz-security-token";
    }

    let hash = hex_sha256(body);
    let request = hex_sha256(format!("POST\n/\n\n{headers}\n{names}\n{hash}"));
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for text in [day, region, service, "aws4_request"] {
        key = hmac(&key, text);
    }
    let signature = hmac(&key, &format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{request}"));

    let id = &keys.id;
    let signature = hex::encode(&signature);
    format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap()
        .chain_update(text);
    mac.finalize().into_bytes().to_vec()
}
