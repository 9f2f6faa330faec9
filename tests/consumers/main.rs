//! Tests with real consumers: the AWS CLI, the AWS SDKs, kubectl, Docker, git, gnome-keyring, a desktop bus and systemd.
//! schemathesis tests the sandbox. `tests/run` installs these programs.

mod aws_cli;
mod aws_files;
mod aws_oracle;
mod aws_sandbox;
mod aws_sandbox_calls;
mod bus;
mod desktop;
mod driver;
mod keyring;
mod ministack;
mod mock_server;
mod plugins;
mod revoked;
mod s3;
mod schemathesis;
mod sdks;
mod systemd;
#[path = "../e2e/tls_door.rs"]
mod tls_door;

use std::path::{Path, PathBuf};

/// The path of an installed program: a name in `bin`, or a path below the folder of the consumers.
///
/// # Panics
/// If it is not installed.
fn installed(program: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/consumers");
    let path = if program.contains('/') {
        folder.join(program)
    } else {
        folder.join("bin").join(program)
    };

    assert!(
        path.exists(),
        "{} is missing: run tests/consumers/setup",
        path.display()
    );

    path
}

/// # Panics
/// If `tests/consumers/setup` could not install this part of the consumers.
fn assert_installed(part: &str) {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/consumers/missing.txt");
    let missing = std::fs::read_to_string(list).unwrap_or_default();

    assert!(
        !missing.lines().any(|line| line == part),
        "{part} is not installed: run tests/consumers/setup {part}"
    );
}
