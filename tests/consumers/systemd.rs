//! A real systemd runs the units in `packaging/`: socket activation, the file descriptor store, reload and confinement.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rolekeeper_tests::harness::{
    Endpoint, Home, Run, SandboxProcess, eventually, programs, which, world,
};

/// A running systemd. It stops when dropped.
struct Systemd {
    folder: PathBuf,
}

impl Systemd {
    /// # Panics
    /// If this machine cannot run systemd. The message is the one of `tests/consumers/systemd`.
    fn start(home: &Home, units: &[PathBuf]) -> Self {
        let systemd = Self {
            folder: home.path().join("systemd"),
        };

        let mut arguments = vec![PathBuf::from("start"), systemd.folder.clone()];
        arguments.extend_from_slice(units);
        let output = run_script(&arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );

        systemd
    }

    /// Runs `systemctl`, and returns its output.
    fn ctl(&self, arguments: &[&str]) -> String {
        let mut all = vec![PathBuf::from("ctl"), self.folder.clone()];
        all.extend(arguments.iter().map(PathBuf::from));
        let output = run_script(&all);
        assert!(
            output.status.success(),
            "{arguments:?}: {output:?} {}",
            self.log()
        );

        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim()
            .to_owned()
    }

    fn show(&self, property: &str) -> String {
        self.ctl(&["show", "rolekeeperd", "--property", property, "--value"])
    }

    /// The number of descriptors in the file descriptor store.
    fn stored_descriptors(&self) -> String {
        self.show("NFileDescriptorStore")
    }

    /// The log of the services.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The log of systemd itself.
    fn manager_log(&self) -> String {
        std::fs::read_to_string(self.folder.join("manager.log")).unwrap_or_default()
    }

    /// How often the daemon has started or reloaded.
    fn starts(&self) -> usize {
        self.log().matches("serving").count()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        run_script(&["stop".into(), self.folder.clone()]);
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("consumers/systemd")
}

fn run_script(arguments: &[PathBuf]) -> Output {
    Command::new(script())
        .args(arguments)
        .output()
        .expect("the script starts")
}

/// A port without a listener.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");

    listener.local_addr().expect("an address").port()
}

/// A shipped user unit, with the program of this build.
fn shipped_user_unit(name: &str) -> String {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let text = std::fs::read_to_string(shipped.join(name)).expect("a unit");
    let program = programs().rolekeeperd.display().to_string();
    let text = text.replace("%h/.cargo/bin/rolekeeperd", &program);
    assert!(
        text.contains(&program) || text.contains("ListenStream="),
        "{text}"
    );

    text
}

/// The shipped user units, with the paths and the ports of this test.
fn user_units(home: &Home) -> Vec<PathBuf> {
    let variables = [
        ("HOME", ""),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
    ];
    let environment: String = variables
        .iter()
        .map(|(name, folder)| {
            format!(
                "Environment={name}={}\n",
                home.path().join(folder).display()
            )
        })
        .collect();

    [
        "rolekeeperd.service",
        "rolekeeperd.socket",
        "rolekeeperd-http.socket",
    ]
    .map(|name| {
        let text = shipped_user_unit(name)
            .replace("%t/rolekeeper/socket", &home.socket().display().to_string())
            .replace("127.0.0.1:9911", &format!("127.0.0.1:{}", free_port()))
            .replace("[Service]\n", &format!("[Service]\n{environment}"));

        home.private_file(name, &text)
    })
    .to_vec()
}

/// Requests a lease, and returns its access key.
fn request_key(home: &Home, systemd: &Systemd) -> String {
    let run = home.rolekeeper(&["credential-process", "dev"]);
    assert_eq!(run.code, 0, "{run:?} {}", systemd.log());

    let lease = run.json();
    lease["AccessKeyId"].as_str().expect("a key").to_owned()
}

#[test]
#[ignore = "needs root, systemd and cgroup2"]
fn sessions_survive_kill_restart_and_reload_under_systemd() {
    let (sandbox, home): (SandboxProcess, Home) = world();
    let systemd = Systemd::start(&home, &user_units(&home));
    systemd.ctl(&["start", "rolekeeperd.socket"]);
    assert_eq!(
        systemd.show("MainPID"),
        "0",
        "the daemon starts with the first request"
    );

    let key = request_key(&home, &systemd);
    eventually("the session is stored", || {
        (systemd.stored_descriptors() == "1").then_some(())
    });

    for [verb, option] in [
        ["kill", "--signal=KILL"],
        ["restart", "--no-ask-password"],
        ["reload", "--no-ask-password"],
    ] {
        let pid = systemd.show("MainPID");
        let starts = systemd.starts();
        systemd.ctl(&[verb, option, "rolekeeperd.service"]);
        eventually("the daemon serves again", || {
            (systemd.starts() > starts).then_some(())
        });

        assert_eq!(request_key(&home, &systemd), key, "after {verb}");
        assert_eq!(
            systemd.show("MainPID") == pid,
            verb == "reload",
            "after {verb}"
        );
        eventually("one descriptor is stored", || {
            (systemd.stored_descriptors() == "1").then_some(())
        });
    }
    assert_eq!(sandbox.calls("assumeRole"), 1, "{}", systemd.log());

    systemd.ctl(&["stop", "rolekeeperd.service"]);
    assert!(home.socket().exists(), "systemd owns the socket");
    request_key(&home, &systemd);
    assert_eq!(
        sandbox.calls("assumeRole"),
        2,
        "the sessions do not survive a stop"
    );
}

#[test]
#[ignore = "needs root, systemd and cgroup2"]
fn http_request_starts_the_daemon_by_socket_activation() {
    let (_sandbox, home): (SandboxProcess, Home) = world();
    let systemd = Systemd::start(&home, &user_units(&home));
    systemd.ctl(&["start", "rolekeeperd.socket", "rolekeeperd-http.socket"]);

    let http = Endpoint::of(&home, "dev", "http");
    let unit = std::fs::read_to_string(home.path().join("rolekeeperd-http.socket"))
        .expect("the unit of the endpoint");
    assert!(
        unit.contains(&format!("ListenStream={}\n", http.host)),
        "{unit} {}",
        http.host
    );
    assert_eq!(http.credentials().status, 200);

    for arguments in [
        &["stop", "rolekeeperd.service"][..],
        &["kill", "--signal=KILL", "rolekeeperd.service"],
    ] {
        systemd.ctl(arguments);
        assert_eq!(
            http.credentials().status,
            200,
            "{arguments:?} {}",
            systemd.log()
        );
    }
}

/// The user who runs the clients. The service runs as another user.
const CLIENT_USER: u32 = 64_123;

/// A folder outside of the home, which is removed when dropped.
struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The shipped system unit, with the paths and the user of this test.
#[test]
#[ignore = "needs root, systemd and cgroup2"]
fn system_unit_confines_the_daemon_and_serves_other_users() {
    let (sandbox, home): (SandboxProcess, Home) = world();
    let name = format!("rolekeeper-test-{}", std::process::id());
    // Not in the home: `PrivateTmp` hides it from the service.
    let folder = TemporaryFolder(Path::new("/opt").join(&name));
    let daemon = folder.0.join("rolekeeperd");
    let timeout = folder.0.join("timeout");

    configure_for_system_unit(&home, &timeout);
    let units = system_units(&home, &daemon, &name);
    let systemd = Systemd::start(&home, &units);

    // The programs belong to root, as they do when installed. Other users can read and run them.
    std::fs::create_dir(&folder.0).expect("a folder");
    copy(&programs().rolekeeperd, &daemon);
    copy(&which("timeout"), &timeout);
    for shared in [home.path().to_owned(), home.path().join("run")] {
        std::fs::set_permissions(shared, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("the folder is ours");
    }
    let state = TemporaryFolder(Path::new("/var/lib").join(&name));
    systemd.ctl(&["start", "rolekeeperd.socket"]);

    let client = home.copy_of(&programs().rolekeeper);
    let allowed = request_as_client_user(&home, &systemd, &[&timeout, Path::new("60"), &client]);
    assert_eq!(
        allowed.code,
        0,
        "{allowed:?} {} {}",
        systemd.log(),
        systemd.manager_log()
    );

    // The peer inspector identifies programs of other users, which needs a capability.
    let env = Path::new("/usr/bin/env");
    let refused = request_as_client_user(&home, &systemd, &[env, &client]);
    assert!(
        refused.code == 4 && refused.stderr.contains("profile dev does not allow"),
        "{refused:?}"
    );
    assert_eq!(sandbox.calls("assumeRole"), 1);

    assert_is_confined(&systemd.log(), &daemon);
    drop(state);
}

/// Configures the token as a systemd credential, and the clients that profile `dev` allows.
fn configure_for_system_unit(home: &Home, allowed_program: &Path) {
    let text = std::fs::read_to_string(home.config_path()).expect("a configuration");
    let (before, rest) = text.split_once("token = ").expect("a token");
    let (_, after) = rest.split_once('\n').expect("a line");
    let callers = format!("users = [{CLIENT_USER}]\ncallers = [{{ exe = {allowed_program:?} }}]\n");

    home.configure(&format!(
        "{before}token = {{ systemd_credential = \"token\" }}\n{after}{callers}"
    ));
}

fn system_units(home: &Home, daemon: &Path, state_folder: &str) -> [PathBuf; 2] {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/system");
    let token = home.path().join("dev.token");

    ["rolekeeperd.service", "rolekeeperd.socket"].map(|name| {
        let text = std::fs::read_to_string(shipped.join(name))
            .expect("a unit")
            .replace("User=rolekeeper\n", "User=nobody\n")
            .replace("/usr/bin/rolekeeperd", &daemon.display().to_string())
            .replace(
                "/etc/rolekeeper/config.toml\n",
                &format!(
                    "{}\nLoadCredential=token:{}\n",
                    home.config_path().display(),
                    token.display()
                ),
            )
            .replace(
                "StateDirectory=rolekeeper",
                &format!("StateDirectory={state_folder}/rolekeeper"),
            )
            .replace(
                "XDG_STATE_HOME=%S",
                &format!("XDG_STATE_HOME=%S/{state_folder}"),
            )
            // This systemd runs in namespaces in which it cannot create devices.
            .replace("PrivateDevices=yes\n", "")
            .replace(" network-online.target\nWants=network-online.target", "")
            .replace(
                "/run/rolekeeper/socket",
                &home.socket().display().to_string(),
            );

        home.private_file(name, &text)
    })
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg(from)
        .arg(to)
        .status()
        .expect("cp starts");
    assert!(status.success());
}

/// Runs `COMMAND credential-process dev` as another user than the service's.
fn request_as_client_user(home: &Home, systemd: &Systemd, command: &[&Path]) -> Run {
    let mut run = Command::new(script());
    run.args([Path::new("run"), &systemd.folder, Path::new("setpriv")])
        .arg(format!("--reuid={CLIENT_USER}"))
        .arg(format!("--regid={CLIENT_USER}"))
        .arg("--clear-groups")
        .args(command)
        .args(["credential-process", "dev"])
        .env("ROLEKEEPER_SOCKET", home.socket());

    home.run(run)
}

/// The daemon has dropped its capabilities, and the peer inspector has `CAP_SYS_PTRACE` only. Both have seccomp filters.
fn assert_is_confined(log: &str, daemon: &Path) {
    for warning in [
        "cannot drop capabilities",
        "Landlock is off",
        "seccomp is off",
        "cannot write the journal",
    ] {
        assert!(!log.contains(warning), "{log}");
    }

    let processes = statuses_of(daemon);
    let capabilities: Vec<_> = processes
        .iter()
        .map(|status| field(status, "CapEff:"))
        .collect();
    assert_eq!(capabilities.len(), 2, "{processes:?}");
    assert!(
        capabilities.contains(&"0000000000000000") && capabilities.contains(&"0000000000080000"),
        "{capabilities:?}"
    );
    assert!(
        processes
            .iter()
            .all(|status| field(status, "NoNewPrivs:") == "1" && field(status, "Seccomp:") == "2")
    );
}

/// `/proc/PID/status` of each process that runs the program.
fn statuses_of(program: &Path) -> Vec<String> {
    std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
        .map(|entry| entry.path())
        .filter(|process| std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program))
        .map(|process| std::fs::read_to_string(process.join("status")).unwrap_or_default())
        .collect()
}

/// The value of a field in `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default()
        .trim()
}

#[test]
#[ignore = "needs systemd"]
fn system_unit_has_exposure_level_of_two_at_most() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging/systemd/system/rolekeeperd.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&unit)
        .output()
        .expect("systemd-analyze is installed");

    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .unwrap_or_else(|| panic!("{output:?}"));
    let level: f64 = line
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("a number");
    assert!(level <= 2.0, "{line}");
}

/// The units of the user, and a service that is the user's manager.
fn install_for_user_manager(home: &Home) -> PathBuf {
    let folder = home.path().join("config/systemd/user");
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["rolekeeperd.service", "rolekeeperd.socket"] {
        std::fs::write(folder.join(name), shipped_user_unit(name)).expect("a unit");
    }

    let path = home.path().display();
    home.private_file(
        "user-manager.service",
        &format!(
            "[Service]\nType=notify\nDelegate=yes\nExecStart=/lib/systemd/systemd --user --unit=basic.target\n\
             Environment=HOME={path} XDG_RUNTIME_DIR={path}/run XDG_CONFIG_HOME={path}/config \
             XDG_STATE_HOME={path}/state\n"
        ),
    )
}

#[test]
#[ignore = "needs root, systemd and cgroup2"]
fn client_leaves_the_start_to_the_manager_of_the_user() {
    let (sandbox, home): (SandboxProcess, Home) = world();
    let manager = install_for_user_manager(&home);
    let systemd = Systemd::start(&home, &[manager]);
    systemd.ctl(&["start", "user-manager.service"]);

    let client = |args: &[&str]| {
        let mut run = Command::new(script());
        run.args([Path::new("run"), &systemd.folder, &programs().rolekeeper])
            .args(args);
        home.set_env(&mut run);
        home.run(run)
    };

    let first = client(&["credential-process", "dev"]);
    assert_eq!(
        first.code,
        0,
        "{first:?} {} {}",
        systemd.log(),
        systemd.manager_log()
    );
    let status = client(&["status", "--json"]).json();
    assert_eq!(status["daemon"]["started_by"], "service manager");

    // A process with another environment reaches the same daemon.
    let mut cron = Command::new(script());
    cron.args([Path::new("run"), &systemd.folder, &programs().rolekeeper])
        .args(["credential-process", "dev"])
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path().join("run"))
        .env("XDG_CONFIG_HOME", "/nonexistent");
    assert_eq!(
        home.run(cron).json()["AccessKeyId"],
        first.json()["AccessKeyId"]
    );
    assert_eq!(sandbox.calls("assumeRole"), 1);
}
