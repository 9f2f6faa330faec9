//! V6 and V7 for what is running: subscribers, and commands that cannot notice by themselves.

mod running;
mod signals;

use rolekeeper_tests::harness::{Home, SandboxProcess, eventually, world};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::running::Running;

fn said(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("said")).unwrap()
}

fn logout(home: &Home) {
    let run = home.rolekeeper(&["logout", "dev"]);
    assert_eq!(run.code, 0, "{run:?}");
}

/// Waits until a client other than the one that asks here is connected.
fn subscribed(home: &Home) {
    let connections =
        || home.rolekeeper(&["status", "--json"]).json()["daemon"]["connections"].as_u64();
    eventually("it has subscribed", || {
        (connections() == Some(2)).then_some(())
    });
}

fn resume(home: &Home) {
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
}

/// A command that says which credentials it has, and then waits.
const WAIT: [&str; 3] = [
    "sh",
    "-c",
    "echo $AWS_ACCESS_KEY_ID $ROLEKEEPER_PROFILE $AWS_PROFILE; exec sleep 600",
];

/// A command that counts how often it is told to end, and does so, with 7, when it was that often.
fn told(times: &str) -> [&str; 4] {
    let script = "trap 'n=$((n + 1)); echo $n; [ $n = $0 ] && exit 7' TERM; echo ready; while :; do sleep 600 & wait; done";
    ["sh", "-c", script, times]
}

fn exec<'a>(on_revoke: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["exec", "--on-revoke", on_revoke, "dev", "--"], command].concat()
}

#[test]
fn a_subscriber_is_told_how_things_are_and_of_every_change_also_by_the_next_daemon() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let mut watch = Running::start(&home, &["watch", "dev"]);
    assert_eq!(watch.json(), json!({ "profile": "dev", "generation": 0 }));
    home.rolekeeper(&["credential-process", "dev"]).json();
    let id = watch.json()["session"]["id"].as_str().unwrap().to_owned();
    logout(&home);
    let told = watch.json();
    assert_eq!(
        (&told["generation"], &told["held"]["session_id"]),
        (&1.into(), &id.clone().into())
    );
    assert_eq!(
        (&told["held"]["cause"], &told["session"]),
        (&"logged_out".into(), &Value::Null)
    );
    resume(&home);
    assert_eq!(watch.json()["held"], Value::Null);
    logout(&home);
    assert_eq!(watch.json()["generation"], 2);
    drop(daemon);
    let _daemon = home.daemon(&[]);
    assert_eq!(watch.json()["held"]["cause"], "logged_out");
    let nobody = home.rolekeeper(&["watch", "nobody"]);
    assert!(
        nobody.code == 2 && nobody.stderr.contains("there is no profile `nobody`"),
        "{nobody:?}"
    );
}

#[test]
fn a_command_has_the_credentials_and_its_own_exit_code() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    let mut command = home.client();
    command
        .env("AWS_PROFILE", "other")
        .env("AWS_SECURITY_TOKEN", "old")
        .args(["exec", "dev", "--"]);
    command.args([
        "sh",
        "-c",
        "echo $AWS_ACCESS_KEY_ID $AWS_PROFILE $AWS_SECURITY_TOKEN $ROLEKEEPER_PROFILE; exit 42",
    ]);
    let run = home.run(command);
    assert_eq!(
        (run.code, run.stdout.trim()),
        (
            42,
            format!("{} dev", ours["AccessKeyId"].as_str().unwrap()).as_str()
        )
    );
    for (arguments, code, word) in [
        (
            vec!["exec", "nobody", "--", "true"],
            2,
            "there is no profile",
        ),
        (
            vec!["exec", "dev", "--", "no-such-program"],
            127,
            "no-such-program: No such file",
        ),
        (vec!["exec", "dev"], 2, "<COMMAND>"),
        (exec("explode", &["true"]), 2, "invalid value 'explode'"),
    ] {
        let run = home.rolekeeper(&arguments);
        assert!(run.code == code && run.stderr.contains(word), "{run:?}");
    }
    let signalled = home.rolekeeper(&exec("warn", &["sh", "-c", "kill -USR1 $$"]));
    assert_eq!(signalled.code, 128 + 10);
    assert_eq!(
        home.rolekeeper(&exec("term", &["sh", "-c", "exit 42"]))
            .code,
        42
    );
}

#[test]
fn a_command_is_warned_of_ended_or_started_again_when_its_credentials_are_revoked() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let (mut warned, mut ended, mut again) = (
        Running::start(&home, &exec("warn", &WAIT)),
        Running::start(&home, &exec("term", &WAIT)),
        Running::start(&home, &exec("restart", &WAIT)),
    );
    let first = warned.line();
    assert!(
        first.starts_with("BYIA") && first.ends_with(" dev"),
        "{first}"
    );
    assert_eq!((ended.line(), again.line()), (first.clone(), first.clone()));
    logout(&home);
    assert_eq!(ended.code(), Some(6));
    eventually("all have said so", || {
        let said = said(&home);
        (said.matches("were revoked while the command ran").count() == 3
            && said.contains(
                "the command was terminated because the credentials of profile dev were revoked",
            )
            && said.contains("waiting to start the command"))
        .then_some(())
    });
    assert!(warned.runs(), "it goes on");
    resume(&home);
    let second = again.line();
    assert!(second.starts_with("BYIA") && second != first, "{second}");
    // Who is told to end ends its command.
    again.signal(Signal::TERM);
    assert_eq!(again.code(), Some(128 + 15));
}

#[test]
fn a_daemon_that_is_replaced_is_no_revocation_and_what_the_next_one_revokes_is_noticed_once() {
    let (_sandbox, home): (SandboxProcess, Home) = world();
    let mut daemon = home.daemon(&[]);
    // Up to a generation that no daemon begins with.
    logout(&home);
    resume(&home);
    let mut running = Running::start(&home, &exec("term", &told("1")));
    assert_eq!(running.line(), "ready");
    for _ in 0..2 {
        daemon.kill();
        daemon = home.daemon(&[]);
        subscribed(&home);
    }
    assert!(running.runs());
    logout(&home);
    assert_eq!(
        (running.rest(), running.code()),
        (vec!["1".to_owned()], Some(6))
    );
    assert!(said(&home).contains("rolekeeper resume dev"));
}

#[test]
fn a_reload_is_no_revocation_and_hides_none() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    logout(&home);
    resume(&home);
    let mut running = Running::start(&home, &exec("term", &told("1")));
    assert_eq!(running.line(), "ready");
    daemon.reload();
    subscribed(&home);
    assert!(running.runs());
    logout(&home);
    assert_eq!(
        (running.rest(), running.code()),
        (vec!["1".to_owned()], Some(6))
    );
}

#[test]
fn a_subscriber_starts_no_daemon_and_says_when_there_is_none_and_when_there_is_one_again() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let mut command = home.client();
    command.args(exec("warn", &WAIT));
    let mut running = Running::by(&home, command);
    running.line();
    assert_eq!(daemon.stop(), 0);
    eventually("it is said", || {
        said(&home).contains("are not reported until").then_some(())
    });
    assert_eq!(
        home.rolekeeper(&["status"]).code,
        3,
        "nobody has started another"
    );
    let _daemon = home.daemon(&[]);
    eventually("it is said", || {
        said(&home).contains("are reported again").then_some(())
    });
    logout(&home);
    eventually("it is noticed", || {
        said(&home)
            .contains("were revoked while the command ran")
            .then_some(())
    });
    assert_eq!(said(&home).matches("noticed").count(), 2, "{}", said(&home));
    assert!(running.runs());
}

#[test]
fn a_command_that_is_to_be_started_again_waits_for_an_upstream_that_is_away() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut running = Running::start(&home, &exec("restart", &WAIT));
    let first = running.line();
    logout(&home);
    eventually("it waits", || said(&home).contains("(held)").then_some(()));
    sandbox.fault(&json!({ "kind": "status", "status": 503 }));
    resume(&home);
    eventually("it waits on", || {
        said(&home).contains("(upstream_unavailable)").then_some(())
    });
    sandbox.clear_faults();
    assert_ne!(running.line(), first);
}

#[test]
fn a_command_is_told_when_its_session_ends_and_not_when_somebody_would_ask_again() {
    let (_sandbox, home) = world();
    home.configure_more("", "lease = \"strict\"");
    let _daemon = home.daemon(&[]);
    let asked_again = home.rolekeeper(&["credential-process", "dev"]).json()["Expiration"].clone();
    let ends = Running::start(&home, &["watch", "dev"]).json()["session"]["expires_at"].clone();
    let run = home.rolekeeper(&[
        "exec",
        "dev",
        "--",
        "sh",
        "-c",
        "echo $AWS_CREDENTIAL_EXPIRATION",
    ]);
    assert_eq!(run.stdout.trim(), ends, "{run:?}");
    assert_ne!(ends, asked_again);
}

#[test]
fn a_subscriber_ends_with_its_reader_though_nothing_changes() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let mut watch = Running::start(&home, &["watch", "dev"]);
    watch.json();
    watch.lines = None;
    assert_eq!(watch.code(), Some(0));
}
