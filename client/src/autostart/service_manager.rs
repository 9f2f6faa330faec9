//! The user's service manager starts the daemon if its units are installed: its environment, limits and lifetime are the
//! user's, and not those of the first command that needs credentials.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rolekeeper::places;

const UNIT: &str = "rolekeeperd.socket";

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

    Command::new("systemctl")
        .args(["--user", "--no-ask-password", "start", UNIT])
        .env("XDG_RUNTIME_DIR", runtime)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
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
