//! The contract of ByCloud IAM is the reference: these tests compare the documented methods, the daemon's
//! client and the sandbox with it. The client then calls all sixty methods of the sandbox.

mod agreement;
mod all_methods;
mod faults;
mod oracle;
mod replies;

use std::future::Future;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rolekeeper_tests::harness::{Home, SandboxProcess};
use rolekeeperd::config::{Endpoint, HttpTransport, TokenLocation};
use rolekeeperd::token_source::TokenSource;
use rolekeeperd::upstream::bycloud::ByCloud;

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

/// Runs a call of the daemon's client. The harness's own client must not run inside a runtime.
fn run<T>(call: impl Future<Output = T>) -> T {
    RUNTIME.block_on(call)
}

/// The daemon's client for an endpoint, with a token.
fn client(home: &Home, endpoint: &str, token: &str) -> ByCloud {
    let _ = rustls::crypto::ring::default_provider().install_default();
    static NUMBER: AtomicUsize = AtomicUsize::new(0);

    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = home.private_file(&format!("client{number}.token"), token);
    let token_source = TokenSource::new("sandbox".into(), TokenLocation::File(file));
    ByCloud::new(
        Endpoint::parse(endpoint).unwrap(),
        HttpTransport::default(),
        token_source,
    )
    .unwrap()
}

/// A sandbox, and a client with its administrator's token.
fn world() -> (SandboxProcess, Home, ByCloud) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let client = client(&home, sandbox.endpoint(), sandbox.token("admin"));
    (sandbox, home, client)
}
