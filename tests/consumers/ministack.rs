//! ministack, a second server with the AWS API.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};

use rolekeeper_tests::harness::{Home, eventually};

use super::assert_installed;

pub(super) const ACCOUNT: &str = "111122223333";

/// Killed when it is dropped.
pub(super) struct Ministack {
    child: Child,
    pub(super) url: String,
}

impl Ministack {
    /// Starts it with signatures and policies enforced.
    pub(super) fn start(home: &Home) -> Self {
        assert_installed("ministack");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/consumers/ministack");
        let port = free_port();
        let log = std::fs::File::create(home.path().join("ministack.log")).expect("a log");

        let mut command = home.command(&folder.join("bin/python"));
        command
            .args(["-m", "ministack"])
            .env("AUTH", "true")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
            .env("SERVICES", "iam,sts")
            .env("SFTP_ENABLED", "0")
            .env("IOT_MTLS_ENABLED", "0")
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        let child = command.spawn().expect("ministack starts");
        eventually("ministack listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });

        let url = format!("http://127.0.0.1:{port}");
        Self { child, url }
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another program could take it before ministack does.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
