//! A desktop as far as rolekeeper sees one: a real D-Bus, on which this test is logind and the notification server.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};

use rolekeeper_tests::harness::{Daemon, Home, SandboxProcess, eventually, programs, which};
use tokio::runtime::Runtime;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedValue;
use zbus::{Connection, interface};

use crate::bus::Bus;

/// What the notification server was asked to show: title and body.
type Shown = (String, String);

struct Manager(Sender<OwnedFd>);

#[interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    /// The caller holds up the machine's sleep until it closes what it gets.
    fn inhibit(&self, what: &str, _who: &str, _why: &str, mode: &str) -> zbus::zvariant::OwnedFd {
        assert_eq!((what, mode), ("sleep", "delay"));
        let (ours, theirs) = std::io::pipe().expect("a pipe");
        self.0.send(ours.into()).expect("the test runs");
        OwnedFd::from(theirs).into()
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, begins: bool) -> zbus::Result<()>;
}

/// Somebody's login.
struct Login(u32, bool);

#[interface(name = "org.freedesktop.login1.Session")]
impl Login {
    #[zbus(property)]
    fn user(&self) -> (u32, zbus::zvariant::OwnedObjectPath) {
        (
            self.0,
            "/org/freedesktop/login1/user/_0"
                .try_into()
                .expect("a path"),
        )
    }

    #[zbus(property)]
    fn locked_hint(&self) -> bool {
        self.1
    }

    #[zbus(signal)]
    async fn lock(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}

struct Notifications(Sender<Shown>);

#[interface(name = "org.freedesktop.Notifications")]
impl Notifications {
    #[allow(
        clippy::too_many_arguments,
        clippy::needless_pass_by_value,
        reason = "that is the interface"
    )]
    fn notify(
        &self,
        _app: &str,
        _replaces: u32,
        _icon: &str,
        summary: String,
        body: String,
        actions: Vec<String>,
        _hints: HashMap<String, OwnedValue>,
        _timeout: i32,
    ) -> u32 {
        self.0.send((summary, body)).expect("the test runs");
        if actions.is_empty() { 1 } else { 2 }
    }

    fn close_notification(&self, _id: u32) {}

    #[zbus(signal)]
    async fn action_invoked(emitter: &SignalEmitter<'_>, id: u32, action: &str)
    -> zbus::Result<()>;
}

struct Desktop {
    bus: Bus,
    runtime: Runtime,
    connection: Connection,
    delays: Receiver<OwnedFd>,
    shown: Receiver<Shown>,
}

const NOTIFICATIONS: &str = "/org/freedesktop/Notifications";
const PATH: &str = "/org/freedesktop/login1";
const MINE: &str = "/org/freedesktop/login1/session/mine";
const ANOTHERS: &str = "/org/freedesktop/login1/session/anothers";

impl Desktop {
    fn start(home: &Home) -> Self {
        let bus = Bus::start(home.path());
        let runtime = Runtime::new().expect("a runtime");
        let ((delay, delays), (show, shown)) = (mpsc::channel(), mpsc::channel());
        let me = rustix::process::geteuid().as_raw();
        let connection = runtime.block_on(async {
            zbus::connection::Builder::address(bus.address.as_str())?
                .serve_at(PATH, Manager(delay))?
                .serve_at(MINE, Login(me, false))?
                .serve_at(ANOTHERS, Login(me + 1, false))?
                .serve_at(NOTIFICATIONS, Notifications(show))?
                .name("org.freedesktop.login1")?
                .name("org.freedesktop.Notifications")?
                .build()
                .await
        });
        let connection = connection.expect("the bus serves");
        Self {
            bus,
            runtime,
            connection,
            delays,
            shown,
        }
    }

    fn daemon<'a>(&self, home: &'a Home) -> Daemon<'a> {
        let mut command = home.command(&programs().rolekeeperd);
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus.address)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);
        home.daemon_from(command)
    }

    fn sleep(&self, begins: bool) {
        self.emit(PATH, async |emitter| {
            Manager::prepare_for_sleep(emitter, begins).await
        });
    }

    fn lock(&self, login: &str) {
        self.emit(login, async |emitter| Login::lock(emitter).await);
    }

    /// As a desktop does that locks the screen by itself.
    fn say_locked(&self, login: &str) {
        self.runtime.block_on(async {
            let login = self
                .connection
                .object_server()
                .interface::<_, Login>(login)
                .await
                .expect("it is served");
            login.get_mut().await.1 = true;
            login
                .get()
                .await
                .locked_hint_changed(login.signal_emitter())
                .await
                .expect("it is sent");
        });
    }

    /// As a person does who clicks on a button.
    fn choose(&self, action: &str) {
        self.emit(NOTIFICATIONS, async |emitter| {
            Notifications::action_invoked(emitter, 2, action).await
        });
    }

    fn emit(&self, path: &str, signal: impl AsyncFnOnce(&SignalEmitter<'_>) -> zbus::Result<()>) {
        self.runtime.block_on(async {
            let emitter = SignalEmitter::new(&self.connection, path).expect("a path");
            signal(&emitter).await.expect("it is sent");
        });
    }
}

fn world(profiles: &str) -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("ci", "S3BucketAccess")],
    );
    home.configure_more("check_every = \"1s\"", profiles);
    (sandbox, home)
}

fn sessions(home: &Home) -> Vec<String> {
    for profile in ["ci", "dev"] {
        home.rolekeeper(&["credential-process", profile]).json();
    }
    let status = home.rolekeeper(&["status", "--json"]).json();
    let profiles = status["profiles"].as_array().expect("a list").iter();
    profiles
        .map(|profile| profile["session"]["id"].as_str().expect("an id").to_owned())
        .collect()
}

fn at_the_cloud(sandbox: &SandboxProcess, id: &str) -> String {
    let session = sandbox
        .api(
            sandbox.token("admin"),
            "GET",
            &format!("/sts/sessions/{id}"),
            None,
        )
        .1;
    session["status"].as_str().expect("a status").to_owned()
}

#[test]
fn whoever_sits_there_is_shown_who_revoked_what_and_how_to_go_on() {
    let (sandbox, home) = world("");
    let desktop = Desktop::start(&home);
    let _daemon = desktop.daemon(&home);
    for id in sessions(&home) {
        let path = format!("/sts/sessions/{id}?reason=lost%20laptop");
        assert_eq!(
            sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
            204
        );
    }
    // Both at once, unless a look fell between them.
    let mut bodies = String::new();
    while !["ci: session", "dev: session"]
        .iter()
        .all(|profile| bodies.contains(profile))
    {
        let (title, body) = desktop.shown.recv().expect("it is shown");
        assert!(title.starts_with("Credentials of "), "{title}");
        bodies += &body;
    }
    for words in [
        "by user/admin@example.test",
        "reason: lost laptop",
        "rolekeeper resume dev",
    ] {
        assert!(bodies.contains(words), "{bodies}");
    }
    home.rolekeeper(&["resume", "dev"]);
    home.rolekeeper(&["credential-process", "dev"]).json();
    home.rolekeeper(&["logout", "dev"]);
    assert!(
        desktop.shown.try_recv().is_err(),
        "nobody is told what they did themselves"
    );
}

#[test]
fn a_locked_screen_ends_sessions_and_somebody_elses_does_not() {
    for by_itself in [false, true] {
        let (sandbox, home) = world("revoke_on = [\"lock\"]");
        let desktop = Desktop::start(&home);
        let daemon = desktop.daemon(&home);
        eventually("it listens", || {
            daemon
                .log()
                .contains("locks and sleeps are noticed")
                .then_some(())
        });
        let ids = sessions(&home);
        desktop.lock(ANOTHERS);
        desktop.say_locked(ANOTHERS);
        let lock = if by_itself {
            Desktop::say_locked
        } else {
            Desktop::lock
        };
        lock(&desktop, MINE);
        for id in &ids {
            eventually("it is revoked", || {
                (at_the_cloud(&sandbox, id) == "revoked").then_some(())
            });
        }
        assert_eq!(
            daemon.log().matches("cause=Locked").count(),
            2,
            "one for each profile: {}",
            daemon.log()
        );
        assert_ne!(sessions(&home), ids, "whoever is back gets others");
    }
}

#[test]
fn a_machine_sleeps_only_once_its_sessions_are_revoked() {
    let (sandbox, home) = world("revoke_on = [\"sleep\"]");
    let desktop = Desktop::start(&home);
    let _daemon = desktop.daemon(&home);
    let delay = desktop.delays.recv().expect("it puts off sleep");
    let ids = sessions(&home);
    let slow = serde_json::json!({ "method": "revokeSTSSession", "fault": { "kind": "delay", "ms": 500 } });
    sandbox.control("POST", "/faults", Some(slow));
    desktop.sleep(true);
    // It is closed there.
    std::fs::File::from(delay)
        .read_to_end(&mut Vec::new())
        .expect("it can be read");
    for id in &ids {
        assert_eq!(at_the_cloud(&sandbox, id), "revoked");
    }
    desktop.sleep(false);
    drop(desktop.delays.recv().expect("it puts off the next one"));
}

#[test]
fn who_asks_for_credentials_is_shown_and_a_button_answers() {
    let (_sandbox, home) = world("confirm = \"first\"");
    let desktop = Desktop::start(&home);
    let _daemon = desktop.daemon(&home);
    let asked = |answer: &dyn Fn(), program: &str| {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut command = home.command(std::path::Path::new(program));
                command
                    .arg("100")
                    .arg(&programs().rolekeeper)
                    .args(["credential-process", "dev"]);
                home.run(command)
            });
            let (title, body) = desktop.shown.recv().expect("it is shown");
            assert_eq!(title, "Give credentials of dev?");
            assert!(
                body.contains("timeout (process ") && body.contains("asks for them"),
                "{body}"
            );
            answer();
            asking.join().expect("it ends")
        })
    };
    let refused = asked(&|| desktop.choose("refuse"), "timeout");
    assert!(
        refused.code == 4 && refused.stderr.contains("requires approval: denied"),
        "{refused:?}"
    );
    // The same program by another name is another program, whose question is not answered by others on the bus.
    let copy = home.copy_of(&which("timeout"));
    let impostor = || {
        desktop
            .runtime
            .block_on(async {
                let stranger = zbus::connection::Builder::address(desktop.bus.address.as_str())?
                    .build()
                    .await?;
                let body = (2_u32, "allow");
                stranger
                    .emit_signal(
                        None::<&str>,
                        NOTIFICATIONS,
                        "org.freedesktop.Notifications",
                        "ActionInvoked",
                        &body,
                    )
                    .await
            })
            .expect("it is sent");
        desktop.choose("refuse");
    };
    let refused = asked(&impostor, copy.to_str().expect("UTF-8"));
    assert!(
        refused.code == 4 && refused.stderr.contains("requires approval: denied"),
        "{refused:?}"
    );
    let other = home.path().join("another");
    std::fs::create_dir(&other).expect("a folder");
    assert!(
        std::process::Command::new("cp")
            .arg(&copy)
            .arg(&other)
            .status()
            .expect("cp starts")
            .success()
    );
    let allowed = asked(
        &|| desktop.choose("allow"),
        other.join("timeout").to_str().expect("UTF-8"),
    );
    assert_eq!(allowed.code, 0, "{allowed:?}");
}
