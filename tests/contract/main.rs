//! The contract of ByCloud IAM is the referee: the documented methods, the daemon's client and the sandbox are each
//! compared with it, and the client then makes all sixty calls against the sandbox.

mod agreement;
mod faults;
mod oracle;
mod replies;
mod story;

use std::future::Future;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rolekeeper_tests::harness::{Home, SandboxProcess};
use rolekeeperd::config::{Endpoint, HttpTransport, TokenLocation};
use rolekeeperd::token_source::TokenSource;
use rolekeeperd::upstream::bycloud::ByCloud;

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// Runs what the daemon's client does: the harness's own client must not run inside a runtime.
fn run<T>(act: impl Future<Output = T>) -> T {
    RUNTIME.block_on(act)
}

/// The daemon's client of an endpoint, with a token.
fn client(home: &Home, endpoint: &str, token: &str) -> ByCloud {
    let _ = rustls::crypto::ring::default_provider().install_default();
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = home.private_file(&format!("client{number}.token"), token);
    let key = TokenSource::new("sandbox".into(), TokenLocation::File(file));
    ByCloud::new(
        Endpoint::parse(endpoint).unwrap(),
        HttpTransport::default(),
        key,
    )
    .unwrap()
}

/// A sandbox, and its administrator's client.
fn world() -> (SandboxProcess, Home, ByCloud) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    let client = client(&home, sandbox.endpoint(), sandbox.token("admin"));
    (sandbox, home, client)
}
