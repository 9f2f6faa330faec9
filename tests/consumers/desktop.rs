//! The desktop features, on a real D-Bus. The test acts as logind and as the notification server.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};

use rolekeeper_tests::harness::{Daemon, Home, Run, SandboxProcess, eventually, programs, which};
use tokio::runtime::Runtime;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::OwnedValue;
use zbus::{Connection, interface};

use crate::bus::Bus;

/// The title and the body of a notification.
type ShownNotification = (String, String);

/// logind's manager. It sends its end of each inhibitor lock to the test.
struct Manager {
    locks: Sender<OwnedFd>,
}

#[interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    /// Gives the caller an inhibitor lock. It delays the suspend until the caller closes it.
    fn inhibit(&self, what: &str, _who: &str, _why: &str, mode: &str) -> zbus::zvariant::OwnedFd {
        assert_eq!((what, mode), ("sleep", "delay"));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        self.locks.send(reader.into()).expect("the test runs");

        OwnedFd::from(writer).into()
    }

    #[zbus(signal)]
    async fn prepare_for_sleep(emitter: &SignalEmitter<'_>, start: bool) -> zbus::Result<()>;
}

/// A login session of logind.
struct LoginSession {
    uid: u32,
    is_locked: bool,
}

impl LoginSession {
    fn of(uid: u32) -> Self {
        Self {
            uid,
            is_locked: false,
        }
    }
}

#[interface(name = "org.freedesktop.login1.Session")]
impl LoginSession {
    #[zbus(property)]
    fn user(&self) -> (u32, zbus::zvariant::OwnedObjectPath) {
        (
            self.uid,
            "/org/freedesktop/login1/user/_0"
                .try_into()
                .expect("a path"),
        )
    }

    #[zbus(property)]
    fn locked_hint(&self) -> bool {
        self.is_locked
    }

    #[zbus(signal)]
    async fn lock(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}

/// The notification server. It sends each notification to the test.
struct Notifications {
    shown: Sender<ShownNotification>,
}

/// The id of every notification that has buttons.
const DIALOG_ID: u32 = 2;

#[interface(name = "org.freedesktop.Notifications")]
impl Notifications {
    #[allow(
        clippy::too_many_arguments,
        clippy::needless_pass_by_value,
        reason = "the D-Bus interface has this signature"
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
        self.shown.send((summary, body)).expect("the test runs");

        if actions.is_empty() { 1 } else { DIALOG_ID }
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
    locks: Receiver<OwnedFd>,
    shown: Receiver<ShownNotification>,
}

const NOTIFICATIONS: &str = "/org/freedesktop/Notifications";
const LOGIND: &str = "/org/freedesktop/login1";
const OWN_SESSION: &str = "/org/freedesktop/login1/session/own";
const OTHER_USERS_SESSION: &str = "/org/freedesktop/login1/session/other";

impl Desktop {
    fn start(home: &Home) -> Self {
        let bus = Bus::start(home.path());
        let runtime = Runtime::new().expect("a runtime");
        let (lock_sender, locks) = mpsc::channel();
        let (notification_sender, shown) = mpsc::channel();
        let uid = rustix::process::geteuid().as_raw();

        let manager = Manager { locks: lock_sender };
        let notifications = Notifications {
            shown: notification_sender,
        };
        let connection = runtime.block_on(async {
            zbus::connection::Builder::address(bus.address.as_str())?
                .serve_at(LOGIND, manager)?
                .serve_at(OWN_SESSION, LoginSession::of(uid))?
                .serve_at(OTHER_USERS_SESSION, LoginSession::of(uid + 1))?
                .serve_at(NOTIFICATIONS, notifications)?
                .name("org.freedesktop.login1")?
                .name("org.freedesktop.Notifications")?
                .build()
                .await
        });
        let connection = connection.expect("the bus accepts");

        Self {
            bus,
            runtime,
            connection,
            locks,
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

    /// Announces the start or the end of a suspend.
    fn prepare_for_sleep(&self, start: bool) {
        self.emit(LOGIND, async |emitter| {
            Manager::prepare_for_sleep(emitter, start).await
        });
    }

    /// Sends the `Lock` signal, as `loginctl lock-session` does.
    fn lock(&self, session: &str) {
        self.emit(session, async |emitter| LoginSession::lock(emitter).await);
    }

    /// Sets `LockedHint`, as a desktop does that locks the screen itself.
    fn set_locked_hint(&self, session: &str) {
        self.runtime.block_on(async {
            let session = self
                .connection
                .object_server()
                .interface::<_, LoginSession>(session)
                .await
                .expect("the session is served");
            session.get_mut().await.is_locked = true;

            session
                .get()
                .await
                .locked_hint_changed(session.signal_emitter())
                .await
                .expect("the signal is sent");
        });
    }

    /// Presses a button of the dialog.
    fn press(&self, action: &str) {
        self.emit(NOTIFICATIONS, async |emitter| {
            Notifications::action_invoked(emitter, DIALOG_ID, action).await
        });
    }

    fn emit(&self, path: &str, signal: impl AsyncFnOnce(&SignalEmitter<'_>) -> zbus::Result<()>) {
        self.runtime.block_on(async {
            let emitter = SignalEmitter::new(&self.connection, path).expect("a path");
            signal(&emitter).await.expect("the signal is sent");
        });
    }
}

/// A home with the profiles `ci` and `dev`, which both have these settings.
fn fixture(settings: &str) -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(
        &sandbox,
        "dev",
        &[("dev", "S3ReadOnly"), ("ci", "S3BucketAccess")],
    );
    home.configure_more("check_every = \"1s\"", settings);

    (sandbox, home)
}

/// Requests a session for each profile, and returns the ids.
fn request_sessions(home: &Home) -> Vec<String> {
    for profile in ["ci", "dev"] {
        home.rolekeeper(&["credential-process", profile]).json();
    }

    let status = home.rolekeeper(&["status", "--json"]).json();
    let profiles = status["profiles"].as_array().expect("a list").iter();

    profiles
        .map(|profile| profile["session"]["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// The session's status at the upstream.
fn upstream_status(sandbox: &SandboxProcess, id: &str) -> String {
    let admin = sandbox.token("admin");
    let (_status, session) = sandbox.api(admin, "GET", &format!("/sts/sessions/{id}"), None);

    session["status"].as_str().expect("a status").to_owned()
}

#[test]
fn revocation_notification_names_revoker_and_next_command() {
    let (sandbox, home) = fixture("");
    let desktop = Desktop::start(&home);
    let _daemon = desktop.daemon(&home);

    for id in request_sessions(&home) {
        let path = format!("/sts/sessions/{id}?reason=lost%20laptop");
        assert_eq!(
            sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
            204
        );
    }

    // Two notifications if a poll came between the two revocations, else one.
    let mut bodies = String::new();
    while !["ci: session", "dev: session"]
        .iter()
        .all(|profile| bodies.contains(profile))
    {
        let (title, body) = desktop.shown.recv().expect("a notification is shown");
        assert!(title.starts_with("Credentials of "), "{title}");
        bodies += &body;
    }
    for part in [
        "by user/admin@example.test",
        "reason: lost laptop",
        "rolekeeper resume dev",
    ] {
        assert!(bodies.contains(part), "{bodies}");
    }

    home.rolekeeper(&["resume", "dev"]);
    home.rolekeeper(&["credential-process", "dev"]).json();
    home.rolekeeper(&["logout", "dev"]);
    assert!(
        desktop.shown.try_recv().is_err(),
        "the user's own logout shows no notification"
    );
}

#[test]
fn screen_lock_ends_sessions_of_that_user_only() {
    for lock in [Desktop::lock, Desktop::set_locked_hint] {
        let (sandbox, home) = fixture("revoke_on = [\"lock\"]");
        let desktop = Desktop::start(&home);
        let daemon = desktop.daemon(&home);
        eventually("the daemon watches logind", || {
            daemon
                .log()
                .contains("screen locks and sleeps are detected")
                .then_some(())
        });

        let ids = request_sessions(&home);
        desktop.lock(OTHER_USERS_SESSION);
        desktop.set_locked_hint(OTHER_USERS_SESSION);
        lock(&desktop, OWN_SESSION);
        for id in &ids {
            eventually("the session is revoked", || {
                (upstream_status(&sandbox, id) == "revoked").then_some(())
            });
        }
        assert_eq!(
            daemon.log().matches("cause=ScreenLocked").count(),
            2,
            "one for each profile: {}",
            daemon.log()
        );
        assert_ne!(request_sessions(&home), ids, "the sessions are new");
    }
}

#[test]
fn suspend_is_delayed_until_sessions_are_revoked() {
    let (sandbox, home) = fixture("revoke_on = [\"sleep\"]");
    let desktop = Desktop::start(&home);
    let _daemon = desktop.daemon(&home);
    let lock = desktop.locks.recv().expect("an inhibitor lock is taken");
    let ids = request_sessions(&home);
    let slow = serde_json::json!({ "method": "revokeSTSSession", "fault": { "kind": "delay", "ms": 500 } });
    sandbox.control("POST", "/faults", Some(slow));

    desktop.prepare_for_sleep(true);
    // The read ends when the daemon closes the inhibitor lock.
    std::fs::File::from(lock)
        .read_to_end(&mut Vec::new())
        .expect("the pipe is readable");
    for id in &ids {
        assert_eq!(upstream_status(&sandbox, id), "revoked");
    }

    desktop.prepare_for_sleep(false);
    drop(desktop.locks.recv().expect("the next lock is taken"));
}

/// Requests credentials through a program, and answers the approval dialog.
fn request_with_dialog(home: &Home, desktop: &Desktop, program: &Path, answer: &dyn Fn()) -> Run {
    std::thread::scope(|scope| {
        let request = scope.spawn(|| {
            let mut command = home.command(program);
            command
                .arg("100")
                .arg(&programs().rolekeeper)
                .args(["credential-process", "dev"]);
            home.run(command)
        });

        let (title, body) = desktop.shown.recv().expect("a dialog is shown");
        assert_eq!(title, "Allow credentials of dev?");
        assert!(
            body.contains("timeout (process ") && body.contains("requests them"),
            "{body}"
        );

        answer();
        request.join().expect("the request ends")
    })
}

fn assert_denied(run: &Run) {
    assert!(
        run.code == 4 && run.stderr.contains("requires approval: denied"),
        "{run:?}"
    );
}

/// Presses `Allow` from a process that is not the notification server.
fn spoof_allow(desktop: &Desktop) {
    desktop
        .runtime
        .block_on(async {
            let spoofer = zbus::connection::Builder::address(desktop.bus.address.as_str())?
                .build()
                .await?;
            spoofer
                .emit_signal(
                    None::<&str>,
                    NOTIFICATIONS,
                    "org.freedesktop.Notifications",
                    "ActionInvoked",
                    &(DIALOG_ID, "allow"),
                )
                .await
        })
        .expect("the signal is sent");
}

#[test]
fn approval_dialog_names_program_and_its_button_decides() {
    let (_sandbox, home) = fixture("confirm = \"first\"");
    let desktop = Desktop::start(&home);

    let daemon = desktop.daemon(&home);
    let denied = request_with_dialog(&home, &desktop, Path::new("timeout"), &|| {
        desktop.press("deny");
    });
    assert_denied(&denied);
    // After a denial, a daemon asks no further question for a while.
    drop(daemon);
    let daemon = desktop.daemon(&home);

    // A program at another path needs its own approval.
    let copy = home.copy_of(&which("timeout"));
    let denied = request_with_dialog(&home, &desktop, &copy, &|| {
        spoof_allow(&desktop);
        desktop.press("deny");
    });
    assert_denied(&denied);
    drop(daemon);
    let _daemon = desktop.daemon(&home);

    let folder = home.path().join("another");
    std::fs::create_dir(&folder).expect("a folder");
    let status = Command::new("cp")
        .arg(&copy)
        .arg(&folder)
        .status()
        .expect("cp starts");
    assert!(status.success());
    let allowed = request_with_dialog(&home, &desktop, &folder.join("timeout"), &|| {
        desktop.press("allow");
    });
    assert_eq!(allowed.code, 0, "{allowed:?}");
}
