//! A real gnome-keyring: unlocked, locked, asked in vain, gone, and with the token deleted under the daemon's hands.

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
/// An exchange of gcr's with our public key 1, so that the secret that it leads to is 1, too; the answer is `right`.
const EMPTY: &str = "[sx-aes-1]\npublic=AQ==\n";
const RIGHT: &str =
    "[sx-aes-1]\npublic=AQ==\nsecret=ftD04EDW1w4a1KBq5agVUA==\niv=AAAAAAAAAAAAAAAAAAAAAA==\n";

/// A desktop's session: a bus, a keyring on it, and whoever answers its prompts.
struct Session {
    bus: Bus,
    keyring: Option<Child>,
    runtime: Runtime,
    connection: Connection,
}

impl Session {
    fn start(home: &Home) -> Self {
        let bus = Bus::start(home.path());
        let runtime = Runtime::new().expect("a runtime");
        let address = bus.address.clone();
        let connect = async move {
            zbus::connection::Builder::address(address.as_str())?
                .build()
                .await
        };
        let connection = runtime.block_on(connect).expect("the bus serves");
        let mut session = Self {
            bus,
            keyring: None,
            runtime,
            connection,
        };
        session.start_keyring(home);
        session
    }

    /// With its collection unlocked by the password `right`.
    fn start_keyring(&mut self, home: &Home) {
        let mut command = Command::new("gnome-keyring-daemon");
        command.args(["--foreground", "--components=secrets", "--unlock"]);
        command.arg(format!(
            "--control-directory={}",
            home.path().join("control").display()
        ));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        home.set_env(&mut command);
        command
            .env("XDG_DATA_HOME", home.path().join("data"))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command
            .spawn()
            .expect("gnome-keyring is installed: run tests/consumers/setup");
        child
            .stdin
            .take()
            .expect("it is piped")
            .write_all(b"right")
            .expect("it reads");
        self.keyring = Some(child);
        eventually("the keyring is there", || self.has(SECRETS).then_some(()));
    }

    fn end_keyring(&mut self) {
        if let Some(mut keyring) = self.keyring.take() {
            let _ = keyring.kill();
            let _ = keyring.wait();
        }
    }

    fn has(&self, name: &str) -> bool {
        let (bus, path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
        let call = self
            .connection
            .call_method(Some(bus), path, Some(bus), "NameHasOwner", &(name));
        self.runtime
            .block_on(call)
            .expect("the bus answers")
            .body()
            .deserialize()
            .expect("a truth value")
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
        let (path, interface) = ("/org/freedesktop/secrets", "org.freedesktop.Secret.Service");
        let found = self.call(path, interface, "SearchItems", &(attributes));
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
        self.runtime.block_on(call).expect("the keyring answers")
    }

    /// Somebody at the screen, until it is dropped.
    fn person(&self, does: Does) -> Person<'_> {
        let (asked, prompts) = (Arc::new(AtomicUsize::new(0)), mpsc::channel());
        let prompter = Prompter {
            does,
            asked: Arc::clone(&asked),
            prompts: prompts.0,
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
        Person {
            session: self,
            connection: Some(connection.expect("the bus serves")),
            asked,
            shown: prompts.1,
        }
    }

    fn daemon<'a>(&self, home: &'a Home) -> Daemon<'a> {
        let mut command = home.command(&programs().rolekeeperd);
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);
        home.daemon_from(command)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end_keyring();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    SayNo,
    Unlock,
    Nothing,
}

struct Person<'a> {
    session: &'a Session,
    connection: Option<Connection>,
    asked: Arc<AtomicUsize>,
    shown: mpsc::Receiver<()>,
}

impl Person<'_> {
    fn was_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Person<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take().expect("it is there until now");
        self.session
            .runtime
            .block_on(connection.close())
            .expect("it closes");
        eventually("nobody is there", || {
            (!self.session.has(PROMPTER)).then_some(())
        });
    }
}

struct Prompter {
    does: Does,
    asked: Arc<AtomicUsize>,
    prompts: mpsc::Sender<()>,
}

/// Calls back once the call that is being answered has been: the keyring waits for that first.
fn call_back(
    connection: &Connection,
    header: &Header<'_>,
    callback: &OwnedObjectPath,
    reply: &'static str,
    text: &'static str,
) -> ResponseDispatchNotifier<()> {
    let (response, answered) = ResponseDispatchNotifier::new(());
    let (connection, callback) = (connection.clone(), callback.clone());
    let sender = header.sender().expect("it has one").to_owned();
    tokio::spawn(async move {
        answered.await;
        let properties: HashMap<&str, OwnedValue> = HashMap::new();
        let interface = "org.gnome.keyring.internal.Prompter.Callback";
        // It may be gone by now.
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
#[allow(clippy::needless_pass_by_value, reason = "that is the interface")]
impl Prompter {
    fn begin_prompting(
        &self,
        callback: OwnedObjectPath,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> ResponseDispatchNotifier<()> {
        call_back(connection, &header, &callback, "", EMPTY)
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
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _ = self.prompts.send(());
        match self.does {
            Does::SayNo => call_back(connection, &header, &callback, "no", EMPTY),
            Does::Unlock => call_back(connection, &header, &callback, "yes", RIGHT),
            Does::Nothing => ResponseDispatchNotifier::new(()).0,
        }
    }

    fn stop_prompting(&self, _callback: OwnedObjectPath) {}
}

/// A profile whose token is in the keyring, and a person logged in.
fn world() -> (SandboxProcess, Home) {
    let (sandbox, home) = (SandboxProcess::start(&[]), Home::default());
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let text = std::fs::read_to_string(home.config_path()).expect("it is there");
    let (before, rest) = text.split_once("token = ").expect("a token");
    let (_, after) = rest.split_once('\n').expect("a line");
    home.configure(&format!(
        "{before}token = {{ keyring = \"work\" }}\n{after}"
    ));
    home.secret(sandbox.token("dev"));
    (sandbox, home)
}

fn login(home: &Home, sandbox: &SandboxProcess) {
    let mut command = home.client();
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .arg("login")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(sandbox.token("dev").as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("user/dev@example.test, and it is stored in the keyring entry `work`"),
        "{output:?}"
    );
}

/// A new session, so that the token is read now.
fn fresh(home: &Home) -> Run {
    home.rolekeeper(&["refresh", "dev"])
}

fn refused(run: &Run, want: &str, hint: &str) {
    assert!(
        run.code == 5 && run.stderr.contains(want) && run.stderr.contains(hint),
        "{run:?}"
    );
}

#[test]
fn a_token_in_the_keyring_is_read_at_each_use() {
    let (sandbox, home) = world();
    let mut session = Session::start(&home);
    let daemon = session.daemon(&home);
    refused(
        &fresh(&home),
        "the keyring entry `work` does not exist",
        "try: rolekeeper login sandbox",
    );
    login(&home, &sandbox);
    assert_eq!(fresh(&home).code, 0);
    session.delete_token();
    refused(&fresh(&home), "does not exist", "rolekeeper login sandbox");
    assert_eq!(
        home.rolekeeper(&["credential-process", "dev"]).code,
        0,
        "the session that there is goes on"
    );
    login(&home, &sandbox);
    session.end_keyring();
    refused(
        &fresh(&home),
        "there is no keyring service on this session's bus",
        "token = { age = … }",
    );
    session.start_keyring(&home);
    eventually("the daemon finds the new one", || {
        (fresh(&home).code == 0).then_some(())
    });
    assert!(!daemon.log().contains(sandbox.token("dev")));
}

#[test]
fn a_locked_keyring_asks_once_and_not_again_at_every_refresh() {
    let (sandbox, home) = world();
    let session = Session::start(&home);
    let _daemon = session.daemon(&home);
    login(&home, &sandbox);
    session.lock();
    {
        let person = session.person(Does::SayNo);
        refused(
            &fresh(&home),
            "is locked, and the prompt to unlock it was dismissed",
            "rolekeeper unlock sandbox",
        );
        for _ in 0..3 {
            refused(&fresh(&home), "is locked", "rolekeeper unlock sandbox");
        }
        assert_eq!(person.was_asked(), 1, "whoever said no is left in peace");
        refused(
            &home.rolekeeper(&["unlock"]),
            "is locked",
            "rolekeeper unlock",
        );
        assert_eq!(person.was_asked(), 2, "until they ask for it");
    }
    {
        let person = session.person(Does::Unlock);
        let open = home.rolekeeper(&["unlock"]);
        assert!(
            open.code == 0 && open.stdout.contains("user/dev@example.test"),
            "{open:?}"
        );
        assert_eq!((person.was_asked(), fresh(&home).code), (1, 0));
    }
    // Nobody sits before a screen that could show a prompt.
    session.lock();
    refused(
        &fresh(&home),
        "is locked, and the prompt to unlock it was dismissed",
        "rolekeeper unlock sandbox",
    );
}

#[test]
fn a_prompt_that_nobody_answers_holds_up_one_request_and_is_not_put_before_another() {
    let (sandbox, home) = world();
    let session = Session::start(&home);
    let _daemon = session.daemon(&home);
    login(&home, &sandbox);
    session.lock();
    let person = session.person(Does::Nothing);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fresh(&home));
        person.shown.recv().expect("it is shown");
        let status = home.rolekeeper(&["status"]);
        assert_eq!(status.code, 0, "everything else goes on: {status:?}");
        refused(
            &waiting.join().expect("it ends"),
            "the prompt that asks to unlock it has not been answered",
            "screen",
        );
    });
    refused(
        &fresh(&home),
        "has not been answered",
        "answer the prompt on the screen",
    );
    assert_eq!(person.was_asked(), 1);
    drop(person);
    // The prompt has gone with whoever showed it.
    let _person = session.person(Does::Unlock);
    assert_eq!(home.rolekeeper(&["unlock"]).code, 0);
}
