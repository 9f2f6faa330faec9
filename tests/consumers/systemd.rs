//! A real systemd as the service manager: its socket, its descriptor store, its reload, by the units in `packaging/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rolekeeper_tests::harness::{
    Endpoint, Home, SandboxProcess, eventually, programs, which, world,
};

/// A systemd that runs until this is dropped.
struct Systemd {
    folder: PathBuf,
}

impl Systemd {
    /// # Panics
    /// When this machine cannot run it: `tests/consumers/systemd` says what is missing.
    fn start(home: &Home, units: &[PathBuf]) -> Self {
        let started = Self {
            folder: home.path().join("systemd"),
        };
        let mut arguments = vec![PathBuf::from("start"), started.folder.clone()];
        arguments.extend_from_slice(units);
        let output = script(&arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );

        started
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let mut all = vec![PathBuf::from("ctl"), self.folder.clone()];
        all.extend(arguments.iter().map(PathBuf::from));
        let output = script(&all);
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

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        script(&["stop".into(), self.folder.clone()]);
    }
}

fn script(arguments: &[PathBuf]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("consumers/systemd");
    Command::new(script)
        .args(arguments)
        .output()
        .expect("it starts")
}

/// A port that nobody listens on, for the moment.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The units as they are shipped, but for where the program, the sockets and the home are.
fn units(home: &Home) -> Vec<PathBuf> {
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
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../packaging/systemd")
            .join(name);
        let text = std::fs::read_to_string(shipped).expect("it is there");
        let program = programs().rolekeeperd.display().to_string();
        let text = text
            .replace("%h/.cargo/bin/rolekeeperd", &program)
            .replace("%t/rolekeeper/socket", &home.socket().display().to_string())
            .replace("127.0.0.1:9911", &format!("127.0.0.1:{}", free_port()))
            .replace("[Service]\n", &format!("[Service]\n{environment}"));
        assert!(
            text.contains(&program) || text.contains("ListenStream="),
            "{text}"
        );
        home.private_file(name, &text)
    })
    .to_vec()
}

#[test]
#[ignore = "needs root, systemd and cgroup2"]
fn systemd_keeps_the_sessions_over_a_kill_a_restart_and_a_reload() {
    let (sandbox, home): (SandboxProcess, Home) = world();
    let systemd = Systemd::start(&home, &units(&home));
    systemd.ctl(&["start", "rolekeeperd.socket"]);
    assert_eq!(
        systemd.show("MainPID"),
        "0",
        "nothing runs before somebody asks"
    );
    let ask = || {
        let run = home.rolekeeper(&["credential-process", "dev"]);
        assert_eq!(run.code, 0, "{run:?} {}", systemd.log());
        run.json()["AccessKeyId"]
            .as_str()
            .expect("a key")
            .to_owned()
    };
    let key = ask();
    let stored = || systemd.show("NFileDescriptorStore");
    eventually("the session is stored", || (stored() == "1").then_some(()));
    // Whatever ends it, the next process serves the same session.
    for how in [
        ["kill", "--signal=KILL"],
        ["restart", "--no-ask-password"],
        ["reload", "--no-ask-password"],
    ] {
        let before = (systemd.show("MainPID"), starts(&systemd));
        systemd.ctl(&[how[0], how[1], "rolekeeperd.service"]);
        eventually("it serves again", || {
            (starts(&systemd) > before.1).then_some(())
        });
        assert_eq!(ask(), key, "after {}", how[0]);
        assert_eq!(
            systemd.show("MainPID") == before.0,
            how[0] == "reload",
            "after {}",
            how[0]
        );
        eventually("no more is stored than is needed", || {
            (stored() == "1").then_some(())
        });
    }
    assert_eq!(sandbox.calls("assumeRole"), 1, "{}", systemd.log());
    systemd.ctl(&["stop", "rolekeeperd.service"]);
    assert!(home.socket().exists(), "the socket is systemd's");
    ask();
    assert_eq!(
        sandbox.calls("assumeRole"),
        2,
        "a stop ends the sessions here"
    );
}

#[test]
#[ignore = "needs root, systemd and cgroup2"]
fn who_asks_the_endpoint_starts_the_daemon_by_systemd() {
    let (_sandbox, home): (SandboxProcess, Home) = world();
    let systemd = Systemd::start(&home, &units(&home));
    systemd.ctl(&["start", "rolekeeperd.socket", "rolekeeperd-http.socket"]);
    let http = Endpoint::of(&home, "dev", "http");
    let unit =
        std::fs::read_to_string(home.path().join("rolekeeperd-http.socket")).expect("the unit");
    assert!(
        unit.contains(&format!("ListenStream={}\n", http.host)),
        "{unit} {}",
        http.host
    );
    assert_eq!(http.credentials().status, 200);
    for how in [
        &["stop", "rolekeeperd.service"][..],
        &["kill", "--signal=KILL", "rolekeeperd.service"],
    ] {
        systemd.ctl(how);
        assert_eq!(http.credentials().status, 200, "{how:?} {}", systemd.log());
    }
}

fn starts(systemd: &Systemd) -> usize {
    systemd.log().matches("serving").count()
}

/// The unit for a whole machine as it is shipped, but for where things are and whose the service is: systemd's own score of
/// it, and it at work.
#[test]
#[ignore = "needs root, systemd and cgroup2"]
fn the_machines_unit_is_as_closed_as_it_can_be_and_serves() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/system");
    let (sandbox, home): (SandboxProcess, Home) = world();
    let folder = Outside(PathBuf::from(format!(
        "/opt/rolekeeper-test-{}",
        std::process::id()
    )));
    let program = folder.0.join("rolekeeperd");
    let state = format!("rolekeeper-test-{}", std::process::id());
    let text = std::fs::read_to_string(home.config_path()).expect("a configuration");
    let (before, rest) = text.split_once("token = ").expect("a token");
    let after = rest.split_once('\n').expect("a line").1;
    let timeout = folder.0.join("timeout");
    let callers = format!("users = [{USER}]\ncallers = [{{ exe = {timeout:?} }}]\n");
    home.configure(&format!(
        "{before}token = {{ systemd_credential = \"token\" }}\n{after}{callers}"
    ));
    let token = home.path().join("dev.token");
    let units = ["rolekeeperd.service", "rolekeeperd.socket"].map(|name| {
        let text = std::fs::read_to_string(shipped.join(name)).expect("it is there");
        let text = text
            .replace("User=rolekeeper\n", "User=nobody\n")
            .replace("/usr/bin/rolekeeperd", &program.display().to_string())
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
                &format!("StateDirectory={state}/rolekeeper"),
            )
            .replace("XDG_STATE_HOME=%S", &format!("XDG_STATE_HOME=%S/{state}"))
            // No device can be made in the namespaces that this systemd runs in.
            .replace("PrivateDevices=yes\n", "")
            .replace(" network-online.target\nWants=network-online.target", "")
            .replace(
                "/run/rolekeeper/socket",
                &home.socket().display().to_string(),
            );
        home.private_file(name, &text)
    });
    let systemd = Systemd::start(&home, &units);
    // Root's, as these are on a machine; others look at them, and run what is in there.
    std::fs::create_dir(&folder.0).expect("a folder");
    for (from, to) in [
        (&programs().rolekeeperd, &program),
        (&which("timeout"), &timeout),
    ] {
        assert!(
            Command::new("cp")
                .arg(from)
                .arg(to)
                .status()
                .expect("cp starts")
                .success()
        );
    }
    for open in [home.path().to_owned(), home.path().join("run")] {
        std::fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("it is ours");
    }
    let state = Outside(Path::new("/var/lib").join(state));
    systemd.ctl(&["start", "rolekeeperd.socket"]);
    let client = home.copy_of(&programs().rolekeeper);
    let by = |program: &Path, arguments: &[&str]| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("consumers/systemd");
        let mut command = Command::new(script);
        let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
        command
            .args([Path::new("run"), &systemd.folder, Path::new("setpriv")])
            .args([&user, &group, "--clear-groups"]);
        command
            .arg(program)
            .args(arguments)
            .arg(&client)
            .args(["credential-process", "dev"]);
        command.env("ROLEKEEPER_SOCKET", home.socket());
        home.run(command)
    };
    let allowed = by(&timeout, &["60"]);
    assert_eq!(
        allowed.code,
        0,
        "{allowed:?} {} {}",
        systemd.log(),
        std::fs::read_to_string(home.path().join("systemd/manager.log")).unwrap_or_default()
    );
    // Another user's process is told from others, which takes more than this user's rights.
    let refused = by(Path::new("/usr/bin/env"), &[]);
    assert!(
        refused.code == 4 && refused.stderr.contains("profile dev does not allow"),
        "{refused:?}"
    );
    assert_eq!(sandbox.calls("assumeRole"), 1);
    // Which the daemon itself has given up, and the lookout kept.
    let log = systemd.log();
    for bad in [
        "is not confined",
        "capabilities are kept",
        "the journal is in memory only",
    ] {
        assert!(!log.contains(bad), "{log}");
    }
    let processes = processes_of(&folder.0.join("rolekeeperd"));
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
    drop(state);
}

/// Another user of the machine than the service's.
const USER: u32 = 64_123;

/// A folder outside of the home, which a service's own temporary folder would hide.
struct Outside(PathBuf);

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `/proc` says of the processes that run a program.
fn processes_of(program: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/proc")
        .expect("it is there")
        .flatten()
        .map(|entry| entry.path());
    let runs =
        |process: &PathBuf| std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program);
    all.filter(runs)
        .map(|process| std::fs::read_to_string(process.join("status")).unwrap_or_default())
        .collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default()
        .trim()
}

#[test]
#[ignore = "needs systemd"]
fn systemd_itself_finds_the_machines_unit_well_closed() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging/systemd/system/rolekeeperd.service");
    let mut command = Command::new("systemd-analyze");
    let output = command
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&shipped)
        .output()
        .expect("systemd-analyze is installed");

    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .unwrap_or_else(|| panic!("{output:?}"));
    let score: f64 = line
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("a number");
    assert!(score <= 2.0, "{line}");
}
