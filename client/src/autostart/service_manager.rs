//! The user's service manager starts the daemon if its units are installed: its environment, limits and lifetime are the
//! user's, and not those of the first command that needs credentials.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rolekeeper::places;

use super::environment;

const UNIT: &str = "rolekeeperd.socket";
/// Starting a socket takes milliseconds.
const START_LIMIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// Whether systemd listens at the daemon's default socket now. It then starts the daemon with the first connection.
pub(super) fn start(socket: &Path) -> bool {
    let is_default = places::default_socket().is_some_and(|default| default == socket);
    let Some(runtime) = places::runtime_folder().filter(|_| is_default) else {
        return false;
    };

    let is_running = runtime.join("systemd/private").exists();
    if !is_running || !unit_folders().any(|folder| folder.join(UNIT).exists()) {
        return false;
    }

    // With its own `PATH`, in which the program is found, too.
    let started = Command::new("systemctl")
        .args(["--user", "--no-ask-password", "start", UNIT])
        .env_clear()
        .env("PATH", environment::PATH)
        .env("XDG_RUNTIME_DIR", runtime)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();

    started.is_ok_and(succeeds_in_time)
}

/// A service manager that hangs is not waited for: other clients wait for this start.
fn succeeds_in_time(mut command: Child) -> bool {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match command.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            _ => {
                let _ = command.kill().and_then(|()| command.wait());
                return false;
            }
        }
    }
}

/// Where the units of a user are installed, by the user, an administrator or a package.
fn unit_folders() -> impl Iterator<Item = PathBuf> {
    let of_user = places::config_folder().map(|folder| folder.join("systemd/user"));
    let others = [
        "/etc/systemd/user",
        "/usr/local/lib/systemd/user",
        "/usr/lib/systemd/user",
    ];

    of_user.into_iter().chain(others.map(PathBuf::from))
}
