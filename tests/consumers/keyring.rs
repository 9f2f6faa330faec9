//! A real gnome-keyring that is unlocked, locked or stopped, whose unlock prompt is dismissed or stays open, and whose
//! token is deleted while the daemon runs.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use rolekeeper_tests::harness::{Daemon, Home, Run, SandboxProcess, eventually, programs};
use tokio::runtime::Runtime;
use zbus::message::Header;
use zbus::object_server::ResponseDispatchNotifier;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue};
use zbus::{Connection, interface};

use crate::bus::Bus;

const SECRETS: &str = "org.freedesktop.secrets";
const LOGIN: &str = "/org/freedesktop/secrets/collection/login";
const PROMPTER: &str = "org.gnome.keyring.SystemPrompter";
/// A key exchange of gcr. The prompter's public key is 1, so the shared secret is 1, too.
const EXCHANGE: &str = "[sx-aes-1]\npublic=AQ==\n";
/// The same exchange with the encrypted password `right`.
const PASSWORD_EXCHANGE: &str =
    "[sx-aes-1]\npublic=AQ==\nsecret=ftD04EDW1w4a1KBq5agVUA==\niv=AAAAAAAAAAAAAAAAAAAAAA==\n";

/// A desktop session: a bus with a keyring.
struct DesktopSession {
    bus: Bus,
    keyring: Option<Child>,
    runtime: Runtime,
    connection: Connection,
}

impl DesktopSession {
    fn start(home: &Home) -> Self {
        let bus = Bus::start(home.path());
        let runtime = Runtime::new().expect("a runtime");
        let address = bus.address.clone();
        let connect = async move {
            zbus::connection::Builder::address(address.as_str())?
                .build()
                .await
        };
        let connection = runtime.block_on(connect).expect("the bus accepts");

        let mut session = Self {
            bus,
            keyring: None,
            runtime,
            connection,
        };
        session.start_keyring(home);

        session
    }

    /// Starts the keyring, and unlocks its collection with the password `right`.
    fn start_keyring(&mut self, home: &Home) {
        let mut command = Command::new("gnome-keyring-daemon");
        command
            .args(["--foreground", "--components=secrets", "--unlock"])
            .arg(format!(
                "--control-directory={}",
                home.path().join("control").display()
            ))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        home.set_env(&mut command);
        command
            .env("XDG_DATA_HOME", home.path().join("data"))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());

        let mut child = command
            .spawn()
            .expect("gnome-keyring is installed: run tests/consumers/setup");
        child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(b"right")
            .expect("the keyring reads");
        self.keyring = Some(child);

        eventually("the keyring is on the bus", || {
            self.has_name(SECRETS).then_some(())
        });
    }

    fn stop_keyring(&mut self) {
        if let Some(mut keyring) = self.keyring.take() {
            let _ = keyring.kill();
            let _ = keyring.wait();
        }
    }

    /// Whether a process owns this name on the bus.
    fn has_name(&self, name: &str) -> bool {
        let bus = "org.freedesktop.DBus";
        let path = "/org/freedesktop/DBus";
        let call = self
            .connection
            .call_method(Some(bus), path, Some(bus), "NameHasOwner", &(name));

        self.runtime
            .block_on(call)
            .expect("the bus answers")
            .body()
            .deserialize()
            .expect("a boolean")
    }

    fn lock(&self) {
        let collections = vec![ObjectPath::try_from(LOGIN).expect("a path")];

        self.call(
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service",
            "Lock",
            &(collections),
        );
    }

    fn delete_token(&self) {
        let attributes = HashMap::from([("service", "rolekeeper"), ("username", "work")]);
        let found = self.call(
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service",
            "SearchItems",
            &(attributes),
        );
        let (items, _): (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) =
            found.body().deserialize().expect("items");
        let [item] = items.as_slice() else {
            panic!("one item: {items:?}")
        };

        self.call(item.as_str(), "org.freedesktop.Secret.Item", "Delete", &());
    }

    fn call<B: serde::Serialize + zbus::zvariant::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> zbus::Message {
        let call = self
            .connection
            .call_method(Some(SECRETS), path, Some(interface), method, body);

        self.runtime.block_on(call).expect("the keyring replies")
    }

    /// Starts a prompter that answers every prompt with the same action. It stops when dropped.
    fn start_prompter(&self, action: Action) -> PrompterHandle<'_> {
        let count = Arc::new(AtomicUsize::new(0));
        let (sender, shown) = mpsc::channel();
        let prompter = Prompter {
            action,
            count: Arc::clone(&count),
            shown: sender,
        };

        let address = self.bus.address.clone();
        let connection = self.runtime.block_on(async move {
            let builder = zbus::connection::Builder::address(address.as_str())?;
            builder
                .serve_at("/org/gnome/keyring/Prompter", prompter)?
                .name(PROMPTER)?
                .build()
                .await
        });

        PrompterHandle {
            session: self,
            connection: Some(connection.expect("the bus accepts")),
            count,
            shown,
        }
    }

    fn daemon<'a>(&self, home: &'a Home) -> Daemon<'a> {
        let mut command = home.command(&programs().rolekeeperd);
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);

        home.daemon_from(command)
    }
}

impl Drop for DesktopSession {
    fn drop(&mut self) {
        self.stop_keyring();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Action {
    Dismiss,
    Unlock,
    /// The prompt stays open.
    Ignore,
}

struct PrompterHandle<'a> {
    session: &'a DesktopSession,
    connection: Option<Connection>,
    count: Arc<AtomicUsize>,
    /// A message for each prompt.
    shown: mpsc::Receiver<()>,
}

impl PrompterHandle<'_> {
    /// The number of prompts so far.
    fn prompts(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for PrompterHandle<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take().expect("only drop takes it");
        self.session
            .runtime
            .block_on(connection.close())
            .expect("the connection closes");

        eventually("the prompter is off the bus", || {
            (!self.session.has_name(PROMPTER)).then_some(())
        });
    }
}

struct Prompter {
    action: Action,
    count: Arc<AtomicUsize>,
    shown: mpsc::Sender<()>,
}

/// Calls `PromptReady` after the reply to the current call, because the keyring waits for that reply first.
fn call_back(
    connection: &Connection,
    header: &Header<'_>,
    callback: &OwnedObjectPath,
    reply: &'static str,
    text: &'static str,
) -> ResponseDispatchNotifier<()> {
    let (response, replied) = ResponseDispatchNotifier::new(());
    let connection = connection.clone();
    let callback = callback.clone();
    let sender = header.sender().expect("a sender").to_owned();

    tokio::spawn(async move {
        replied.await;

        let properties: HashMap<&str, OwnedValue> = HashMap::new();
        let interface = "org.gnome.keyring.internal.Prompter.Callback";
        // The keyring may have exited.
        let _ = connection
            .call_method(
                Some(sender),
                &callback,
                Some(interface),
                "PromptReady",
                &(reply, properties, text),
            )
            .await;
    });

    response
}

#[interface(name = "org.gnome.keyring.internal.Prompter")]
#[allow(
    clippy::needless_pass_by_value,
    reason = "the D-Bus interface has this signature"
)]
impl Prompter {
    fn begin_prompting(
        &self,
        callback: OwnedObjectPath,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> ResponseDispatchNotifier<()> {
        call_back(connection, &header, &callback, "", EXCHANGE)
    }

    fn perform_prompt(
        &self,
        callback: OwnedObjectPath,
        _kind: String,
        _properties: HashMap<String, OwnedValue>,
        _exchange: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> ResponseDispatchNotifier<()> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let _ = self.shown.send(());

        match self.action {
            Action::Dismiss => call_back(connection, &header, &callback, "no", EXCHANGE),
            Action::Unlock => call_back(connection, &header, &callback, "yes", PASSWORD_EXCHANGE),
            Action::Ignore => ResponseDispatchNotifier::new(()).0,
        }
    }

    fn stop_prompting(&self, _callback: OwnedObjectPath) {}
}

/// A home with profile `dev`, whose token is in the keyring.
fn fixture() -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);

    let text = std::fs::read_to_string(home.config_path()).expect("a configuration");
    let (before, rest) = text.split_once("token = ").expect("a token");
    let (_, after) = rest.split_once('\n').expect("a line");
    home.configure(&format!(
        "{before}token = {{ keyring = \"work\" }}\n{after}"
    ));
    home.secret(sandbox.token("dev"));

    (sandbox, home)
}

/// Stores the developer's token in the keyring.
fn login(home: &Home, sandbox: &SandboxProcess) {
    let mut command = home.client();
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .arg("login")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());

    let mut child = command.spawn().expect("the client starts");
    child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(sandbox.token("dev").as_bytes())
        .expect("the client reads");
    let output = child.wait_with_output().expect("the client exits");

    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["user/dev@example.test", "the keyring entry `work`"] {
        assert!(text.contains(part), "{output:?}");
    }
}

/// Requests a new session, for which the daemon reads the token.
fn refresh(home: &Home) -> Run {
    home.rolekeeper(&["refresh", "dev"])
}

fn assert_refused(run: &Run, message: &str, hint: &str) {
    assert!(
        run.code == 5 && run.stderr.contains(message) && run.stderr.contains(hint),
        "{run:?}"
    );
}

#[test]
fn token_is_read_from_the_keyring_at_each_use() {
    let (sandbox, home) = fixture();
    let mut session = DesktopSession::start(&home);
    let daemon = session.daemon(&home);
    assert_refused(
        &refresh(&home),
        "the keyring entry `work` does not exist",
        "try: run rolekeeper login sandbox",
    );

    login(&home, &sandbox);
    assert_eq!(refresh(&home).code, 0);

    session.delete_token();
    assert_refused(
        &refresh(&home),
        "does not exist",
        "rolekeeper login sandbox",
    );
    assert_eq!(
        home.rolekeeper(&["credential-process", "dev"]).code,
        0,
        "the cached session stays valid"
    );

    login(&home, &sandbox);
    session.stop_keyring();
    assert_refused(
        &refresh(&home),
        "no keyring service on this session's bus",
        "token = { age = … }",
    );

    session.start_keyring(&home);
    eventually("the daemon uses the new keyring process", || {
        (refresh(&home).code == 0).then_some(())
    });
    assert!(!daemon.log().contains(sandbox.token("dev")));
}

#[test]
fn dismissed_unlock_prompt_is_shown_again_by_unlock_only() {
    let (sandbox, home) = fixture();
    let session = DesktopSession::start(&home);
    let _daemon = session.daemon(&home);
    login(&home, &sandbox);
    session.lock();

    {
        let prompter = session.start_prompter(Action::Dismiss);
        assert_refused(
            &refresh(&home),
            "is locked, and the prompt to unlock it was dismissed",
            "rolekeeper unlock sandbox",
        );
        for _ in 0..3 {
            assert_refused(&refresh(&home), "is locked", "rolekeeper unlock sandbox");
        }
        assert_eq!(
            prompter.prompts(),
            1,
            "a refresh does not repeat the prompt"
        );

        assert_refused(
            &home.rolekeeper(&["unlock"]),
            "is locked",
            "rolekeeper unlock",
        );
        assert_eq!(prompter.prompts(), 2, "unlock repeats the prompt");
    }

    {
        let prompter = session.start_prompter(Action::Unlock);
        let unlock = home.rolekeeper(&["unlock"]);
        assert!(
            unlock.code == 0 && unlock.stdout.contains("user/dev@example.test"),
            "{unlock:?}"
        );
        assert_eq!((prompter.prompts(), refresh(&home).code), (1, 0));
    }

    // Without a prompter the keyring reports a dismissed prompt.
    session.lock();
    assert_refused(
        &refresh(&home),
        "is locked, and the prompt to unlock it was dismissed",
        "rolekeeper unlock sandbox",
    );
}

#[test]
fn open_unlock_prompt_blocks_one_request_and_is_shown_once() {
    let (sandbox, home) = fixture();
    let session = DesktopSession::start(&home);
    let _daemon = session.daemon(&home);
    login(&home, &sandbox);
    session.lock();

    let prompter = session.start_prompter(Action::Ignore);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| refresh(&home));
        prompter.shown.recv().expect("the prompt is shown");

        let status = home.rolekeeper(&["status"]);
        assert_eq!(status.code, 0, "other requests are served: {status:?}");

        assert_refused(
            &waiting.join().expect("the request ends"),
            "the prompt to unlock it is still open",
            "screen",
        );
    });

    assert_refused(
        &refresh(&home),
        "is still open",
        "answer the prompt on the screen",
    );
    assert_eq!(prompter.prompts(), 1);

    // The prompt closes with its prompter.
    drop(prompter);
    let _prompter = session.start_prompter(Action::Unlock);
    assert_eq!(home.rolekeeper(&["unlock"]).code, 0);
}
