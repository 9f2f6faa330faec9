//! A client of the sandbox's S3 that signs by itself, and whose requests can be spoiled between signing and sending. It
//! shares no code with what it tests.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::*;

/// What a session has, and which one it is.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) session: String,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn code(&self) -> (u16, &str) {
        (self.status, self.tag("Code"))
    }

    /// The text of the first element with this name; empty if there is none.
    pub(super) fn tag(&self, name: &str) -> &str {
        let rest = self
            .body
            .split_once(&format!("<{name}>"))
            .map_or("", |(_, rest)| rest);
        rest.split_once(&format!("</{name}>"))
            .map_or("", |(text, _)| text)
    }
}

/// A request: its path and query are written as they are sent.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) verb: &'static str,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Of the signature of a signed draft: what chunks are signed with.
    pub(super) chain: Vec<u8>,
}

pub(super) fn draft(verb: &'static str, path: &str, body: impl AsRef<[u8]>) -> Draft {
    let body = body.as_ref().to_vec();
    Draft {
        verb,
        path: path.into(),
        query: Vec::new(),
        headers: Vec::new(),
        body,
        chain: Vec::new(),
    }
}

impl Draft {
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A parameter whose value needs no encoding, or has it.
    pub(super) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.headers
            .iter_mut()
            .filter(|(given, _)| given == name)
            .for_each(|(_, old)| *old = value.into());
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers.retain(|(given, _)| given != name);
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// Signs for a host, in the header, as of so many seconds from now.
    pub(super) fn signed(mut self, host: &str, keys: &Keys, service: &str, shift: i64) -> Self {
        let at = stamp(shift);
        let hash = self
            .header("x-amz-content-sha256")
            .map_or_else(|| hexed(&Sha256::digest(&self.body)), str::to_owned);
        if service == "s3" && self.header("x-amz-content-sha256").is_none() {
            self = self.with("x-amz-content-sha256", hash.as_str());
        }
        self = self
            .with("host", host)
            .with("x-amz-date", &*at)
            .with("x-amz-security-token", &*keys.token);
        let (signature, names, scope) = self.sign(keys, service, &at, &hash);
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            keys.id
        );
        self.with("authorization", value)
    }

    /// Signs in the query, for so many seconds.
    pub(super) fn presigned(mut self, host: &str, keys: &Keys, seconds: i64, shift: i64) -> Self {
        let at = stamp(shift);
        self = self.with("host", host);
        let day = at.get(..8).unwrap();
        self = self
            .query("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
            .query(
                "X-Amz-Credential",
                format!("{}%2F{day}%2Ftest-1%2Fs3%2Faws4_request", keys.id),
            )
            .query("X-Amz-Date", &*at)
            .query("X-Amz-Expires", seconds.to_string())
            .query("X-Amz-Security-Token", &*keys.token)
            .query("X-Amz-SignedHeaders", "host");
        let (signature, ..) = self.sign(keys, "s3", &at, "UNSIGNED-PAYLOAD");
        self.query("X-Amz-Signature", signature)
    }

    fn sign(
        &mut self,
        keys: &Keys,
        service: &str,
        at: &str,
        hash: &str,
    ) -> (String, String, String) {
        let mut headers = self.headers.clone();
        headers.sort();
        let names = headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let request = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{hash}",
            self.verb,
            self.path,
            self.sorted_query()
        );
        let scope = format!("{}/test-1/{service}/aws4_request", &at[..8]);
        self.chain = [&at[..8], "test-1", service, "aws4_request"]
            .iter()
            .fold(format!("AWS4{}", keys.secret).into_bytes(), |key, text| {
                hmac(&key, text)
            });
        let text = format!(
            "AWS4-HMAC-SHA256\n{at}\n{scope}\n{}",
            hexed(&Sha256::digest(request))
        );
        (hexed(&hmac(&self.chain, &text)), names, scope)
    }

    fn sorted_query(&self) -> String {
        let mut query = self.query.clone();
        query.sort();
        query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// What follows `kind` in the chain of signatures of a signed draft.
    pub(super) fn link(&self, kind: &str, previous: &str, covered: &str) -> String {
        let at = self.header("x-amz-date").unwrap();
        let scope = format!("{}/test-1/s3/aws4_request", &at[..8]);
        let text = format!("AWS4-HMAC-SHA256-{kind}\n{at}\n{scope}\n{previous}\n{covered}");
        hexed(&hmac(&self.chain, &text))
    }

    pub(super) fn signature(&self) -> String {
        self.header("authorization")
            .unwrap()
            .split_once("Signature=")
            .unwrap()
            .1
            .into()
    }

    fn target(&self) -> String {
        let query = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&");
        if query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{query}", self.path)
        }
    }
}

impl World {
    pub(super) async fn keys(&self, who: &str, role: &str) -> Keys {
        let said = self.assume(who, role, json!({})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let credentials = &said.body["credentials"];
        Keys {
            id: text(&credentials["access_key_id"]),
            secret: text(&credentials["secret_access_key"]),
            token: text(&credentials["session_token"]),
            session: text(&said.body["session"]["id"]),
        }
    }

    /// Host and port of the S3.
    pub(super) fn host(&self) -> &str {
        self.sandbox.ready["s3"]
            .as_str()
            .unwrap()
            .strip_prefix("http://")
            .unwrap()
    }

    pub(super) async fn send(&self, draft: &Draft) -> Answer {
        let url = format!("http://{}{}", self.host(), draft.target());
        let mut request = self
            .http
            .request(draft.verb.parse().unwrap(), url)
            .body(draft.body.clone());
        for (name, value) in &draft.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer {
            status,
            headers,
            body: response.text().await.unwrap(),
        }
    }

    /// Signs now and sends.
    pub(super) async fn s3(&self, keys: &Keys, draft: Draft) -> Answer {
        self.send(&draft.signed(self.host(), keys, "s3", 0)).await
    }

    /// With a bucket `proof`, and the keys that may do everything with it.
    pub(super) async fn with_bucket(&self) -> Keys {
        let keys = self.keys("dev", "S3BucketAccess").await;
        assert_eq!(self.s3(&keys, draft("PUT", "/proof", "")).await.status, 200);
        keys
    }
}

pub(super) fn stamp(shift: i64) -> String {
    let at = Timestamp::from_second(Timestamp::now().as_second() + shift).unwrap();
    at.to_string().replace(['-', ':'], "")
}

pub(super) fn hexed(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .unwrap()
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}
