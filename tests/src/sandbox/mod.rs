//! A ByCloud IAM on loopback, for the demo, the tests and people who develop offline: real storage, real policy
//! evaluation, real expiry, and faults on demand. It shares no types with the daemon: a shared type would hide a bug
//! that is on both sides.
//!
//! Read `dispatch` first: it is the path of a request. The assumptions A1 to A15 are those of the contract.

mod audit;
mod auth;
mod calls;
mod clock;
mod control;
mod crn;
mod dispatch;
mod error;
mod fault;
mod fixture;
mod form;
mod handlers;
mod methods;
mod page;
mod params;
mod policy;
mod s3;
mod server;
mod sigv4;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use calls::Calls;
use clock::Clock;
use crn::Crns;
use fault::Faults;
use policy::{Policy, TrustPolicy, decide};
use store::Store;

pub use error::StartError;

/// How a sandbox is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the API is served; loopback only.
    pub listen: SocketAddr,
    /// Where the control interface is served; loopback only.
    pub control: SocketAddr,
    /// Where S3 and STS are served, as AWS's clients know them; loopback only.
    pub s3: SocketAddr,
    /// The database; in memory if absent.
    pub data: Option<PathBuf>,
    /// Who and what there is in a new database; a small organisation if absent.
    pub fixture: Option<PathBuf>,
    /// The longest session the organisation grants, in seconds: longer ones are cut, not refused.
    pub max_session: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: any,
            control: any,
            s3: any,
            data: None,
            fixture: None,
            max_session: None,
        }
    }
}

/// A running sandbox. It stops when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// What a client has to know: `endpoint`, `control`, `s3`, `admin_token`, `tokens` by principal, `roles` by name.
    pub ready: Value,
    servers: [JoinHandle<()>; 3],
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

/// What every request sees.
#[derive(Debug)]
struct State {
    store: Store,
    clock: Clock,
    faults: Faults,
    calls: Calls,
    s3_requests: s3::Requests,
    limits: control::Limits,
}

/// What is served: name, verb and path of each method.
pub fn served() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    methods::all().map(|method| {
        (
            method.name(),
            method.documented.verb.as_str(),
            format!("{PREFIX}{}", method.path),
        )
    })
}

/// What the sandbox decides by these documents (A10), for comparison with others: a trust policy's, or policies'. It is
/// asked with an action and every CRN of a thing.
pub fn evaluator(
    documents: &[Value],
    is_trust: bool,
) -> Result<impl Fn(&str, &[String]) -> bool, String> {
    let trust = if is_trust { documents } else { &[] }
        .iter()
        .map(TrustPolicy::parse)
        .collect::<Result<Vec<_>, _>>()?;
    let policies = if is_trust { &[] } else { documents }
        .iter()
        .map(Policy::parse)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(move |action: &str, crns: &[String]| {
        let crns = Crns(crns.to_vec());
        if is_trust {
            trust.iter().all(|trust| trust.trusts(&crns))
        } else {
            decide(&policies, action, &crns)
        }
    })
}

/// In front of every path (A2).
const PREFIX: &str = "/iam/v1";

/// Starts a sandbox within the running tokio runtime.
pub async fn start(options: Options) -> Result<Sandbox, StartError> {
    let clock = Clock::default();
    let fixture = fixture::load(options.fixture.as_deref())?;
    let store = Store::open(options.data.as_deref(), &fixture, clock.now())?;
    let state = Arc::new(State {
        store,
        clock,
        faults: Faults::default(),
        calls: Calls::default(),
        s3_requests: s3::Requests::default(),
        limits: control::Limits::new(options.max_session),
    });
    let (api, control, s3) = (
        bind(options.listen).await?,
        bind(options.control).await?,
        bind(options.s3).await?,
    );
    let mut ready = state.store.ready()?;
    ready["endpoint"] = json!(url(&api)?);
    ready["control"] = json!(url(&control)?);
    ready["s3"] = json!(url(&s3)?);
    let servers = [
        tokio::spawn(server::serve_api(api, Arc::clone(&state))),
        tokio::spawn(s3::serve(s3, Arc::clone(&state))),
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
    listener
        .local_addr()
        .map(|address| format!("http://{address}"))
        .map_err(|error| StartError::Listen {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            error,
        })
}

#[cfg(test)]
mod tests;
