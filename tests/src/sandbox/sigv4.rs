//! AWS Signature Version 4 from the side that checks it: what a request claims, the text that has to be signed, and the
//! key that signs it. Facts are those of the AWS documentation ("Authenticating Requests"). It decides nothing: whose key
//! it is and whether the time is right is the caller's business. It must never show a secret, a key or a token.

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName};
use hyper::http::request::Parts;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::clock::Millis;
use super::error::ApiError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Within a path the slashes stay.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// What a request says of its signature. It holds a token, and so cannot be printed.
pub(super) struct Claim {
    pub(super) access_key_id: String,
    pub(super) scope: Scope,
    pub(super) signed_headers: Vec<String>,
    /// In hexadecimal digits, as it came.
    pub(super) signature: String,
    /// The time of signing as it was signed: `20150830T123600Z`.
    pub(super) at: String,
    pub(super) token: Option<String>,
    /// For how many seconds a presigned URL counts; absent if the signature is in the header.
    pub(super) expires: Option<i64>,
}

/// What a signing key is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// `20150830`.
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
}

impl Scope {
    fn text(&self) -> String {
        format!(
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        )
    }
}

impl Claim {
    /// The claim in the `Authorization` header or in the query of a presigned URL.
    pub(super) fn read(parts: &Parts) -> Result<Self, ApiError> {
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let header = only(&parts.headers, AUTHORIZATION.as_str())?;
        match (header, query.only("X-Amz-Algorithm")?) {
            (Some(_), Some(_)) => Err(ApiError::new(
                400,
                "InvalidArgument",
                "the request is signed twice",
            )),
            (Some(header), None) => Self::of_header(header, &parts.headers),
            (None, Some(algorithm)) => Self::of_query(algorithm, &query),
            // Presigned with version 2, as some clients still do unless they are told otherwise.
            (None, None) if query.only("AWSAccessKeyId")?.is_some() => Err(other_algorithm()),
            (None, None) => Err(ApiError::new(
                403,
                "AccessDenied",
                "the request is not signed",
            )),
        }
    }

    fn of_header(header: &str, headers: &HeaderMap) -> Result<Self, ApiError> {
        let wrong = |why: &str| ApiError::new(400, "AuthorizationHeaderMalformed", why);
        let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
        check_algorithm(algorithm)?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part
                .trim()
                .split_once('=')
                .ok_or_else(|| wrong("a part is not name=value"))?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => {
                    return Err(wrong(
                        "it has parts besides Credential, SignedHeaders and Signature",
                    ));
                }
            };
            if place.replace(value).is_some() {
                return Err(wrong("a part is there twice"));
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature)
        else {
            return Err(wrong("Credential, SignedHeaders and Signature are needed"));
        };
        let at = only(headers, "x-amz-date")?.ok_or_else(|| {
            ApiError::new(
                403,
                "AccessDenied",
                "a signed request needs the header x-amz-date",
            )
        })?;
        let token = only(headers, "x-amz-security-token")?;
        Self::new(credential, signed, signature, at, token, None)
            .ok_or_else(|| wrong("the credential is not KEY/DATE/REGION/SERVICE/aws4_request of the day of x-amz-date"))
    }

    fn of_query(algorithm: &str, query: &Query) -> Result<Self, ApiError> {
        const CODE: &str = "AuthorizationQueryParametersError";
        check_algorithm(algorithm)?;
        let need = |name: &str| {
            query
                .only(name)?
                .ok_or_else(|| ApiError::new(400, CODE, format!("the query has no {name}")))
        };
        let expires = need("X-Amz-Expires")?
            .parse()
            .ok()
            .filter(|seconds| (1..=604_800).contains(seconds));
        let expires = expires
            .ok_or_else(|| ApiError::new(400, CODE, "X-Amz-Expires is not from 1 to 604800"))?;
        let (credential, signed) = (need("X-Amz-Credential")?, need("X-Amz-SignedHeaders")?);
        let (signature, at) = (need("X-Amz-Signature")?, need("X-Amz-Date")?);
        Self::new(
            credential,
            signed,
            signature,
            at,
            query.only("X-Amz-Security-Token")?,
            Some(expires),
        )
        .ok_or_else(|| {
            ApiError::new(
                400,
                CODE,
                "X-Amz-Credential is not KEY/DATE/REGION/SERVICE/aws4_request of X-Amz-Date",
            )
        })
    }

    fn new(
        credential: &str,
        signed: &str,
        signature: &str,
        at: &str,
        token: Option<&str>,
        expires: Option<i64>,
    ) -> Option<Self> {
        let mut parts = credential.split('/');
        let (access_key_id, date) = (parts.next()?, parts.next()?);
        let (region, service, end) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && end == "aws4_request";
        let good = whole
            && !access_key_id.is_empty()
            && !region.is_empty()
            && at.split_once('T')?.0 == date;
        good.then(|| Self {
            access_key_id: access_key_id.into(),
            scope: Scope {
                date: date.into(),
                region: region.into(),
                service: service.into(),
            },
            signed_headers: signed.split(';').map(str::to_owned).collect(),
            signature: signature.into(),
            at: at.into(),
            token: token.map(str::to_owned),
            expires,
        })
    }

    /// When it was signed; absent if that is no time.
    pub(super) fn time(&self) -> Option<Millis> {
        let shape: String = self
            .at
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        let at = (shape == "00000000T000000Z")
            .then(|| self.at.parse::<Timestamp>().ok())
            .flatten();
        at.map(Timestamp::as_millisecond)
    }

    /// What has to be signed, given what stands for the body: its SHA-256 in hexadecimal digits, or a name in its place.
    /// Refused if a header is named that is not there, or one is not named that must be.
    pub(super) fn string_to_sign(&self, parts: &Parts, payload: &str) -> Result<String, ApiError> {
        let request = self.canonical_request(parts, payload)?;
        Ok(format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            self.at,
            self.scope.text(),
            hex(&Sha256::digest(request))
        ))
    }

    pub(super) fn canonical_request(
        &self,
        parts: &Parts,
        payload: &str,
    ) -> Result<String, ApiError> {
        let needed = parts
            .headers
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| name.starts_with("x-amz-"));
        for name in needed.chain(["host"]) {
            if !self.signed_headers.iter().any(|signed| signed == name) {
                return Err(ApiError::new(
                    403,
                    "AccessDenied",
                    format!("the header {name} is not signed"),
                ));
            }
        }
        let mut request = format!("{}\n", parts.method);
        request += &canonical_path(parts.uri.path(), &self.scope.service);
        request += &format!(
            "\n{}\n",
            Query::parse(parts.uri.query().unwrap_or("")).canonical()
        );
        let mut names: Vec<&str> = self.signed_headers.iter().map(String::as_str).collect();
        names.sort_unstable();
        for name in &names {
            let value = canonical_value(&parts.headers, name)
                .ok_or_else(|| mismatch(&format!("the header {name} is signed and not there")))?;
            request += &format!("{name}:{value}\n");
        }
        request += &format!("\n{}\n{payload}", self.signed_headers.join(";"));
        Ok(request)
    }

    /// The chain of signatures over the chunks of a body, which begins with the request's own.
    pub(super) fn chain<'a>(&self, key: &'a SigningKey) -> Chain<'a> {
        Chain {
            key,
            time_and_scope: format!("{}\n{}", self.at, self.scope.text()),
            previous: self.signature.clone(),
        }
    }
}

pub(super) fn mismatch(why: &str) -> ApiError {
    ApiError::new(403, "SignatureDoesNotMatch", why)
}

fn check_algorithm(algorithm: &str) -> Result<(), ApiError> {
    if algorithm == ALGORITHM {
        return Ok(());
    }
    Err(other_algorithm())
}

fn other_algorithm() -> ApiError {
    ApiError::new(
        400,
        "InvalidRequest",
        format!("the request is not signed with {ALGORITHM}, and has to be"),
    )
}

/// A header that may be there once at most.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()).transpose(), second) {
        (Ok(value), None) => Ok(value),
        (_, Some(_)) => Err(ApiError::new(
            400,
            "InvalidRequest",
            format!("the header {name} is there twice"),
        )),
        (Err(_), None) => Err(ApiError::new(
            400,
            "InvalidRequest",
            format!("the header {name} is not ASCII text"),
        )),
    }
}

/// S3 takes a key as it is; for every other service a path is tidied and what came encoded is encoded again.
fn canonical_path(path: &str, service: &str) -> String {
    if service == "s3" {
        let decoded: Vec<u8> = percent_decode_str(path).collect();
        return percent_encoding::percent_encode(&decoded, PATH).to_string();
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    utf8_percent_encode(&format!("/{}{end}", kept.join("/")), PATH).to_string()
}

/// Every value of a header, trimmed, with single spaces inside.
fn canonical_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).iter().map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    });
    let values: Vec<String> = values.collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The parameters of a query, decoded, in the order they came.
#[derive(Debug)]
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// A parameter that may be there once at most.
    pub(super) fn only(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self
            .0
            .iter()
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(ApiError::new(
                400,
                "InvalidArgument",
                format!("the query has {name} twice"),
            )),
        }
    }

    /// Without the signature, which cannot sign itself.
    fn canonical(&self) -> String {
        let mut pairs: Vec<(String, String)> =
            (self.0.iter().filter(|(name, _)| name != "X-Amz-Signature"))
                .map(|(name, value)| (encode(name), encode(value)))
                .collect();
        pairs.sort_unstable();
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&")
    }
}

/// What nobody has to encode stays: letters, digits and `-._~`.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// What a secret becomes for one day, region and service. It signs, and so cannot be printed.
pub(super) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    pub(super) fn new(secret: &str, scope: &Scope) -> Result<Self, ApiError> {
        let mut key = keyed(format!("AWS4{secret}").as_bytes())?;
        for text in [
            scope.date.as_str(),
            &scope.region,
            &scope.service,
            "aws4_request",
        ] {
            key = keyed(&key.chain_update(text).finalize().into_bytes())?;
        }
        Ok(Self(key))
    }

    /// Compared in constant time.
    pub(super) fn has_signed(&self, text: &str, signature: &str) -> bool {
        let mac = self.0.clone().chain_update(text);
        unhex(signature).is_some_and(|signature| mac.verify_slice(&signature).is_ok())
    }
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>, ApiError> {
    Hmac::new_from_slice(key)
        .map_err(|error| ApiError::new(500, "InternalError", error.to_string()))
}

/// Each chunk's signature covers the one before it.
pub(super) struct Chain<'a> {
    key: &'a SigningKey,
    time_and_scope: String,
    previous: String,
}

impl Chain<'_> {
    pub(super) fn chunk(&mut self, data: &[u8], signature: &str) -> Result<(), ApiError> {
        let covered = format!(
            "{}\n{}",
            hex(&Sha256::digest(b"")),
            hex(&Sha256::digest(data))
        );
        self.link("PAYLOAD", &covered, signature)
    }

    /// The headers behind the last chunk, each as `name:value` and a line feed.
    pub(super) fn trailer(&mut self, headers: &str, signature: &str) -> Result<(), ApiError> {
        self.link("TRAILER", &hex(&Sha256::digest(headers)), signature)
    }

    fn link(&mut self, kind: &str, covered: &str, signature: &str) -> Result<(), ApiError> {
        let text = format!(
            "{ALGORITHM}-{kind}\n{}\n{}\n{covered}",
            self.time_and_scope, self.previous
        );
        if !self.key.has_signed(&text, signature) {
            return Err(mismatch(
                "a chunk of the body, or its trailer, is not what was signed",
            ));
        }
        signature.clone_into(&mut self.previous);
        Ok(())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower-case digits only, as they are signed.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        })
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}
