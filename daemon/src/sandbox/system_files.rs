//! The files that the system's resolver and certificate store read. Each of them may be a link to any folder: WSL's
//! `/etc/resolv.conf` leads to `/mnt/wsl`.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rolekeeper::connect::variable;
use rustix::fs::{Access, access};

/// What glibc, musl and the certificate verifier read.
const FILES: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/networks",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/certs/cacert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cacert.pem",
    "/opt/etc/ssl/certs/ca-certificates.crt",
];

const CERTIFICATE_FOLDERS: &[&str] = &[
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/security/certificates",
];

/// Folders that too much else is in. Of these, only the file itself is allowed, and not the file that replaces it.
const WIDE_FOLDERS: &[&str] = &[
    "/", "/boot", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/lib",
    "/var/tmp",
];

/// Every folder in these belongs to a user or a drive.
const FOLDERS_OF_USERS: &[&str] = &["/home", "/media", "/mnt"];

/// Where programs that manage networks put `resolv.conf`. They change the link while the daemon runs, and the sandbox
/// cannot be widened then.
const KNOWN_TARGETS: &[&str] = &["/mnt/wsl", "/var/run", "/tmp/resolv.conf.d"];

/// A file of the system that the daemon cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnreadableFile {
    path: PathBuf,
    /// Where its links lead to.
    target: PathBuf,
    /// Only the sandbox forbids it. The sandbox of a new process would allow it.
    is_sandboxed: bool,
}

impl std::fmt::Display for UnreadableFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            path,
            target,
            is_sandboxed,
        } = self;

        write!(f, "rolekeeperd cannot read {}", path.display())?;
        if target != path {
            write!(f, ", which links to {}", target.display())?;
        }

        if *is_sandboxed {
            f.write_str("; it was not there when rolekeeperd started: restart rolekeeperd")
        } else {
            f.write_str("; make it readable for rolekeeperd's user")
        }
    }
}

/// The paths that the resolver and the certificate verifier need, beside the system's folders.
pub(super) fn allowed() -> Vec<PathBuf> {
    let mut allowed: BTreeSet<_> = KNOWN_TARGETS.iter().map(PathBuf::from).collect();
    for file in files() {
        allowed.extend(places_of(&file));
    }

    for folder in certificate_folders() {
        allowed.extend(folder.canonicalize());
        for link in links_in(&folder) {
            allowed.extend(places_of(&link));
        }
        allowed.insert(folder);
    }

    allowed.into_iter().collect()
}

/// The files of the system that exist, and that this process cannot read.
pub(crate) fn unreadable() -> Vec<UnreadableFile> {
    let folders = certificate_folders().into_iter();
    let paths = files().into_iter().chain(folders);
    paths.filter_map(|path| unreadable_file(&path)).collect()
}

/// For the message of a call that failed: what this process cannot read, each with its remedy. Empty if there is nothing.
pub(crate) fn unreadable_reason() -> String {
    let unreadable = unreadable();
    unreadable.iter().map(|file| format!("; {file}")).collect()
}

fn unreadable_file(path: &Path) -> Option<UnreadableFile> {
    let error = if path.is_dir() {
        fs::read_dir(path).err()?
    } else {
        fs::File::open(path).err()?
    };

    (error.kind() == ErrorKind::PermissionDenied).then(|| UnreadableFile {
        path: path.to_owned(),
        target: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        // The kernel does not ask Landlock for this call.
        is_sandboxed: access(path, Access::READ_OK).is_ok(),
    })
}

fn files() -> Vec<PathBuf> {
    let fixed = FILES.iter().map(PathBuf::from);
    let variables = ["SSL_CERT_FILE", "HOSTALIASES", "RESOLV_HOST_CONF"];
    let named = variables.into_iter().filter_map(variable);
    fixed.chain(named.map(PathBuf::from)).collect()
}

fn certificate_folders() -> Vec<PathBuf> {
    let named = variable("SSL_CERT_DIR").unwrap_or_default();
    let named = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty());
    let fixed = CERTIFICATE_FOLDERS.iter().map(PathBuf::from);
    fixed.chain(named).collect()
}

fn links_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .map(|entry| entry.path())
        .collect()
}

/// The folders that a file and the targets of its links are in. A rule for a file would not match the file that replaces
/// it, so it is used only where the folder is too wide.
pub(super) fn places_of(file: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut next = file.to_owned();

    // As many links as the kernel follows.
    for _ in 0..40 {
        places.extend(place_of(&next));
        let Ok(target) = fs::read_link(&next) else {
            break;
        };
        next = next
            .parent()
            .map_or_else(|| target.clone(), |folder| folder.join(&target));
    }

    let target = file.canonicalize().ok();
    places.extend(target.as_deref().and_then(place_of));
    places.dedup();

    places
}

fn place_of(file: &Path) -> Option<PathBuf> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())?;
    // A target such as `../run/x` names another folder than it is written as.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());

    if is_wide(&folder) {
        Some(file.to_owned())
    } else {
        Some(folder)
    }
}

fn is_wide(folder: &Path) -> bool {
    let has_home = variable("HOME").is_some_and(|home| Path::new(&home).starts_with(folder));
    let is_of_user = folder.parent().is_some_and(|parent| {
        FOLDERS_OF_USERS
            .iter()
            .any(|users| parent == Path::new(users))
    });
    let is_known = KNOWN_TARGETS.iter().any(|known| folder == Path::new(known));

    (has_home || is_of_user || WIDE_FOLDERS.iter().any(|wide| folder == Path::new(wide)))
        && !is_known
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_of_a_chain_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        for name in ["etc", "first", "second"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        fs::write(folder.join("second/resolv.conf"), "").unwrap();
        symlink("../second/resolv.conf", folder.join("first/resolv.conf")).unwrap();
        symlink(
            folder.join("first/resolv.conf"),
            folder.join("etc/resolv.conf"),
        )
        .unwrap();

        let places = places_of(&folder.join("etc/resolv.conf"));
        assert_eq!(
            places,
            ["etc", "first", "second"].map(|name| folder.join(name))
        );
    }

    #[test]
    fn folder_of_much_else_is_not_allowed() {
        for (file, place) in [
            ("/mnt/wsl/resolv.conf", "/mnt/wsl"),
            ("/mnt/c/resolv.conf", "/mnt/c/resolv.conf"),
            ("/home/ada/resolv.conf", "/home/ada/resolv.conf"),
            ("/home/ada/dns/resolv.conf", "/home/ada/dns"),
            ("/tmp/resolv.conf", "/tmp/resolv.conf"),
            ("/no-such-folder/resolv.conf", "/no-such-folder"),
            ("/resolv.conf", "/resolv.conf"),
        ] {
            assert_eq!(place_of(Path::new(file)), Some(place.into()), "{file}");
        }
    }

    #[test]
    fn message_has_the_link_and_the_remedy() {
        let file = |is_sandboxed| UnreadableFile {
            path: "/etc/resolv.conf".into(),
            target: "/vpn/resolv.conf".into(),
            is_sandboxed,
        };
        assert_eq!(
            file(true).to_string(),
            "rolekeeperd cannot read /etc/resolv.conf, which links to /vpn/resolv.conf; it was not there when rolekeeperd \
             started: restart rolekeeperd"
        );
        assert!(
            file(false)
                .to_string()
                .ends_with("make it readable for rolekeeperd's user")
        );
    }
}
