//! Where rolekeeper's files are. Every process of a user has to find the same daemon, so the place of its socket depends on
//! the user's home and the machine alone, and on no other variable of the environment.

use std::iter;
use std::path::{Path, PathBuf};

use crate::connect::{CONFIG_HOME_VARIABLE, MAX_PATH, variable};

/// The socket's name in its folder.
const SOCKET: &str = "socket";
/// Beside the default socket: a link to the state folder, if that is elsewhere.
const STATE_LINK: &str = "state";
/// The lock in a state folder.
pub const STATE_LOCK: &str = "lock";
/// How much of the machine's id names its folder: enough to tell machines apart, and short in the path of a socket.
const MACHINE_ID: usize = 12;

/// An environment variable that is an absolute path. Others are ignored, as the XDG specification says: a relative path
/// would name another place in each working folder.
pub fn absolute(name: &str) -> Option<PathBuf> {
    variable(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// The user's home: `HOME`, unless it belongs to another user, as after `sudo -E`; else the one of the user database.
pub fn home() -> Option<PathBuf> {
    match absolute("HOME").filter(|home| is_trusted(home)) {
        Some(home) => Some(home),
        None => home_of_user(),
    }
}

/// `$XDG_STATE_HOME/rolekeeper`, else `~/.local/state/rolekeeper`, and in it the folder of this machine: homes can be
/// shared by several. None if the folder would be created in a folder of another user.
pub fn state_folder() -> Option<PathBuf> {
    let of_variable =
        absolute("XDG_STATE_HOME").map(|folder| folder.join("rolekeeper").join(machine()));
    let mut folders = of_variable.into_iter().chain(folder_in_home());
    folders.find(|folder| is_in_own_folder(folder))
}

/// The state folder of the daemon at this socket. At a default socket it stays the same whatever the environment of the
/// next start is, so that no hold is forgotten: a link beside the socket leads to a folder that is not there itself.
pub fn state_folder_of(socket: &Path) -> Option<PathBuf> {
    let beside = folder_in_home().filter(|_| is_default(socket));
    let Some(beside) = beside else {
        let of_socket = || Some(socket.parent()?.to_owned()).filter(|folder| is_own(folder));
        return state_folder().or_else(of_socket);
    };

    let linked = std::fs::read_link(beside.join(STATE_LINK)).ok();
    match linked.filter(|folder| folder.is_absolute() && folder.is_dir()) {
        Some(folder) => Some(folder).filter(|folder| is_own(folder)),
        None if beside.join(STATE_LOCK).exists() => Some(beside),
        // What an earlier daemon has stored is read, even if nothing can be written there any more.
        None => state_folder()
            .filter(|folder| folder.exists() || can_be_written(folder))
            .or_else(|| Some(socket.parent()?.to_owned())),
    }
}

/// Makes [`state_folder_of`] find this folder again.
pub fn remember_state_folder(socket: &Path, folder: &Path) {
    #[cfg(unix)]
    if is_default(socket)
        && let Some(beside) = folder_in_home().filter(|beside| beside != folder)
    {
        let link = beside.join(STATE_LINK);
        if std::fs::read_link(&link).is_ok_and(|old| old == folder) {
            return;
        }
        // A link that cannot be made is no reason not to serve: the folder is usually found without it.
        let _ = create_private(&beside);
        let _ = std::fs::remove_file(&link);
        let _ = std::os::unix::fs::symlink(folder, &link);
    }

    #[cfg(not(unix))]
    let _ = (socket, folder);
}

/// Whether this is one of the places where a daemon of this user is found without an option.
pub fn is_default(socket: &Path) -> bool {
    sockets().any(|default| default == socket)
}

/// `$XDG_CONFIG_HOME/rolekeeper/config.toml`, else the same below `~/.config`.
pub fn default_config() -> Option<PathBuf> {
    Some(config_in(&config_folder()?))
}

/// The configuration in a folder of all programs' configurations.
pub fn config_in(folder: &Path) -> PathBuf {
    folder.join("rolekeeper/config.toml")
}

/// `XDG_CONFIG_HOME`, else `~/.config`.
pub fn config_folder() -> Option<PathBuf> {
    absolute(CONFIG_HOME_VARIABLE).or_else(|| Some(home()?.join(".config")))
}

/// The default socket: in the user's home or, where the home cannot hold one, in the runtime folder.
pub fn default_socket() -> Option<PathBuf> {
    sockets().find(|socket| socket.parent().is_some_and(can_be_written))
}

/// The default sockets without this one, if it is one of them. Their daemon may have been started while another place was
/// writable, or by the service manager.
pub fn other_default_sockets(socket: &Path) -> Vec<PathBuf> {
    if !is_default(socket) {
        return Vec::new();
    }

    let mut others: Vec<_> = sockets().filter(|each| each != socket).collect();
    others.dedup();
    others
}

/// Whether the folder is one of rolekeeper's own, in the user's home or runtime folder.
pub fn is_default_folder(folder: &Path) -> bool {
    sockets().any(|socket| socket.parent() == Some(folder))
}

fn sockets() -> impl Iterator<Item = PathBuf> {
    // Most callers need the first one alone.
    let in_home = iter::once_with(|| Some(folder_in_home()?.join(SOCKET)));
    let in_runtime = iter::once_with(|| Some(runtime_folder()?.join("rolekeeper").join(SOCKET)));
    // Another process may not have this one's variable.
    let of_login = iter::once_with(|| Some(of_login_manager()?.join("rolekeeper").join(SOCKET)));
    in_home
        .chain(in_runtime)
        .chain(of_login)
        .flatten()
        .filter(|path| path.as_os_str().len() <= MAX_PATH)
}

fn folder_in_home() -> Option<PathBuf> {
    Some(home()?.join(".local/state/rolekeeper").join(machine()))
}

/// Creates a folder that only the user can enter, with its parents. An existing one is not changed.
pub fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// `XDG_RUNTIME_DIR`, else `/run/user/UID`, if it is this user's.
pub fn runtime_folder() -> Option<PathBuf> {
    let of_variable = absolute("XDG_RUNTIME_DIR").filter(|folder| is_own(folder));
    of_variable.or_else(of_login_manager)
}

/// The name of this machine's folder: the beginning of its id or, without one, its host name.
pub fn machine() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let is_id =
        |id: &&str| id.len() >= MACHINE_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = id.get(..MACHINE_ID).filter(is_id);
    id.map_or_else(host, Into::into)
}

/// The host's name, as one component of a path.
fn host() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let name = variable("COMPUTERNAME")
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();

    let name: String = name
        .chars()
        .filter(|each| each.is_ascii_alphanumeric() || *each == '-')
        .take(32)
        .collect();
    if name.is_empty() {
        "local".into()
    } else {
        name
    }
}

#[cfg(unix)]
mod owner {
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::Access;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn of(folder: &Path) -> Option<u32> {
        Some(std::fs::metadata(folder).ok()?.uid())
    }

    pub(super) fn is_own(folder: &Path) -> bool {
        of(folder) == Some(me())
    }

    /// A home of root's is one that an administrator has made for this user.
    pub(super) fn is_trusted(home: &Path) -> bool {
        of(home).is_some_and(|owner| owner == me() || owner == 0)
    }

    /// Whether the folder, or the nearest one above it that exists, is this user's.
    pub(super) fn is_in_own_folder(folder: &Path) -> bool {
        let owner = folder.ancestors().find_map(of);
        owner == Some(me())
    }

    /// Whether a file can be created in the folder, and the folder if it does not exist.
    pub(super) fn can_be_written(folder: &Path) -> bool {
        let mut above = folder.ancestors();
        let existing = above.find_map(|each| Some((each, of(each)?)));
        existing.is_some_and(|(existing, owner)| {
            owner == me()
                && rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK).is_ok()
        })
    }

    pub(super) fn of_login_manager() -> Option<PathBuf> {
        let folder = PathBuf::from(format!("/run/user/{}", me()));
        is_own(&folder).then_some(folder)
    }

    pub(super) fn home_of_user() -> Option<PathBuf> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
        let home = user.ok()??.dir;
        home.is_absolute().then_some(home)
    }
}

#[cfg(not(unix))]
mod owner {
    use std::path::{Path, PathBuf};

    pub(super) fn is_own(_folder: &Path) -> bool {
        true
    }

    pub(super) fn is_trusted(_home: &Path) -> bool {
        true
    }

    pub(super) fn is_in_own_folder(_folder: &Path) -> bool {
        true
    }

    pub(super) fn can_be_written(_folder: &Path) -> bool {
        true
    }

    pub(super) fn of_login_manager() -> Option<PathBuf> {
        None
    }

    pub(super) fn home_of_user() -> Option<PathBuf> {
        std::env::home_dir()
    }
}

use owner::{can_be_written, home_of_user, is_in_own_folder, is_own, is_trusted, of_login_manager};
