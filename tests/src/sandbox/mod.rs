//! A fake ByCloud IAM and AWS on loopback, for the demo, the tests and offline development: an SQLite
//! database, policy evaluation, expiring sessions, and faults on demand. It must share no types
//! with the daemon: a shared type would hide a bug that is on both sides.
//!
//! Start with `dispatch`, the path of a request; `aws` has one of its own. The assumptions A1 to A15
//! are those of the contract.

mod audit;
mod auth;
mod aws;
mod call_log;
mod clock;
mod control;
mod crn;
mod dispatch;
mod error;
mod fault;
mod fault_reply;
mod fixture;
mod handlers;
mod methods;
mod pagination;
mod params;
mod policy;
mod s3;
mod server;
mod sigv4;
mod store;
mod validation;
mod xml;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use call_log::CallLog;
use clock::Clock;
use crn::Crns;
use fault::Faults;
use policy::{Policy, TrustPolicy, decide};
use store::Store;

pub use error::StartError;

/// Prefix of every path of the API (A2).
const PREFIX: &str = "/iam/v1";

const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Addresses must be loopback addresses.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of the control interface.
    pub control: SocketAddr,
    /// Address of S3 and STS for AWS clients.
    pub s3: SocketAddr,
    /// Address of STS and IAM of AWS.
    pub aws: SocketAddr,
    /// The database file; in memory if absent.
    pub data: Option<PathBuf>,
    /// The content of a new database; a small organization if absent.
    pub fixture: Option<PathBuf>,
    /// The longest session in seconds. Longer ones are shortened, not refused.
    pub max_session: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: ANY_PORT,
            control: ANY_PORT,
            s3: ANY_PORT,
            aws: ANY_PORT,
            data: None,
            fixture: None,
            max_session: None,
        }
    }
}

/// A running sandbox. Dropping it stops it.
#[derive(Debug)]
pub struct Sandbox {
    /// What a client needs: `endpoint`, `control`, `s3`, `aws`, `admin_token`, `tokens` by principal,
    /// `roles` by name, `aws_fixture`.
    pub ready: Value,
    servers: [JoinHandle<()>; 4],
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

/// What all requests share.
#[derive(Debug)]
struct State {
    store: Store,
    clock: Clock,
    faults: Faults,
    call_log: CallLog,
    aws: aws::Aws,
    s3_request_log: s3::RequestLog,
    limits: control::Limits,
}

/// Starts a sandbox in the current tokio runtime.
pub async fn start(options: Options) -> Result<Sandbox, StartError> {
    let clock = Clock::default();
    let fixture = fixture::load(options.fixture.as_deref())?;
    let store = Store::open(options.data.as_deref(), &fixture, clock.now())?;

    let api = bind(options.listen).await?;
    let control = bind(options.control).await?;
    let s3 = bind(options.s3).await?;
    let aws = bind(options.aws).await?;
    let (aws_state, aws_fixture) = aws::Aws::new(clock.now());

    let mut ready = store.ready()?;
    ready["endpoint"] = json!(url(&api)?);
    ready["control"] = json!(url(&control)?);
    ready["s3"] = json!(url(&s3)?);
    ready["aws"] = json!(url(&aws)?);
    ready["aws_fixture"] = aws_fixture;

    let state = Arc::new(State {
        store,
        clock,
        faults: Faults::default(),
        call_log: CallLog::default(),
        aws: aws_state,
        s3_request_log: s3::RequestLog::default(),
        limits: control::Limits::new(options.max_session),
    });
    let servers = [
        tokio::spawn(server::serve_api(api, Arc::clone(&state))),
        tokio::spawn(s3::serve(s3, Arc::clone(&state))),
        tokio::spawn(aws::serve(aws, Arc::clone(&state))),
        tokio::spawn(server::serve_control(control, state)),
    ];

    Ok(Sandbox { ready, servers })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    if !address.ip().is_loopback() {
        return Err(StartError::NotLoopback(address));
    }

    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Listen { address, error })
}

fn url(listener: &TcpListener) -> Result<String, StartError> {
    let address = listener.local_addr().map_err(|error| StartError::Listen {
        address: ANY_PORT,
        error,
    })?;

    Ok(format!("http://{address}"))
}

/// Name, verb and path of each method, for comparison with the contract.
pub fn methods() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    methods::all().map(|method| {
        let path = format!("{PREFIX}{}", method.path);
        (method.name, method.spec.verb.as_str(), path)
    })
}

/// Service and name of each AWS action.
pub fn aws_actions() -> impl Iterator<Item = (&'static str, &'static str)> {
    aws::actions()
}

/// The sandbox's policy evaluation (A10), for comparison with others: a function of an action and
/// all CRNs of a resource, or of a principal if the documents are trust policies.
pub fn evaluator(
    documents: &[Value],
    is_trust: bool,
) -> Result<impl Fn(&str, &[String]) -> bool, String> {
    let mut policies = Vec::new();
    let mut trust_policies = Vec::new();
    for document in documents {
        if is_trust {
            trust_policies.push(TrustPolicy::parse(document)?);
        } else {
            policies.push(Policy::parse(document)?);
        }
    }

    Ok(move |action: &str, crns: &[String]| {
        let crns = Crns(crns.to_vec());
        if is_trust {
            trust_policies.iter().all(|policy| policy.trusts(&crns))
        } else {
            decide(&policies, action, &crns)
        }
    })
}

#[cfg(test)]
mod tests;
