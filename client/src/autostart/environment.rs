//! The environment of a daemon that a client starts. The daemon serves every later caller too, so the first one must not
//! decide how it works: it gets a fixed list of variables, and the system's `PATH`.

use std::ffi::OsString;

use rolekeeper::connect::{IGNORED_VARIABLES, STARTED_BY_CLIENT, variable};
use rolekeeper::places;

/// The folders of the system's programs. A program of another folder is configured by its absolute path.
pub(super) const PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

/// Who the user is, how the desktop is reached, and how text and times are written.
const KEPT: [&str; 18] = [
    "USER",
    "LOGNAME",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_TIME",
    "TZ",
    // Windows.
    "APPDATA",
    "LOCALAPPDATA",
    "SYSTEMROOT",
    "USERNAME",
    "USERPROFILE",
];

/// Folders, which have to be absolute.
const KEPT_FOLDERS: [&str; 4] = [
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_DATA_HOME",
];

/// Variables that would change how the daemon reaches an upstream, if it got them.
const IGNORED: [&str; 10] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The variables of this process that a daemon does not get, although they would matter.
pub(super) fn ignored() -> Vec<&'static str> {
    IGNORED
        .into_iter()
        .filter(|name| variable(name).is_some())
        .collect()
}

pub(super) fn of_daemon() -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = Vec::new();

    all.extend(places::home().map(|home| ("HOME".into(), home.into())));
    for name in KEPT {
        all.extend(variable(name).map(|value| (name.into(), value)));
    }
    // The bus of the login, if there is one: not that of a session inside of it.
    if let Some(bus) = places::runtime_folder().map(|folder| folder.join("bus"))
        && bus.exists()
    {
        let address = format!("unix:path={}", bus.display());
        all.retain(|(name, _)| name != "DBUS_SESSION_BUS_ADDRESS");
        all.push(("DBUS_SESSION_BUS_ADDRESS".into(), address.into()));
    }
    for name in KEPT_FOLDERS {
        all.extend(places::absolute(name).map(|folder| (name.into(), folder.into())));
    }

    let ignored = ignored();
    if !ignored.is_empty() {
        all.push((IGNORED_VARIABLES.into(), ignored.join(",").into()));
    }

    let path = match cfg!(unix) {
        true => Some(PATH.into()),
        false => variable("PATH"),
    };
    all.extend(path.map(|path| ("PATH".into(), path)));
    all.push((STARTED_BY_CLIENT.into(), "1".into()));

    all
}
