//! A home folder for one test: configuration, socket, state, and nothing of the machine's own. Whatever a program
//! prints or leaves here is searched for secrets when the home is dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use super::{SandboxProcess, programs};

#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    secrets: Mutex<Vec<String>>,
    /// What programs printed where no secret may be: (which, what).
    printed: Mutex<Vec<(String, String)>>,
}

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one JSON document on standard output.
    ///
    /// # Panics
    /// When the program failed, or printed something else, or anything on standard error.
    pub fn json(&self) -> Value {
        assert!(self.code == 0 && self.stderr.is_empty(), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Default for Home {
    fn default() -> Self {
        let private = fs::Permissions::from_mode(0o700);
        // Short: a socket's path has about a hundred bytes.
        let folder = tempfile::Builder::new()
            .prefix("rk")
            .permissions(private)
            .tempdir()
            .expect("a folder");
        for sub in ["run", "config/rolekeeper", "state"] {
            fs::create_dir_all(folder.path().join(sub)).expect("a folder");
        }
        Self {
            folder,
            secrets: Mutex::default(),
            printed: Mutex::default(),
        }
    }
}

impl Home {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("run/rolekeeper/socket")
    }

    /// A text that must not be printed by anybody, except in a lease.
    pub fn secret(&self, text: &str) {
        self.secrets.lock().expect("unpoisoned").push(text.into());
    }

    /// A file with mode 600.
    pub fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .expect("a file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("it is written");
        path
    }

    /// A copy of a program, made by another process: one that this process had open for writing could not be started
    /// while a child of another thread still holds it.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy_of(&self, program: &Path) -> PathBuf {
        let copy = self
            .path()
            .join(program.file_name().expect("a program has a name"));
        let copied = Command::new("cp")
            .arg(program)
            .arg(&copy)
            .status()
            .expect("cp starts");
        assert!(copied.success());
        copy
    }

    /// The daemon's own record.
    ///
    /// # Panics
    /// When there is none, or more than one.
    pub fn journal(&self) -> PathBuf {
        let files = fs::read_dir(self.path().join("state/rolekeeper")).expect("a folder");
        let mut found = files
            .map(|file| file.expect("a file").path())
            .filter(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("journal-"))
            });
        let journal = found.next().expect("a record");
        assert!(found.next().is_none(), "one record");
        journal
    }

    pub fn config_path(&self) -> PathBuf {
        self.path().join("config/rolekeeper/config.toml")
    }

    pub fn configure(&self, text: &str) {
        self.private_file("config/rolekeeper/config.toml", text);
    }

    /// The sandbox as upstream, a principal's token, and a profile for each of the named roles.
    pub fn configure_for(
        &self,
        sandbox: &SandboxProcess,
        principal: &str,
        profiles: &[(&str, &str)],
    ) {
        let token = sandbox.token_file(self, principal);
        let mut text = format!(
            "[upstream.sandbox]\nkind = \"bycloud\"\nendpoint = \"{}\"\ntoken = {{ file = {token:?} }}\n",
            sandbox.endpoint()
        );
        for (profile, role) in profiles {
            text += &format!(
                "[profile.{profile}]\nupstream = \"sandbox\"\nrole_id = \"{}\"\n",
                sandbox.role(role)
            );
        }
        self.configure(&text);
    }

    /// More lines for the upstream, then for every profile, of what [`Self::configure_for`] wrote.
    ///
    /// # Panics
    /// When it wrote nothing.
    pub fn configure_more(&self, upstream: &str, profiles: &str) {
        let text = fs::read_to_string(self.config_path()).expect("there is a configuration");
        let text = text.replace(
            "kind = \"bycloud\"\n",
            &format!("kind = \"bycloud\"\n{upstream}\n"),
        );
        self.configure(&text.replace(
            "upstream = \"sandbox\"\n",
            &format!("upstream = \"sandbox\"\n{profiles}\n"),
        ));
    }

    /// A program with this home and no other variable of the test's environment, but PATH.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        self.enter(&mut command);
        command
    }

    pub fn enter(&self, command: &mut Command) {
        command.env("HOME", self.path());
        command.env("XDG_RUNTIME_DIR", self.path().join("run"));
        command.env("XDG_CONFIG_HOME", self.path().join("config"));
        command.env("XDG_STATE_HOME", self.path().join("state"));
    }

    pub fn client(&self) -> Command {
        self.command(&programs().rolekeeper)
    }

    /// Runs a command to its end.
    pub fn finish(&self, mut command: Command) -> Run {
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        let run = Run {
            code: code(output.status),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        self.printed(&format!("{command:?}"), &run.stderr);
        // What a lease or the reply to a new credential holds may be on standard output, and from then on nowhere.
        let secrets = serde_json::from_str(&run.stdout)
            .map_or_else(|_| Vec::new(), |reply| secrets_of(&reply));
        if secrets.is_empty() {
            self.printed(&format!("{command:?}"), &run.stdout);
        }
        secrets.iter().for_each(|secret| self.secret(secret));
        run
    }

    /// Runs `rolekeeper` without autostart.
    pub fn rolekeeper(&self, args: &[&str]) -> Run {
        let mut command = self.client();
        command.env("ROLEKEEPER_AUTOSTART", "0").args(args);
        self.finish(command)
    }

    /// Runs `rolekeeperd` to its end.
    pub fn rolekeeperd(&self, args: &[&str]) -> Run {
        let mut command = self.command(&programs().rolekeeperd);
        command.args(args);
        self.finish(command)
    }

    /// Starts the daemon and waits until it serves.
    pub fn daemon(&self, args: &[&str]) -> Daemon<'_> {
        let mut command = self.command(&programs().rolekeeperd);
        command.args(args);
        self.daemon_by(command)
    }

    /// Starts the daemon by a command of the test's own, in this home.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn daemon_by(&self, command: Command) -> Daemon<'_> {
        self.daemon_with(command, Stdio::null())
    }

    /// The same, with something as standard input.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn daemon_with(&self, mut command: Command, stdin: Stdio) -> Daemon<'_> {
        let log = self.path().join("daemon.log");
        let stderr = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log");
        self.enter(&mut command);
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("a line");
        assert!(
            line.contains("\"ready\":true"),
            "{line:?} {:?}",
            fs::read_to_string(&log)
        );
        Daemon {
            child,
            home: self,
            log,
        }
    }

    /// Ends a daemon that a client started and that the test did not come round to stopping.
    fn stop_leftover(&self) {
        let Ok(status) = self
            .client()
            .args(["status", "--json"])
            .stderr(Stdio::null())
            .output()
        else {
            return;
        };
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let pid = status["daemon"]["pid"]
            .as_u64()
            .and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Whatever a program left on disk counts as printed.
    fn read_all(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match fs::read(&path) {
                Ok(bytes) => self.printed(
                    &path.display().to_string(),
                    &String::from_utf8_lossy(&bytes),
                ),
                Err(_) => self.read_all(&path),
            }
        }
    }

    pub(super) fn printed(&self, which: &str, what: &str) {
        self.printed
            .lock()
            .expect("unpoisoned")
            .push((which.into(), what.into()));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.stop_leftover();
        if std::thread::panicking() {
            return;
        }
        for folder in ["run", "state"] {
            self.read_all(&self.path().join(folder));
        }
        let secrets = self.secrets.lock().expect("unpoisoned");
        for (which, what) in self.printed.lock().expect("unpoisoned").iter() {
            assert!(
                !secrets.iter().any(|secret| what.contains(secret)),
                "{which} printed a secret:\n{what}"
            );
        }
    }
}

/// A daemon that runs until it is dropped.
#[derive(Debug)]
pub struct Daemon<'a> {
    child: Child,
    home: &'a Home,
    log: PathBuf,
}

impl Daemon<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it is there");
    }

    /// How often it has begun to serve.
    pub fn starts(&self) -> usize {
        self.log().matches("serving").count()
    }

    /// The program and the configuration that are on disk take over.
    pub fn reload(&self) {
        let before = self.starts();
        self.signal(rustix::process::Signal::HUP);
        super::eventually("it serves again", || (self.starts() > before).then_some(()));
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        code(self.child.wait().expect("it ends"))
    }

    /// Waits for the end of a daemon that was told to stop.
    pub fn wait(&mut self) -> i32 {
        code(self.child.wait().expect("it ends"))
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it ends");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("there is a log")
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.home.printed(
            "the daemon",
            &fs::read_to_string(&self.log).unwrap_or_default(),
        );
    }
}

/// The secrets in a JSON document, by the names that they have in leases and replies.
fn secrets_of(value: &Value) -> Vec<String> {
    const NAMES: [&str; 7] = [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "SecretAccessKey",
        "SessionToken",
        "secret",
        "secret_access_key",
        "session_token",
    ];
    match value {
        Value::Object(fields) => {
            let named = fields
                .iter()
                .filter(|(name, _)| NAMES.contains(&name.as_str()));
            let own = named.filter_map(|(_, value)| value.as_str().map(str::to_owned));
            own.chain(fields.values().flat_map(secrets_of)).collect()
        }
        Value::Array(items) => items.iter().flat_map(secrets_of).collect(),
        _ => Vec::new(),
    }
}

/// The exit code, or the negative signal.
pub(super) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or(0))
}
