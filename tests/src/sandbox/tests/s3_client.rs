//! A client of the sandbox's S3 that signs its requests. A test can change a request between
//! signing and sending. The signing shares no code with the sandbox.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use sha2::{Digest, Sha256};

use super::World;
use crate::hex;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const REGION: &str = "test-1";

/// The credentials of a session, and its id.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) session: String,
}

pub(super) struct S3Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl S3Reply {
    /// The status and the error code, which is empty for a success.
    pub(super) fn code(&self) -> (u16, &str) {
        (self.status, self.tag("Code"))
    }

    /// The text of the first element with a name; empty without one.
    pub(super) fn tag(&self, name: &str) -> &str {
        let start = format!("<{name}>");
        let end = format!("</{name}>");
        let (_, rest) = self.body.split_once(&start).unwrap_or_default();
        let (text, _) = rest.split_once(&end).unwrap_or_default();

        text
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// A request. Path and query are already encoded.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) verb: &'static str,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The key of a signed draft, for the signatures of chunks.
    signing_key: Vec<u8>,
}

pub(super) fn draft(verb: &'static str, path: &str, body: impl AsRef<[u8]>) -> Draft {
    Draft {
        verb,
        path: path.into(),
        query: Vec::new(),
        headers: Vec::new(),
        body: body.as_ref().to_vec(),
        signing_key: Vec::new(),
    }
}

impl Draft {
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Replaces the value of a header.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        for (other, old) in &mut self.headers {
            if other == name {
                *old = value.into();
            }
        }
    }

    /// Replaces the value of a parameter.
    pub(super) fn set_query(&mut self, name: &str, value: &str) {
        for (other, old) in &mut self.query {
            if other == name {
                *old = value.into();
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers.retain(|(other, _)| other != name);
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other == name);
        header.map(|(_, value)| value.as_str())
    }

    /// Signs in the header, `shift` seconds from now.
    pub(super) fn signed(mut self, host: &str, keys: &Keys, service: &str, shift: i64) -> Self {
        let at = signing_time(shift);
        let hash = match self.header("x-amz-content-sha256") {
            Some(hash) => hash.to_owned(),
            None => hex_sha256(&self.body),
        };
        if service == "s3" && self.header("x-amz-content-sha256").is_none() {
            self = self.with("x-amz-content-sha256", &*hash);
        }
        self = self
            .with("host", host)
            .with("x-amz-date", &*at)
            .with("x-amz-security-token", &*keys.token);

        let signature = self.sign(keys, service, &at, &hash);
        let scope = scope(&at, service);
        let names = self.header_names();
        let id = &keys.id;
        self.with(
            "authorization",
            format!(
                "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
            ),
        )
    }

    /// Signs in the query, `shift` seconds from now, for a number of seconds.
    pub(super) fn presigned(mut self, host: &str, keys: &Keys, seconds: i64, shift: i64) -> Self {
        let at = signing_time(shift);
        let credential = format!("{}/{}", keys.id, scope(&at, "s3")).replace('/', "%2F");
        self = self
            .with("host", host)
            .query("X-Amz-Algorithm", ALGORITHM)
            .query("X-Amz-Credential", credential)
            .query("X-Amz-Date", &*at)
            .query("X-Amz-Expires", seconds.to_string())
            .query("X-Amz-Security-Token", &*keys.token)
            .query("X-Amz-SignedHeaders", "host");

        let signature = self.sign(keys, "s3", &at, "UNSIGNED-PAYLOAD");
        self.query("X-Amz-Signature", signature)
    }

    fn sign(&mut self, keys: &Keys, service: &str, at: &str, hash: &str) -> String {
        let mut headers = self.headers.clone();
        headers.sort();
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let mut query = self.query.clone();
        query.sort();
        let request = format!(
            "{}\n{}\n{}\n{lines}\n{}\n{hash}",
            self.verb,
            self.path,
            join_query(&query),
            self.header_names()
        );

        self.signing_key = format!("AWS4{}", keys.secret).into_bytes();
        for text in [&at[..8], REGION, service, "aws4_request"] {
            self.signing_key = hmac(&self.signing_key, text);
        }
        let scope = scope(at, service);
        let hash = hex_sha256(request);
        let text = format!("{ALGORITHM}\n{at}\n{scope}\n{hash}");
        hex::encode(&hmac(&self.signing_key, &text))
    }

    fn header_names(&self) -> String {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();

        names.join(";")
    }

    /// The signature of a chunk (`PAYLOAD`) or of the trailer (`TRAILER`) of a signed draft.
    pub(super) fn sign_next(&self, kind: &str, previous: &str, text: &str) -> String {
        let at = self.header("x-amz-date").unwrap();
        let scope = scope(at, "s3");
        let text = format!("{ALGORITHM}-{kind}\n{at}\n{scope}\n{previous}\n{text}");

        hex::encode(&hmac(&self.signing_key, &text))
    }

    pub(super) fn signature(&self) -> String {
        let header = self.header("authorization").unwrap();
        let (_, signature) = header.split_once("Signature=").unwrap();

        signature.into()
    }

    fn target(&self) -> String {
        if self.query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, join_query(&self.query))
        }
    }
}

impl World {
    /// Assumes a role and returns the credentials.
    pub(super) async fn keys(&self, principal: &str, role: &str) -> Keys {
        let assumed = self.assume(principal, role).await;

        Keys {
            id: assumed.text("/credentials/access_key_id").into(),
            secret: assumed.text("/credentials/secret_access_key").into(),
            token: assumed.text("/credentials/session_token").into(),
            session: assumed.text("/session/id").into(),
        }
    }

    /// `HOST:PORT` of S3.
    pub(super) fn host(&self) -> &str {
        self.ready("s3").strip_prefix("http://").unwrap()
    }

    /// Sends a draft as it is.
    pub(super) async fn send(&self, draft: &Draft) -> S3Reply {
        let url = format!("http://{}{}", self.host(), draft.target());
        let mut request = self
            .http
            .request(draft.verb.parse().unwrap(), url)
            .body(draft.body.clone());
        for (name, value) in &draft.headers {
            request = request.header(name, value);
        }

        let response = request.send().await.unwrap();
        S3Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    /// Signs a draft and sends it.
    pub(super) async fn s3(&self, keys: &Keys, draft: Draft) -> S3Reply {
        self.send(&draft.signed(self.host(), keys, "s3", 0)).await
    }

    /// Creates the bucket `proof`, and returns keys that may do everything with it.
    pub(super) async fn create_bucket(&self) -> Keys {
        let keys = self.keys("dev", "S3BucketAccess").await;
        let created = self.s3(&keys, draft("PUT", "/proof", "")).await;
        assert_eq!(created.status, 200);

        keys
    }

    /// The text of the object `k`.
    pub(super) async fn object(&self, keys: &Keys) -> String {
        self.s3(keys, draft("GET", "/proof/k", "")).await.body
    }
}

/// `20150830T123600Z`, a number of seconds from now.
pub(super) fn signing_time(shift: i64) -> String {
    let at = Timestamp::from_second(Timestamp::now().as_second() + shift).unwrap();
    at.to_string().replace(['-', ':'], "")
}

fn scope(at: &str, service: &str) -> String {
    format!("{}/{REGION}/{service}/aws4_request", &at[..8])
}

fn join_query(query: &[(String, String)]) -> String {
    let pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

pub(super) fn hex_sha256(data: impl AsRef<[u8]>) -> String {
    hex::encode(&Sha256::digest(data))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap()
        .chain_update(text);
    mac.finalize().into_bytes().to_vec()
}
