//! Which files the daemon's work is on, as its configuration says.

use std::path::{Path, PathBuf};

use crate::config::{Config, TokenLocation};

/// Where it may read, write and start programs. Folders rather than files: what is replaced has the same name, and is
/// another file.
#[derive(Debug, Default)]
pub struct AllowedPaths {
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    pub execute: Vec<PathBuf>,
}

/// What libraries read: names and hosts, certificates, time zones, themselves.
const OF_THE_SYSTEM: &[&str] = &[
    "/bin",
    "/dev",
    "/etc",
    "/gnu/store",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/run",
    "/sys",
    "/usr",
    "/var/lib/ca-certificates",
];

impl AllowedPaths {
    /// For a daemon of this program, configuration, socket and state.
    pub fn of(
        config: &Config,
        program: &Path,
        file: &Path,
        socket: &Path,
        state: Option<&Path>,
    ) -> Self {
        let mut places = Self::default();
        places.read.extend(OF_THE_SYSTEM.iter().map(PathBuf::from));
        // Also where a link to it leads.
        let real = program.canonicalize().ok();
        for program in real.iter().map(PathBuf::as_path).chain([program]) {
            places.execute.extend(folder_of(program));
        }
        places.read.extend(folders_of(file));
        places.write.extend(folder_of(socket));
        places.write.extend(state.map(Path::to_owned));
        let named = |name| rolekeeper::connect::variable(name).map(PathBuf::from);
        places.read.extend(named("CREDENTIALS_DIRECTORY"));
        // Whom the system trusts may be said otherwise (OpenSSL's variables).
        places.read.extend(
            named("SSL_CERT_FILE")
                .as_deref()
                .into_iter()
                .flat_map(folders_of),
        );
        places.read.extend(named("SSL_CERT_DIR"));
        for upstream in &config.upstreams {
            places
                .read
                .extend(upstream.way.ca.as_deref().into_iter().flat_map(folders_of));
            match &upstream.token {
                TokenLocation::File(path) => places.read.extend(folders_of(path)),
                TokenLocation::Age { file, identity } => {
                    places.write.extend(folders_of(file));
                    places
                        .write
                        .extend(identity.as_deref().into_iter().flat_map(folders_of));
                }
                // What a program needs is not withheld from it: the starter starts it.
                TokenLocation::Command { .. }
                | TokenLocation::Env(_)
                | TokenLocation::Keyring(_)
                | TokenLocation::SystemdCredential(_) => {}
            }
        }
        places
    }
}

/// Where a file is, and where it leads if it is a link.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let real = file.canonicalize().ok();
    let mut folders: Vec<_> = std::iter::once(file)
        .chain(real.as_deref())
        .filter_map(folder_of)
        .collect();
    folders.dedup();
    folders
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(Path::to_owned)
}
