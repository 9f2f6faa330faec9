//! HTTP to one endpoint, for every kind of upstream. [`HttpClient::send`] is the only way out: timeouts, no redirects, no
//! retries, TLS unless the endpoint is on loopback, and a limit on the length of replies. It does not judge a reply.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::tls::{Certificate, Version};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use ring::digest::{SHA256, digest};
use secrecy::ExposeSecret;
use thiserror::Error;
use zeroize::Zeroizing;

use super::transport_error::{no_reply, proxy_problem};
use crate::clock::{BootTime, Clock, ServerClock};
use crate::config::{Endpoint, HttpTransport, Proxy};
use crate::platform::random::hex;
use crate::sandbox::system_files;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole call, slow bodies included.
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an idle connection is kept. Its buffers hold a token and a session until it is closed. Calls of one task
/// follow each other sooner than this, and others are half a minute apart.
const POOL_IDLE: Duration = Duration::from_secs(1);
/// The longest reply, in bytes: a thousand policies of 8 KiB.
const REPLY_CAP: usize = 8 * 1024 * 1024;

/// The HTTP client cannot be set up on this machine.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error(
        "the HTTP client for {endpoint} cannot be set up: {cause}{}",
        system_files::unreadable_reason()
    )]
    Client {
        endpoint: Endpoint,
        cause: reqwest::Error,
    },
    #[error("the certificates in {path} cannot be used: {why}", path = path.display())]
    Authorities { path: PathBuf, why: String },
}

impl SetupError {
    /// What the person can do, as an imperative.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Client { .. } => {
                "install the system's certificate store (Debian: apt install ca-certificates)"
            }
            Self::Authorities { .. } => {
                "set the upstream's `ca` to a file with certificates in PEM"
            }
        }
    }
}

/// Sends requests to one endpoint and nowhere else.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: ArcSwap<reqwest::Client>,
    endpoint: Endpoint,
    transport: HttpTransport,
    authorities: Option<Authorities>,
}

/// The only certificate authorities that may have signed an upstream's certificate. They are read once, so that the file
/// cannot change what they are.
#[derive(Debug)]
struct Authorities {
    certificates: Vec<Certificate>,
    sha256: String,
}

/// A reply of any status, read whole.
pub(crate) struct HttpReply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) date: Option<DateStamp>,
}

/// A reply's `Date`, and when the request was sent and the reply arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DateStamp {
    date: Timestamp,
    sent: BootTime,
    received: BootTime,
}

/// There is no whole reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HttpError {
    #[error("{message}")]
    NoReply {
        message: String,
        /// What the person can do, if time alone does not help.
        hint: Option<String>,
    },
    #[error("a reply of more than {REPLY_CAP} bytes")]
    TooLong,
}

impl HttpClient {
    pub(crate) fn new(endpoint: Endpoint, transport: HttpTransport) -> Result<Self, SetupError> {
        let authorities = match &transport.ca {
            Some(path) if !endpoint.is_loopback_http() => Some(read_authorities(path)?),
            _ => None,
        };
        let client = build(&endpoint, &transport, authorities.as_ref())?;
        if !endpoint.is_loopback_http()
            && let Some(problem) = proxy_problem(&transport)
        {
            tracing::warn!(%endpoint, "{problem}");
        }

        Ok(Self {
            client: ArcSwap::from_pointee(client),
            endpoint,
            transport,
            authorities,
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The endpoint, and the authorities that vouch for it if they are not the system's. A token that is stored for one
    /// destination is not sent to another.
    pub(crate) fn destination(&self) -> String {
        match &self.authorities {
            Some(authorities) => format!("{} ca-sha256={}", self.endpoint, authorities.sha256),
            None => self.endpoint.to_string(),
        }
    }

    /// A request for a path of the endpoint.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.load().request(method, self.endpoint.join(path))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<HttpReply, HttpError> {
        let sent = Clock::System.now().boot;
        let response = request
            .send()
            .await
            .map_err(|error| no_reply(error, &self.transport))?;
        let received = Clock::System.now().boot;

        let status = response.status();
        let headers = response.headers().clone();
        let body = self.read(response).await?;
        let date = date(&headers).and_then(|date| Timestamp::try_from(date).ok());

        Ok(HttpReply {
            status,
            headers,
            body,
            date: date.map(|date| DateStamp {
                date,
                sent,
                received,
            }),
        })
    }

    async fn read(&self, mut response: Response) -> Result<Zeroizing<Vec<u8>>, HttpError> {
        let mut text = Zeroizing::new(Vec::with_capacity(4096));
        loop {
            let chunk = response.chunk().await;
            let Some(chunk) = chunk.map_err(|error| no_reply(error, &self.transport))? else {
                return Ok(text);
            };
            if text.len() + chunk.len() > REPLY_CAP {
                return Err(HttpError::TooLong);
            }
            text.extend_from_slice(&chunk);
        }
    }

    /// Opens new connections from now on.
    pub(crate) fn reconnect(&self) {
        match build(&self.endpoint, &self.transport, self.authorities.as_ref()) {
            Ok(fresh) => self.client.store(Arc::new(fresh)),
            Err(error) => {
                tracing::warn!(%error, "connections from before the suspend are used again");
            }
        }
    }
}

impl DateStamp {
    /// Only for replies that the upstream itself has surely sent: the clock of a captive portal is another.
    pub(crate) fn teach(self, clock: &ServerClock) {
        clock.dated(self.date, self.sent, self.received);
    }

    /// The same, for a clock that only replies of this kind teach.
    pub(crate) fn set(self, clock: &ServerClock) {
        clock.issued(self.date, self.sent, self.received);
    }

    pub(crate) fn date(self) -> Timestamp {
        self.date
    }
}

fn build(
    endpoint: &Endpoint,
    transport: &HttpTransport,
    authorities: Option<&Authorities>,
) -> Result<reqwest::Client, SetupError> {
    let failed = |cause| SetupError::Client {
        endpoint: endpoint.clone(),
        cause,
    };

    let builder = reqwest::Client::builder()
        .user_agent(concat!("rolekeeper/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(4);

    // A proxy could read plain HTTP, and loopback needs none. Without TLS no certificate store is loaded.
    if endpoint.is_loopback_http() {
        return builder
            .no_proxy()
            .tls_certs_only([])
            .build()
            .map_err(failed);
    }

    let builder = match &transport.proxy {
        Proxy::Environment => builder,
        Proxy::Nothing => builder.no_proxy(),
        Proxy::At(url) => builder.proxy(reqwest::Proxy::all(url.expose_secret()).map_err(failed)?),
    };

    let builder = builder.https_only(true).tls_version_min(Version::TLS_1_2);
    let builder = match authorities {
        Some(authorities) => builder.tls_certs_only(authorities.certificates.clone()),
        None => builder,
    };

    builder.build().map_err(failed)
}

fn read_authorities(path: &Path) -> Result<Authorities, SetupError> {
    let failed = |why: String| SetupError::Authorities {
        path: path.to_owned(),
        why,
    };

    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&text).map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("the file has no certificate".into()));
    }

    let hash = digest(&SHA256, &text);
    Ok(Authorities {
        certificates,
        sha256: hex(hash.as_ref()),
    })
}

/// RFC 9110, 10.2.3: seconds, or a date, which is compared with the reply's own `Date` if it has one.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }

    let then = httpdate::parse_http_date(text).ok()?;
    let now = date(headers).unwrap_or_else(|| Clock::System.now().wall.into());
    then.duration_since(now).ok()
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_server_clock() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>()
        };
        assert_eq!(
            retry_after(&headers(&[("retry-after", "7")])),
            Some(Duration::from_secs(7))
        );
        let date = [
            ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"),
        ];
        assert_eq!(retry_after(&headers(&date)), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    }
}
