//! The parameters of a request's signature, from the `Authorization` header or from the query of a
//! presigned URL.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use jiff::Timestamp;

use super::{ALGORITHM, QueryString, single_header};
use crate::sandbox::clock::Millis;
use crate::sandbox::error::ApiError;

/// Seconds that a presigned URL may be valid for.
const PRESIGNED: std::ops::RangeInclusive<i64> = 1..=604_800;

/// Not verified. It has a token, so it has no `Debug`.
pub(in crate::sandbox) struct AuthParams {
    pub(in crate::sandbox) access_key_id: String,
    pub(in crate::sandbox) scope: Scope,
    pub(super) signed_headers: Vec<String>,
    /// In hexadecimal digits.
    pub(in crate::sandbox) signature: String,
    /// The time of signing as text: `20150830T123600Z`.
    pub(super) signed_at: String,
    pub(in crate::sandbox) token: Option<String>,
    /// Seconds that a presigned URL is valid for. Absent for the header.
    pub(in crate::sandbox) expires: Option<i64>,
}

/// What a signing key is valid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) struct Scope {
    /// `20150830`
    pub(super) date: String,
    pub(in crate::sandbox) region: String,
    pub(in crate::sandbox) service: String,
}

impl Scope {
    pub(super) fn text(&self) -> String {
        format!(
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        )
    }
}

/// The parameters as texts.
struct Texts<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    signed_at: &'a str,
    token: Option<&'a str>,
    expires: Option<i64>,
}

impl AuthParams {
    pub(in crate::sandbox) fn parse(parts: &Parts) -> Result<Self, ApiError> {
        let query = QueryString::parse(parts.uri.query().unwrap_or(""));
        let header = single_header(&parts.headers, AUTHORIZATION.as_str())?;

        match (header, query.single("X-Amz-Algorithm")?) {
            (Some(_), Some(_)) => {
                let message = "the request is signed in the header and in the query";
                Err(ApiError::new(400, "InvalidArgument", message))
            }
            (Some(header), None) => Self::from_header(header, &parts.headers),
            (None, Some(algorithm)) => Self::from_query(algorithm, &query),
            // Version 2, which is the default of some clients for presigned URLs.
            (None, None) if query.single("AWSAccessKeyId")?.is_some() => {
                Err(unsupported_algorithm())
            }
            (None, None) => Err(ApiError::new(
                403,
                "AccessDenied",
                "the request is not signed",
            )),
        }
    }

    fn from_header(header: &str, headers: &HeaderMap) -> Result<Self, ApiError> {
        let malformed = |reason: &str| ApiError::new(400, "AuthorizationHeaderMalformed", reason);
        let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
        check_algorithm(algorithm)?;

        let mut credential = None;
        let mut signed_headers = None;
        let mut signature = None;
        for part in rest.split(',') {
            let (name, value) = part
                .trim()
                .split_once('=')
                .ok_or_else(|| malformed("a part is not name=value"))?;
            let target = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("the header has an unknown part")),
            };
            if target.replace(value).is_some() {
                return Err(malformed("a part is present twice"));
            }
        }
        let (Some(credential), Some(signed_headers), Some(signature)) =
            (credential, signed_headers, signature)
        else {
            return Err(malformed(
                "Credential, SignedHeaders and Signature are required",
            ));
        };

        let Some(signed_at) = single_header(headers, "x-amz-date")? else {
            let message = "the header x-amz-date is missing";
            return Err(ApiError::new(403, "AccessDenied", message));
        };
        let texts = Texts {
            credential,
            signed_headers,
            signature,
            signed_at,
            token: single_header(headers, "x-amz-security-token")?,
            expires: None,
        };
        Self::new(&texts).ok_or_else(|| {
            malformed("Credential is not KEY/DATE/REGION/SERVICE/aws4_request with the date of x-amz-date")
        })
    }

    fn from_query(algorithm: &str, query: &QueryString) -> Result<Self, ApiError> {
        check_algorithm(algorithm)?;

        let expires = required(query, "X-Amz-Expires")?
            .parse()
            .ok()
            .filter(|seconds| PRESIGNED.contains(seconds))
            .ok_or_else(|| invalid_query("X-Amz-Expires is not from 1 to 604800"))?;
        let texts = Texts {
            credential: required(query, "X-Amz-Credential")?,
            signed_headers: required(query, "X-Amz-SignedHeaders")?,
            signature: required(query, "X-Amz-Signature")?,
            signed_at: required(query, "X-Amz-Date")?,
            token: query.single("X-Amz-Security-Token")?,
            expires: Some(expires),
        };
        Self::new(&texts).ok_or_else(|| {
            invalid_query("X-Amz-Credential is not KEY/DATE/REGION/SERVICE/aws4_request with the date of X-Amz-Date")
        })
    }

    fn new(texts: &Texts<'_>) -> Option<Self> {
        let parts: Vec<&str> = texts.credential.split('/').collect();
        let [access_key_id, date, region, service, "aws4_request"] = parts.as_slice() else {
            return None;
        };
        let (day, _) = texts.signed_at.split_once('T')?;
        if access_key_id.is_empty() || region.is_empty() || day != *date {
            return None;
        }

        Some(Self {
            access_key_id: (*access_key_id).into(),
            scope: Scope {
                date: (*date).into(),
                region: (*region).into(),
                service: (*service).into(),
            },
            signed_headers: texts.signed_headers.split(';').map(str::to_owned).collect(),
            signature: texts.signature.into(),
            signed_at: texts.signed_at.into(),
            token: texts.token.map(str::to_owned),
            expires: texts.expires,
        })
    }

    /// The time of signing. `None` if the text is not a time.
    pub(in crate::sandbox) fn time(&self) -> Option<Millis> {
        let shape: String = self
            .signed_at
            .chars()
            .map(|character| {
                if character.is_ascii_digit() {
                    '0'
                } else {
                    character
                }
            })
            .collect();
        if shape != "00000000T000000Z" {
            return None;
        }

        let at: Timestamp = self.signed_at.parse().ok()?;
        Some(at.as_millisecond())
    }
}

fn check_algorithm(algorithm: &str) -> Result<(), ApiError> {
    if algorithm == ALGORITHM {
        return Ok(());
    }
    Err(unsupported_algorithm())
}

fn unsupported_algorithm() -> ApiError {
    let message = format!("the request must be signed with {ALGORITHM}");
    ApiError::new(400, "InvalidRequest", message)
}

fn required<'a>(query: &'a QueryString, name: &str) -> Result<&'a str, ApiError> {
    query
        .single(name)?
        .ok_or_else(|| invalid_query(&format!("the query has no {name}")))
}

fn invalid_query(reason: &str) -> ApiError {
    ApiError::new(400, "AuthorizationQueryParametersError", reason)
}
