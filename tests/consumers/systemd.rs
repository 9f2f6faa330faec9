//! A real systemd as the service manager: its socket, its descriptor store, its reload, by the units in `packaging/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rolekeeper_tests::harness::{Endpoint, Home, SandboxProcess, eventually, programs, world};

/// A systemd that runs until this is dropped.
struct Systemd {
    folder: PathBuf,
}

impl Systemd {
    /// `None` where it cannot be done, which is said.
    fn start(home: &Home, units: &[PathBuf]) -> Option<Self> {
        let started = Self { folder: home.path().join("systemd") };
        let mut arguments = vec![PathBuf::from("start"), started.folder.clone()];
        arguments.extend_from_slice(units);
        let output = script(&arguments);
        if output.status.code() == Some(77) {
            println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        Some(started)
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let mut all = vec![PathBuf::from("ctl"), self.folder.clone()];
        all.extend(arguments.iter().map(PathBuf::from));
        let output = script(&all);
        assert!(output.status.success(), "{arguments:?}: {output:?} {}", self.log());
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
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
    Command::new(script).args(arguments).output().expect("it starts")
}

/// A port that nobody listens on, for the moment.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The units as they are shipped, but for where the program, the sockets and the home are.
fn units(home: &Home) -> Vec<PathBuf> {
    let variables = [("HOME", ""), ("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state")];
    let environment: String = variables
        .iter()
        .map(|(name, folder)| format!("Environment={name}={}\n", home.path().join(folder).display()))
        .collect();
    ["rolekeeperd.service", "rolekeeperd.socket", "rolekeeperd-http.socket"]
        .map(|name| {
            let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(name);
            let text = std::fs::read_to_string(shipped).expect("it is there");
            let program = programs().rolekeeperd.display().to_string();
            let text = text
                .replace("%h/.cargo/bin/rolekeeperd", &program)
                .replace("%t/rolekeeper/socket", &home.socket().display().to_string())
                .replace("127.0.0.1:9911", &format!("127.0.0.1:{}", free_port()))
                .replace("[Service]\n", &format!("[Service]\n{environment}"));
            assert!(text.contains(&program) || text.contains("ListenStream="), "{text}");
            home.private_file(name, &text)
        })
        .to_vec()
}

#[test]
fn systemd_keeps_the_sessions_over_a_kill_a_restart_and_a_reload() {
    let (sandbox, home): (SandboxProcess, Home) = world();
    let Some(systemd) = Systemd::start(&home, &units(&home)) else { return };
    systemd.ctl(&["start", "rolekeeperd.socket"]);
    assert_eq!(systemd.show("MainPID"), "0", "nothing runs before somebody asks");
    let ask = || {
        let run = home.rolekeeper(&["credential-process", "dev"]);
        assert_eq!(run.code, 0, "{run:?} {}", systemd.log());
        run.json()["AccessKeyId"].as_str().expect("a key").to_owned()
    };
    let key = ask();
    let stored = || systemd.show("NFileDescriptorStore");
    eventually("the session is stored", || (stored() == "1").then_some(()));
    // Whatever ends it, the next process serves the same session.
    for how in [["kill", "--signal=KILL"], ["restart", "--no-ask-password"], ["reload", "--no-ask-password"]] {
        let before = (systemd.show("MainPID"), starts(&systemd));
        systemd.ctl(&[how[0], how[1], "rolekeeperd.service"]);
        eventually("it serves again", || (starts(&systemd) > before.1).then_some(()));
        assert_eq!(ask(), key, "after {}", how[0]);
        assert_eq!(systemd.show("MainPID") == before.0, how[0] == "reload", "after {}", how[0]);
        eventually("no more is stored than is needed", || (stored() == "1").then_some(()));
    }
    assert_eq!(sandbox.calls("assumeRole"), 1, "{}", systemd.log());
    systemd.ctl(&["stop", "rolekeeperd.service"]);
    assert!(home.socket().exists(), "the socket is systemd's");
    ask();
    assert_eq!(sandbox.calls("assumeRole"), 2, "a stop ends the sessions here");
}

#[test]
fn who_asks_the_endpoint_starts_the_daemon_by_systemd() {
    let (_sandbox, home): (SandboxProcess, Home) = world();
    let Some(systemd) = Systemd::start(&home, &units(&home)) else { return };
    systemd.ctl(&["start", "rolekeeperd.socket", "rolekeeperd-http.socket"]);
    let http = Endpoint::of(&home, "dev", "http");
    let unit = std::fs::read_to_string(home.path().join("rolekeeperd-http.socket")).expect("the unit");
    assert!(unit.contains(&format!("ListenStream={}\n", http.host)), "{unit} {}", http.host);
    assert_eq!(http.credentials().status, 200);
    for how in [&["stop", "rolekeeperd.service"][..], &["kill", "--signal=KILL", "rolekeeperd.service"]] {
        systemd.ctl(how);
        assert_eq!(http.credentials().status, 200, "{how:?} {}", systemd.log());
    }
}

fn starts(systemd: &Systemd) -> usize {
    systemd.log().matches("serving").count()
}
