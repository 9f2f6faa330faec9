//! The Query protocol: a form in, XML out. Every call is signed by the server's time, and every reply is classified.

use jiff::Timestamp;
use quick_xml::de;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{AwsError, Meaning, RawError};
use super::keys::Keys;
use super::sign::{Scope, sign_request};
use super::{Aws, Service};
use crate::clock::Clock;
use crate::upstream::http::{DateStamp, HttpClient, HttpError, HttpReply, retry_after};

/// One call. Its parameters are those of the service's documentation.
pub(super) trait Call {
    const ACTION: &'static str;
    const SERVICE: Service;
    /// The whole document of the reply.
    type Reply: Reply;

    fn parameters(&self) -> Vec<(String, String)>;
}

/// A document that the service has sent: it has the id of the request.
pub(super) trait Reply: DeserializeOwned {
    type Result;

    fn into_result(self) -> Self::Result;
}

/// Declares a reply: the name of the document, of its result's element, and the type of that.
macro_rules! reply {
    ($document:ident { $element:literal: $result:ty }) => {
        #[derive(serde::Deserialize)]
        pub(super) struct $document {
            #[serde(rename = $element)]
            result: $result,
            #[serde(rename = "ResponseMetadata")]
            _metadata: super::query::Metadata,
        }

        impl super::query::Reply for $document {
            type Result = $result;

            fn into_result(self) -> $result {
                self.result
            }
        }
    };
}

pub(super) use reply;

/// A list.
#[derive(Deserialize)]
pub(super) struct Members<T> {
    #[serde(default = "Vec::new")]
    pub(super) member: Vec<T>,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    #[serde(rename = "RequestId")]
    _request_id: String,
}

/// A reply without a result.
#[derive(Deserialize)]
pub(super) struct Done {
    #[serde(rename = "ResponseMetadata")]
    _metadata: Metadata,
}

impl Reply for Done {
    type Result = ();

    fn into_result(self) {}
}

/// A result, and the time of its reply.
pub(super) struct Answer<T> {
    pub(super) result: T,
    pub(super) date: Option<DateStamp>,
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(rename = "Error")]
    error: ErrorElement,
    #[serde(rename = "RequestId", alias = "RequestID")]
    request_id: String,
}

#[derive(Deserialize)]
struct ErrorElement {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

impl Aws {
    /// Makes a call. One that was signed for another time than the server's is signed once more, for the time of the
    /// reply.
    pub(super) async fn call<C: Call>(
        &self,
        call: &C,
        keys: &Keys,
    ) -> Result<Answer<<C::Reply as Reply>::Result>, AwsError> {
        match self.call_once(call, keys).await {
            Err(error) if error.meaning() == Some(Meaning::WrongTime) => {
                self.call_once(call, keys).await
            }
            answer => answer,
        }
    }

    async fn call_once<C: Call>(
        &self,
        call: &C,
        keys: &Keys,
    ) -> Result<Answer<<C::Reply as Reply>::Result>, AwsError> {
        let http = self.http(C::SERVICE);
        let sent = Sent {
            action: C::ACTION,
            http,
            by_session: keys.are_temporary(),
        };

        let body = form(C::ACTION, C::SERVICE.version(), &call.parameters());
        let request = http
            .request(Method::POST, "/")
            .header(
                CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(body.clone());
        let signed = self
            .sign(request, body.as_bytes(), keys, C::SERVICE)
            .map_err(|why| sent.no_answer(&format!("the request cannot be signed: {why}")))?;

        let reply = http
            .send(signed)
            .await
            .map_err(|error| sent.no_reply(&error))?;
        let text = std::str::from_utf8(&reply.body).unwrap_or_default();

        if !reply.status.is_success() {
            let error = sent.error(&reply, text);
            if error.service().is_some() {
                self.learn_time(reply.date);
            }
            return Err(error);
        }

        let document: C::Reply = de::from_str(text).map_err(|_| {
            sent.no_answer(&format!(
                "a {} that is not the documented reply",
                reply.status.as_u16()
            ))
        })?;
        self.learn_time(reply.date);

        Ok(Answer {
            result: document.into_result(),
            date: reply.date,
        })
    }

    fn sign(
        &self,
        request: RequestBuilder,
        body: &[u8],
        keys: &Keys,
        service: Service,
    ) -> Result<RequestBuilder, String> {
        let (client, request) = request.build_split();
        let mut request = request.map_err(|error| error.to_string())?;
        let scope = Scope {
            service: service.name(),
            region: self.signing_region(service),
        };

        sign_request(&mut request, body, keys, scope, self.server_now())?;
        Ok(RequestBuilder::from_parts(client, request))
    }

    /// Only a reply of AWS's own says what its time is.
    fn learn_time(&self, date: Option<DateStamp>) {
        if let Some(date) = date {
            date.teach(&self.server_clock);
            date.set(&self.signing_clock);
        }
    }

    /// AWS's time, as far as it is known.
    pub(super) fn server_now(&self) -> Timestamp {
        let now = Clock::System.now();
        self.signing_clock.latest(now.boot).unwrap_or(now.wall)
    }
}

/// A request that was sent, for messages about it.
struct Sent<'a> {
    action: &'static str,
    http: &'a HttpClient,
    by_session: bool,
}

impl Sent<'_> {
    /// Only an error with the id of the request is AWS's own: the page of a proxy or a captive portal has none.
    fn error(&self, reply: &HttpReply, text: &str) -> AwsError {
        let retry_after = retry_after(&reply.headers);
        let Ok(document) = de::from_str::<ErrorDocument>(text) else {
            return AwsError::NoAnswer {
                what: self.about(&format!("answered {}, not as AWS does", reply.status)),
                retry_after,
                hint: None,
            };
        };

        let raw = RawError {
            code: &document.error.code,
            message: &document.error.message,
            request_id: &document.request_id,
            status: reply.status.as_u16(),
            retry_after,
        };
        let host = self.http.endpoint().to_string();
        AwsError::Service(Box::new(raw.classify(self.action, host, self.by_session)))
    }

    fn no_reply(&self, error: &HttpError) -> AwsError {
        let hint = match error {
            HttpError::NoReply { hint, .. } => hint.clone(),
            HttpError::TooLong => None,
        };

        AwsError::NoAnswer {
            what: self.about(&error.to_string()),
            retry_after: None,
            hint,
        }
    }

    fn no_answer(&self, why: &str) -> AwsError {
        AwsError::NoAnswer {
            what: self.about(why),
            retry_after: None,
            hint: None,
        }
    }

    fn about(&self, why: &str) -> String {
        format!("{} at {}: {why}", self.action, self.http.endpoint())
    }
}

fn form(action: &str, version: &str, parameters: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", action)
        .append_pair("Version", version)
        .extend_pairs(parameters)
        .finish()
}
