//! The files of the daemon's work, from its configuration.

use std::path::{Path, PathBuf};

use rolekeeper::connect::variable;

use super::system_files::{self, places_of};
use crate::config::{Config, TokenLocation};

/// Folders that the daemon may read, write, and start programs from. A rule for a file would not match the file that
/// replaces it: a reload after an upgrade would fail. A narrower rule for programs would not confine more, because
/// Landlock does not restrict memory files, which a reload starts, and the loader starts any file that can be read.
#[derive(Debug, Default)]
pub(crate) struct AllowedPaths {
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
    pub(super) execute: Vec<PathBuf>,
}

/// What libraries read: names and hosts, certificates, time zones, other libraries.
const SYSTEM_FOLDERS: &[&str] = &[
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
    /// For a daemon with this program, configuration file, socket and state folder.
    pub(crate) fn new(
        config: &Config,
        program: &Path,
        config_file: &Path,
        socket: &Path,
        state: Option<&Path>,
    ) -> Self {
        let mut paths = Self::default();
        paths.read.extend(SYSTEM_FOLDERS.iter().map(PathBuf::from));
        paths.read.extend(folders_of(config_file));
        paths.execute.extend(folders_of(program));
        paths.write.extend(folder_of(socket));
        paths.write.extend(state.map(Path::to_owned));
        paths.read.extend(system_files::allowed());
        paths.add_environment();

        if let Some(files) = &config.aws_files {
            paths.read.extend(folders_of(&files.config));
            paths.read.extend(folders_of(&files.credentials));
        }
        for upstream in &config.upstreams {
            if let Some(ca) = &upstream.transport.ca {
                paths.read.extend(folders_of(ca));
                paths.read.extend(places_of(ca));
            }
            for location in upstream.token_locations() {
                paths.add_token(location);
            }
        }

        paths
    }

    /// The credentials of systemd.
    fn add_environment(&mut self) {
        let folder = variable("CREDENTIALS_DIRECTORY");
        self.read.extend(folder.map(PathBuf::from));
    }

    fn add_token(&mut self, token: &TokenLocation) {
        match token {
            TokenLocation::File(path) => self.read.extend(folders_of(path)),
            TokenLocation::Age { file, identity } => {
                self.write.extend(folders_of(file));
                if let Some(identity) = identity {
                    self.write.extend(folders_of(identity));
                }
            }
            // The command helper is not confined.
            TokenLocation::Command { .. }
            // See above.
            | TokenLocation::AwsFile { .. }
            | TokenLocation::Env(_)
            | TokenLocation::Keyring(_)
            | TokenLocation::SystemdCredential(_) => {}
        }
    }
}

/// The folder of a file and, if the file is a link, the folder of its target.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let target = file.canonicalize().ok();
    let mut folders = Vec::new();
    folders.extend(folder_of(file));
    folders.extend(target.as_deref().and_then(folder_of));
    folders.dedup();
    folders
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(Path::to_owned)
}
