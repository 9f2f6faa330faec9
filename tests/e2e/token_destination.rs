//! A stored token belongs to its endpoint. A configuration that names another one gets neither the token nor a session.

use std::io::ErrorKind;
use std::net::TcpListener;

use rolekeeper_tests::harness::{Daemon, Home, Run, SandboxProcess};

use super::login::{with_input, world_with_token};
use super::tls_door::tls_door;

const WITH_KEY: &str = "{ age = \"token.age\", identity = \"key\" }";

/// Where the attacker listens. Nothing must arrive there.
struct Listener(TcpListener);

impl Listener {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();

        Self(listener)
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    fn assert_unused(&self) {
        let accepted = self.0.accept().map_err(|error| error.kind());
        assert_eq!(accepted.unwrap_err(), ErrorKind::WouldBlock);
    }
}

fn replace(home: &Home, daemon: &Daemon<'_>, old: &str, new: &str) {
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    assert!(text.contains(old), "{text}");
    home.configure(&text.replace(old, new));
    daemon.reload();
}

fn lease(home: &Home) -> Run {
    home.rolekeeper(&["credential-process", "dev"])
}

fn login(home: &Home, input: &str) {
    let done = with_input(home, &["login"], input);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn changed_endpoint_gets_no_token() {
    let sandbox = SandboxProcess::start(&[]);
    let home = world_with_token(&sandbox, WITH_KEY);
    home.secret(sandbox.token("dev"));
    let daemon = home.daemon(&[]);
    login(&home, sandbox.token("dev"));
    assert_eq!(lease(&home).code, 0);

    let listener = Listener::start();
    replace(&home, &daemon, sandbox.endpoint(), &listener.endpoint());

    for request in [
        &["credential-process", "dev"][..],
        &["refresh", "dev"],
        &["unlock"],
        &["sessions"],
        &["iam", "listRoles"],
    ] {
        let refused = home.rolekeeper(request);
        let message = format!(
            "is for {}, and the configuration names {}",
            sandbox.endpoint(),
            listener.endpoint()
        );
        assert!(
            refused.code == 5
                && refused.stderr.contains(&message)
                && refused.stderr.contains("try: run rolekeeper login sandbox"),
            "{request:?}: {refused:?}"
        );
    }
    listener.assert_unused();

    replace(&home, &daemon, &listener.endpoint(), sandbox.endpoint());
    assert_eq!(lease(&home).code, 0, "the stored token is still there");
}

#[test]
fn login_binds_the_token_to_the_new_endpoint() {
    let sandbox = SandboxProcess::start(&[]);
    let home = world_with_token(&sandbox, WITH_KEY);
    let daemon = home.daemon(&[]);
    login(&home, sandbox.token("dev"));

    let other = SandboxProcess::start(&[]);
    replace(&home, &daemon, sandbox.endpoint(), other.endpoint());
    assert_eq!(lease(&home).code, 5);
    login(&home, other.token("dev"));
    let role = home.rolekeeper(&["status", "--json"]);
    assert!(!role.stdout.contains("login_needed"), "{role:?}");

    replace(&home, &daemon, other.endpoint(), sandbox.endpoint());
    assert_eq!(lease(&home).code, 5, "it is no longer for the old one");
}

/// The passphrase that the user has entered is kept over a reload, but not for another endpoint.
#[test]
fn passphrase_is_not_used_for_another_endpoint() {
    let sandbox = SandboxProcess::start(&[]);
    let home = world_with_token(&sandbox, "{ age = \"token.age\" }");
    for text in [sandbox.token("dev"), "canary-passphrase"] {
        home.secret(text);
    }
    let daemon = home.daemon(&[]);
    login(
        &home,
        &format!("{}\ncanary-passphrase\n", sandbox.token("dev")),
    );

    let listener = Listener::start();
    replace(&home, &daemon, sandbox.endpoint(), &listener.endpoint());
    let locked = lease(&home);
    assert!(
        locked.code == 5 && locked.stderr.contains("needs its passphrase"),
        "{locked:?}"
    );

    // Not even if the user enters it again.
    let refused = with_input(&home, &["unlock"], "canary-passphrase\n");
    assert!(
        refused.code == 5 && refused.stderr.contains("and the configuration names"),
        "{refused:?}"
    );
    listener.assert_unused();
}

/// Whoever chooses the authority, can answer for any endpoint.
#[test]
fn changed_authorities_get_no_token() {
    let sandbox = SandboxProcess::start(&[]);
    let door = tls_door(sandbox.endpoint(), "127.0.0.1");
    let attacker = tls_door(sandbox.endpoint(), "127.0.0.1");
    let home = world_with_token(&sandbox, WITH_KEY);
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    home.configure(&text.replace(sandbox.endpoint(), &format!("https://{}", door.address)));
    let file = home.private_file("own.pem", &door.authority);
    home.configure_more(&format!("ca = {file:?}"), "");
    let daemon = home.daemon(&[]);
    login(&home, sandbox.token("dev"));
    assert_eq!(lease(&home).code, 0);

    let both = format!("{}{}", door.authority, attacker.authority);
    home.private_file("own.pem", &both);
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
    let calls = sandbox.calls("assumeRole");

    daemon.reload();
    let refused = lease(&home);
    assert!(
        refused.code == 5 && refused.stderr.contains(" ca-sha256="),
        "{refused:?}"
    );
    assert_eq!(sandbox.calls("assumeRole"), calls);
}
