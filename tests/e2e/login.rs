//! `login`: a token is verified, stored and never printed. Rotation always leaves a valid token in
//! the store.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A profile whose token source is `source`, such as an age file that does not exist yet.
pub(crate) fn world_with_token(sandbox: &SandboxProcess, source: &str) -> Home {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    let (before, rest) = text.split_once("token = ").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    home.configure(&format!("{before}token = {source}\n{after}"));

    home
}

pub(crate) fn with_input(home: &Home, args: &[&str], input: impl AsRef<[u8]>) -> Run {
    let mut command = home.client();
    command.env("ROLEKEEPER_AUTOSTART", "0").args(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();

    // The command may have failed before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_ref());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();

    Run {
        code: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn lease(home: &Home) -> Run {
    home.rolekeeper(&["credential-process", "dev"])
}

#[test]
fn login_stores_token_only_after_upstream_accepts_it() {
    let sandbox = SandboxProcess::start(&[]);
    let home = world_with_token(&sandbox, "{ age = \"token.age\", identity = \"key\" }");
    let daemon = home.daemon(&[]);

    let before = lease(&home);
    assert!(
        before.code == 5 && before.stderr.contains("token.age does not exist"),
        "{before:?}"
    );

    home.secret(sandbox.token("dev"));

    let again = "try: copy the whole token, check that it has neither expired nor been revoked";
    for (wrong, want, hint) in [
        ("canary-wrong\n", "invalid_token", again),
        (
            "two words\n",
            "what was entered is not a token: it has white space",
            again,
        ),
        (
            "t\0o\0\n",
            "what was entered is not a token: it has NUL characters, as UTF-16",
            again,
        ),
        ("\n", "the secret is empty", "try: run the command again"),
    ] {
        let refused = with_input(&home, &["login"], wrong);
        assert!(
            refused.code != 0 && refused.stderr.contains(want) && refused.stderr.contains(hint),
            "{refused:?}"
        );
        assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
    }

    for (wrong, want) in [
        (
            &b"\xff\xfet\0\n\0"[..],
            "it is UTF-16 text; save it as UTF-8",
        ),
        (b"\xe9\n", "it is not UTF-8 text"),
    ] {
        let refused = with_input(&home, &["login"], wrong);
        assert!(
            refused.code == 2 && refused.stderr.contains(want),
            "{refused:?}"
        );
    }

    assert!(
        !home.config_path().with_file_name("token.age").exists(),
        "a rejected token is not stored"
    );

    let done = with_input(
        &home,
        &["login", "sandbox"],
        format!("\u{feff}{}\n", sandbox.token("dev")),
    );

    assert_eq!(home.rolekeeper(&["journal"]).code, 0);
    let journal = std::fs::read_to_string(home.journal()).unwrap();
    let logins: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &Value| record["type"] == "logged_in")
        .collect();
    assert_eq!(logins.len(), 1, "{journal}");
    // A client that reads a secret hides from other processes of its user, and so from the user's daemon.
    let program = logins[0]["processes"][0]["program"].as_str().unwrap();
    let is_root = rustix::process::geteuid().is_root();
    assert!(
        program.ends_with("/rolekeeper") || (program == "?" && !is_root),
        "{journal}"
    );

    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stdout
            .contains("accepted the token of user/dev@example.test"),
        "{done:?}"
    );

    // The new token clears the back-off of the failed attempt.
    assert_eq!(lease(&home).code, 0);

    let stored = std::fs::read_to_string(home.config_path().with_file_name("token.age")).unwrap();
    assert!(
        stored.starts_with("-----BEGIN AGE ENCRYPTED FILE-----")
            && !stored.contains(sandbox.token("dev"))
    );
    assert!(!daemon.log().contains(sandbox.token("dev")));
}

#[test]
fn hint_for_several_upstreams_works_as_printed() {
    let sandbox = SandboxProcess::start(&[]);
    let source = "{ age = \"token.age\", identity = \"key\" }";
    let home = world_with_token(&sandbox, source);
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    let endpoint = sandbox.endpoint();
    let other = format!(
        "[upstream.other]\nkind = \"bycloud\"\nendpoint = \"{endpoint}\"\ntoken = {{ env = \"NONE\" }}\n"
    );
    home.configure(&(text + &other));
    let _daemon = home.daemon(&[]);

    let token = format!("{}\n", sandbox.token("dev"));
    for command in ["login", "unlock", "sessions"] {
        let run = with_input(&home, &[command], &token);
        assert!(
            run.code == 2
                && run
                    .stderr
                    .contains("try: use --upstream with one of: other, sandbox"),
            "{command}: {run:?}"
        );
        let run = with_input(&home, &[command, "--upstream", "sandbox"], &token);
        assert_eq!(run.code, 0, "{command}: {run:?}");
        // A principal may list its own sessions once it has one.
        assert_eq!(lease(&home).code, 0);
    }
}

/// The sandbox fixes at the start what the daemon may write.
#[test]
fn token_file_in_new_folder_needs_restart() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let daemon = home.daemon(&[]);

    let elsewhere = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(home.config_path()).unwrap();
    let (before, rest) = text.split_once("token = ").unwrap();
    let after = rest.split_once('\n').unwrap().1;
    let age = elsewhere.path().join("token.age");
    let key = elsewhere.path().join("key");
    home.configure(&format!(
        "{before}token = {{ age = {age:?}, identity = {key:?} }}\n{after}"
    ));
    daemon.reload();
    let refused = with_input(&home, &["login"], sandbox.token("dev"));
    assert!(
        refused.code == 5 && refused.stderr.contains("cannot be written to"),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("restart rolekeeperd"),
        "{refused:?}"
    );

    drop(daemon);
    let _daemon = home.daemon(&[]);

    let missing = lease(&home);
    assert!(
        missing.code == 5 && missing.stderr.contains("try: run rolekeeper login sandbox"),
        "{missing:?}"
    );
    assert_eq!(with_input(&home, &["login"], sandbox.token("dev")).code, 0);
}

#[test]
fn principal_is_shown_for_token_with_assume_role_only() {
    let sandbox = SandboxProcess::start(&[]);
    let admin = sandbox.token("admin");
    let api = |verb: &str, path: &str, body: Option<&Value>| {
        sandbox.api(sandbox.token("admin"), verb, path, body)
    };
    let policies = api("GET", "/policies?name=AssumeProjectRoles", None).1;
    let id = policies["items"][0]["id"].as_str().unwrap();
    let only = json!({ "document": { "version": "2024-01-01", "statements": [
        { "effect": "allow", "actions": ["sts:AssumeRole"] }
    ] } });
    assert_eq!(
        api("PATCH", &format!("/policies/{id}"), Some(&only)).0,
        200,
        "{admin}"
    );

    let home = world_with_token(&sandbox, "{ age = \"token.age\", identity = \"key\" }");
    let _daemon = home.daemon(&[]);

    let done = with_input(&home, &["login", "--json"], sandbox.token("dev"));
    let principal = serde_json::from_str::<Value>(&done.stdout).unwrap()["principal"].clone();
    let users = api("GET", "/users", None).1;
    let dev = users["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|user| user["email"] == "dev@example.test")
        .unwrap();

    assert_eq!(principal, dev["id"], "{done:?}");
}

#[test]
fn passphrase_is_remembered_until_daemon_ends() {
    let sandbox = SandboxProcess::start(&[]);
    let home = world_with_token(&sandbox, "{ age = \"token.age\" }");
    for text in [sandbox.token("dev"), "canary-passphrase"] {
        home.secret(text);
    }

    {
        let daemon = home.daemon(&[]);

        let done = with_input(
            &home,
            &["login"],
            format!("{}\ncanary-passphrase\n", sandbox.token("dev")),
        );

        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(lease(&home).code, 0);

        daemon.reload();
        assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
    }

    let _daemon = home.daemon(&[]);

    let locked = home.rolekeeper(&["refresh", "dev"]);
    assert!(
        locked.code == 5 && locked.stderr.contains("try: run rolekeeper unlock sandbox"),
        "{locked:?}"
    );

    let wrong = with_input(&home, &["unlock"], "not-it\n");
    assert!(
        wrong.code == 5 && wrong.stderr.contains("wrong passphrase"),
        "{wrong:?}"
    );

    let unlocked = with_input(&home, &["unlock"], "\u{feff}canary-passphrase\n");
    assert!(
        unlocked.code == 0 && unlocked.stdout.contains("user/dev@example.test"),
        "{unlocked:?}"
    );
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
}

#[test]
fn typed_token_is_not_echoed() {
    let sandbox = SandboxProcess::start(&[]);
    let home = world_with_token(&sandbox, "{ age = \"token.age\", identity = \"key\" }");
    let _daemon = home.daemon(&[]);

    home.secret(sandbox.token("dev"));

    let login_on_terminal = |typed: &str| {
        let mut command = home.client();
        command.arg("login");

        home.on_terminal_when(command, "Token for sandbox", typed)
    };

    // Ctrl-U and backspace edit the line.
    let done = login_on_terminal(&format!("wrong\x15{}x\x7f\r", sandbox.token("dev")));
    assert!(
        done.code == 0 && done.stdout.contains("user/dev@example.test"),
        "{done:?}"
    );

    let cancelled = login_on_terminal("abc\x03");
    assert!(
        cancelled.code == 2 && cancelled.stdout.contains("cancelled"),
        "{cancelled:?}"
    );
}

#[test]
fn signal_at_prompt_restores_terminal_echo() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::default();
    home.configure(&format!(
        "[upstream.sandbox]\nkind = \"bycloud\"\nendpoint = \"http://{}\"\n\
         token = {{ age = \"token.age\", identity = \"key\" }}\n",
        silent.local_addr().unwrap()
    ));

    let _daemon = home.daemon(&[]);

    let assert_echo_after = |first: &dyn Fn(&mut File), signal: Signal| {
        let mut command = home.client();
        command.arg("login");
        let (run, shows) = home.on_terminal_until(command, "Token for sandbox", first, signal);

        assert!(
            shows && run.code == -signal.as_raw(),
            "{signal:?}: {shows} {run:?}"
        );
    };

    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        assert_echo_after(&|_| {}, signal);
    }

    // Also after the answer, while the upstream checks the token.
    let asked = std::cell::RefCell::new(None);
    let answer = |terminal: &mut File| {
        terminal.write_all(b"token\r").unwrap();
        *asked.borrow_mut() = silent.accept().ok();
    };
    assert_echo_after(&answer, Signal::TERM);
}

#[test]
fn read_only_token_source_is_refused_before_prompt() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    for args in [&["login"][..], &["login", "--rotate"]] {
        let run = home.rolekeeper(args);
        assert!(
            run.code == 2
                && run
                    .stderr
                    .contains("dev.token cannot be written by rolekeeper"),
            "{run:?}"
        );
        assert!(
            run.stderr.contains("token = { keyring = \"sandbox\" }"),
            "{run:?}"
        );
    }

    let unknown = home.rolekeeper(&["login", "sandbx"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("there is no upstream `sandbx`"),
        "{unknown:?}"
    );
}

/// A service account that may replace its own credentials; its token is stored.
struct Pipeline {
    sandbox: SandboxProcess,
    home: Home,
    account: String,
}

impl Pipeline {
    fn new() -> Self {
        let sandbox = SandboxProcess::start(&[]);
        let home = world_with_token(&sandbox, "{ age = \"token.age\", identity = \"key\" }");

        let admin = |verb: &str, path: &str, body: Option<&Value>| {
            let (status, reply) = sandbox.api(sandbox.token("admin"), verb, path, body);

            assert!(status < 300, "{verb} {path}: {reply}");

            reply
        };

        let id = |list: &Value| list["items"][0]["id"].as_str().unwrap().to_owned();
        let account = id(&admin("GET", "/service-accounts?name=ci-cd-pipeline", None));
        let policy = id(&admin("GET", "/policies?name=AdministratorAccess", None));
        let body = json!({ "policy_id": policy });
        admin(
            "POST",
            &format!("/service-accounts/{account}/policies"),
            Some(&body),
        );

        let pipeline = Self {
            sandbox,
            home,
            account,
        };

        {
            let _daemon = pipeline.home.daemon(&[]);

            let token = pipeline.sandbox.token("ci-cd-pipeline");
            let done = with_input(&pipeline.home, &["login"], token);
            assert!(
                done.stdout.contains("service_account/ci-cd-pipeline"),
                "{done:?}"
            );
        }

        pipeline
    }

    fn credentials(&self) -> Vec<String> {
        let path = format!("/service-accounts/{}/credentials", self.account);
        let listed = self
            .sandbox
            .api(self.sandbox.token("admin"), "GET", &path, None)
            .1;
        let items = listed["items"].as_array().unwrap();

        items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn rotate(&self, args: &[&str]) -> Run {
        self.home
            .rolekeeper(&[&["login", "--rotate", "--json"], args].concat())
    }

    /// Asserts that the stored token is valid: `refresh` does not use a cached session.
    fn assert_works(&self, when: &str) {
        let run = self.home.rolekeeper(&["refresh", "dev"]);
        assert_eq!(run.code, 0, "{when}: {run:?}");
    }
}

#[test]
fn rotation_replaces_and_deletes_old_credential() {
    let pipeline = Pipeline::new();
    let _daemon = pipeline.home.daemon(&[]);

    let mut before = pipeline.credentials();
    assert_eq!(before.len(), 1);

    for _ in 0..2 {
        let done = pipeline.rotate(&[]).json();
        assert_eq!(done["deleted"], json!(before));
        assert_eq!(done["principal"], "service_account/ci-cd-pipeline");

        before = pipeline.credentials();
        assert_eq!(json!(before), json!([done["credential_id"]]));

        pipeline.assert_works("rotated");
    }

    let (status, reply) = pipeline.sandbox.api(
        pipeline.sandbox.token("ci-cd-pipeline"),
        "GET",
        "/roles",
        None,
    );

    assert_eq!(status, 401, "{reply}");
}

#[test]
fn rotation_with_several_credentials_needs_old_id() {
    let pipeline = Pipeline::new();
    let _daemon = pipeline.home.daemon(&[]);

    let first = pipeline.credentials();
    let path = format!("/service-accounts/{}/credentials", pipeline.account);
    let another = json!({ "name": "another" });
    assert_eq!(
        pipeline
            .sandbox
            .api(
                pipeline.sandbox.token("admin"),
                "POST",
                &path,
                Some(&another)
            )
            .0,
        201
    );

    let asked = pipeline.rotate(&[]);
    assert!(
        asked.code == 2 && asked.stderr.contains("add --old and the id"),
        "{asked:?}"
    );

    let none = pipeline.rotate(&["--old", "nonsense"]);
    assert!(
        none.code == 2 && none.stderr.contains("has no credential nonsense"),
        "{none:?}"
    );
    assert_eq!(pipeline.credentials().len(), 2);

    let done = pipeline.rotate(&["--old", &first[0]]).json();
    assert_eq!(done["deleted"], json!(first));
    assert_eq!(
        pipeline.credentials().len(),
        2,
        "the other credential remains"
    );

    pipeline.assert_works("rotated");
}

#[test]
fn killed_rotation_leaves_valid_token_and_next_cleans_up() {
    let pipeline = Pipeline::new();

    // Killed before a call takes effect, and after it, before its reply arrives.
    let faults = [
        json!({ "kind": "delay", "ms": 600_000 }),
        json!({ "kind": "slow_drip", "ms": 60_000 }),
    ];

    for method in [
        "createServiceAccountCredential",
        "deleteServiceAccountCredential",
        "getServiceAccount",
    ] {
        for fault in &faults {
            let when = format!("{method} {fault}");

            {
                let daemon = pipeline.home.daemon(&[]);

                let sandbox = &pipeline.sandbox;
                let home = &pipeline.home;
                let before = sandbox.calls(method);

                sandbox.control(
                    "POST",
                    "/faults",
                    Some(json!({ "method": method, "fault": fault })),
                );

                let mut command = home.client();
                command
                    .env("ROLEKEEPER_AUTOSTART", "0")
                    .args(["login", "--rotate"])
                    .stderr(Stdio::null());
                let mut asking = command.spawn().unwrap();
                eventually(&when, || (sandbox.calls(method) > before).then_some(()));
                daemon.signal(rustix::process::Signal::KILL);
                asking.wait().unwrap();
                sandbox.clear_faults();
            }

            let _daemon = pipeline.home.daemon(&[]);

            pipeline.assert_works(&when);
            let done = pipeline.rotate(&[]).json();
            assert_eq!(
                json!(pipeline.credentials()),
                json!([done["credential_id"]]),
                "{when}: the next rotation deletes leftover credentials"
            );

            pipeline.assert_works(&when);
        }
    }
}

#[test]
fn failed_rotation_leaves_valid_token() {
    let pipeline = Pipeline::new();
    let _daemon = pipeline.home.daemon(&[]);

    let fault = json!({ "kind": "status", "status": 500, "code": "internal" });

    for method in [
        "listServiceAccountCredentials",
        "createServiceAccountCredential",
        "deleteServiceAccountCredential",
    ] {
        let request = json!({ "method": method, "fault": fault, "times": 1 });
        pipeline.sandbox.control("POST", "/faults", Some(request));
        let run = pipeline.rotate(&[]);

        if method == "deleteServiceAccountCredential" {
            let done = run.json();
            assert_eq!(done["not_deleted"].as_array().unwrap().len(), 1, "{done}");
            assert_eq!(pipeline.credentials().len(), 2);
        } else {
            assert_eq!(run.code, 7, "{method}: {run:?}");
        }

        pipeline.assert_works(method);
    }

    let done = pipeline.rotate(&[]).json();
    assert_eq!(done["deleted"].as_array().unwrap().len(), 2, "{done}");
    assert_eq!(pipeline.credentials().len(), 1);
}
