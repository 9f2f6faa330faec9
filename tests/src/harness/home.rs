//! A home folder for one test: configuration, socket and state, separate from the real ones.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rolekeeper::places;
use tempfile::TempDir;

use super::SandboxProcess;
use super::leaks::LeakCheck;

const CONFIG: &str = "config/rolekeeper/config.toml";

/// Checks for leaked secrets when it is dropped, see [`LeakCheck`].
#[derive(Debug)]
pub struct Home {
    pub(super) folder: TempDir,
    pub(super) leaks: LeakCheck,
}

impl Default for Home {
    fn default() -> Self {
        // A short prefix: the path of a socket is limited to about 100 bytes.
        let folder = tempfile::Builder::new()
            .prefix("rk")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .expect("a folder");

        for name in ["run", "config/rolekeeper", "state"] {
            fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }

        Self {
            folder,
            leaks: LeakCheck::default(),
        }
    }
}

impl Home {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The default socket.
    pub fn socket(&self) -> PathBuf {
        let folder = self.path().join(".local/state/rolekeeper");
        folder.join(places::machine()).join("socket")
    }

    /// Creates the folder of the default socket, for a test that listens there itself.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn create_socket_folder(&self) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.socket().parent().expect("a folder"))
            .expect("a folder");
    }

    /// The default socket, and every folder from its own up to the home, which other users cannot enter.
    pub fn socket_and_folders(&self) -> Vec<PathBuf> {
        let socket = self.socket();
        let above = socket.ancestors();
        above
            .take_while(|path| path.starts_with(self.path()))
            .map(Path::to_owned)
            .collect()
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        let folder = self.path().join("state/rolekeeper");
        folder.join(places::machine())
    }

    /// Adds a text that no program may print or store, except in a lease.
    pub fn secret(&self, text: &str) {
        self.leaks.add_secret(text);
    }

    /// Writes a file with mode 600.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");

        path
    }

    /// Copies a program into this home with `cp`. This process must not have the copy open for
    /// writing: a child that another thread starts meanwhile would inherit the descriptor, and the
    /// copy could not be executed (`ETXTBSY`).
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn copy_of(&self, program: &Path) -> PathBuf {
        let name = program.file_name().expect("a file name");
        let copy = self.path().join(name);
        let status = Command::new("cp")
            .arg(program)
            .arg(&copy)
            .status()
            .expect("cp starts");
        assert!(status.success());

        copy
    }

    /// The daemon's journal.
    pub fn journal(&self) -> PathBuf {
        self.state().join("journal.jsonl")
    }

    pub fn config_path(&self) -> PathBuf {
        self.path().join(CONFIG)
    }

    /// Replaces the configuration.
    pub fn configure(&self, text: &str) {
        self.private_file(CONFIG, text);
    }

    /// Configures the sandbox as upstream with a principal's token, and a profile for each role:
    /// `(profile, role)`.
    pub fn configure_for(
        &self,
        sandbox: &SandboxProcess,
        principal: &str,
        profiles: &[(&str, &str)],
    ) {
        let token = sandbox.token_file(self, principal);
        let endpoint = sandbox.endpoint();
        let mut text = format!(
            "[upstream.sandbox]\nkind = \"bycloud\"\nendpoint = \"{endpoint}\"\ntoken = {{ file = {token:?} }}\n",
        );

        for (profile, role) in profiles {
            let role_id = sandbox.role(role);
            text +=
                &format!("[profile.{profile}]\nupstream = \"sandbox\"\nrole_id = \"{role_id}\"\n",);
        }

        self.configure(&text);
    }

    /// Adds lines to the upstream and to every profile of what [`Self::configure_for`] wrote.
    ///
    /// # Panics
    /// Without a configuration.
    pub fn configure_more(&self, upstream: &str, profiles: &str) {
        let text = fs::read_to_string(self.config_path()).expect("a configuration");
        let text = insert_after(&text, "kind = \"bycloud\"\n", upstream);
        let text = insert_after(&text, "upstream = \"sandbox\"\n", profiles);

        self.configure(&text);
    }

    /// A command with this home and `PATH`, and no other variable of this process.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        self.set_env(&mut command);

        command
    }

    /// Sets `HOME` and the `XDG_` variables to this home.
    pub fn set_env(&self, command: &mut Command) {
        command.env("HOME", self.path());
        command.env("XDG_RUNTIME_DIR", self.path().join("run"));
        command.env("XDG_CONFIG_HOME", self.path().join("config"));
        command.env("XDG_STATE_HOME", self.path().join("state"));
    }
}

fn insert_after(text: &str, line: &str, more: &str) -> String {
    text.replace(line, &format!("{line}{more}\n"))
}
