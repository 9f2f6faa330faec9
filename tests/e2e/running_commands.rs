//! Revocation while commands run: `watch` prints it, `exec --on-revoke` warns, ends or restarts the
//! command.

mod client_process;
mod signals;

use rolekeeper_tests::harness::{Home, SandboxProcess, eventually, world};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::client_process::ClientProcess;

fn stderr_of_clients(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("stderr")).unwrap()
}

fn logout(home: &Home) {
    let run = home.rolekeeper(&["logout", "dev"]);
    assert_eq!(run.code, 0, "{run:?}");
}

/// Waits until a client is connected besides the one that reads the status.
fn await_subscription(home: &Home) {
    let connections =
        || home.rolekeeper(&["status", "--json"]).json()["daemon"]["connections"].as_u64();
    eventually("the client has subscribed", || {
        (connections() == Some(2)).then_some(())
    });
}

fn resume(home: &Home) {
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
}

/// A command that prints its credentials and waits.
const PRINT_AND_WAIT: [&str; 3] = [
    "sh",
    "-c",
    "echo $AWS_ACCESS_KEY_ID $ROLEKEEPER_PROFILE $AWS_PROFILE; exec sleep 600",
];

/// A command that counts SIGTERM, and exits with 7 at the given count.
fn count_sigterm(times: &str) -> [&str; 4] {
    let script = "trap 'n=$((n + 1)); echo $n; [ $n = $0 ] && exit 7' TERM; echo ready; while :; do sleep 600 & wait; done";
    ["sh", "-c", script, times]
}

fn exec<'a>(on_revoke: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["exec", "--on-revoke", on_revoke, "dev", "--"], command].concat()
}

#[test]
fn watch_prints_each_change_also_after_restart() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let mut watch = ClientProcess::start(&home, &["watch", "dev"]);
    assert_eq!(watch.json(), json!({ "profile": "dev", "generation": 0 }));

    home.rolekeeper(&["credential-process", "dev"]).json();
    let id = watch.json()["session"]["id"].as_str().unwrap().to_owned();
    logout(&home);
    let event = watch.json();
    assert_eq!(
        (&event["generation"], &event["held"]["session_id"]),
        (&1.into(), &id.clone().into())
    );
    assert_eq!(
        (&event["held"]["cause"], &event["session"]),
        (&"logged_out".into(), &Value::Null)
    );

    resume(&home);
    assert_eq!(watch.json()["held"], Value::Null);

    logout(&home);
    assert_eq!(watch.json()["generation"], 2);

    drop(daemon);
    let _daemon = home.daemon(&[]);

    assert_eq!(watch.json()["held"]["cause"], "logged_out");

    let unknown = home.rolekeeper(&["watch", "nobody"]);
    assert!(
        unknown.code == 2 && unknown.stderr.contains("there is no profile `nobody`"),
        "{unknown:?}"
    );
}

#[test]
fn exec_passes_credentials_and_exit_code() {
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
        let mut client = home.client();
        client
            .env("ROLEKEEPER_AUTOSTART", "0")
            // A folder in `PATH` that is closed to this user would give 126.
            .env("PATH", "/usr/bin:/bin")
            .args(arguments);
        let run = home.run(client);
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
fn revocation_warns_ends_or_restarts_the_command() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut warned = ClientProcess::start(&home, &exec("warn", &PRINT_AND_WAIT));
    let mut ended = ClientProcess::start(&home, &exec("term", &PRINT_AND_WAIT));
    let mut restarted = ClientProcess::start(&home, &exec("restart", &PRINT_AND_WAIT));
    let first = warned.line();
    assert!(
        first.starts_with("BYIA") && first.ends_with(" dev"),
        "{first}"
    );
    assert_eq!(
        (ended.line(), restarted.line()),
        (first.clone(), first.clone())
    );

    logout(&home);
    assert_eq!(ended.code(), Some(6));

    eventually("all three clients report the revocation", || {
        let text = stderr_of_clients(&home);
        (text.matches("were revoked while the command ran").count() == 3
            && text.contains(
                "the command was terminated because the credentials of profile dev were revoked",
            )
            && text.contains("waiting to start the command"))
        .then_some(())
    });

    assert!(warned.is_running(), "the command keeps running");

    resume(&home);
    let second = restarted.line();
    assert!(second.starts_with("BYIA") && second != first, "{second}");

    // SIGTERM ends the client and its command.
    restarted.signal(Signal::TERM);
    assert_eq!(restarted.code(), Some(128 + 15));
}

#[test]
fn daemon_restart_is_no_revocation() {
    let (_sandbox, home): (SandboxProcess, Home) = world();
    let mut daemon = home.daemon(&[]);

    // The generation is higher than that of a fresh daemon.
    logout(&home);
    resume(&home);
    let mut running = ClientProcess::start(&home, &exec("term", &count_sigterm("1")));
    assert_eq!(running.line(), "ready");

    for _ in 0..2 {
        daemon.kill();
        daemon = home.daemon(&[]);
        await_subscription(&home);
    }

    assert!(running.is_running());

    logout(&home);
    assert_eq!(
        (running.rest(), running.code()),
        (vec!["1".to_owned()], Some(6))
    );
    assert!(stderr_of_clients(&home).contains("rolekeeper resume dev"));
}

#[test]
fn reload_is_no_revocation() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    logout(&home);
    resume(&home);
    let mut running = ClientProcess::start(&home, &exec("term", &count_sigterm("1")));
    assert_eq!(running.line(), "ready");

    daemon.reload();
    await_subscription(&home);
    assert!(running.is_running());

    logout(&home);
    assert_eq!(
        (running.rest(), running.code()),
        (vec!["1".to_owned()], Some(6))
    );
}

#[test]
fn exec_reports_lost_and_restored_daemon() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);

    let mut command = home.client();
    command.args(exec("warn", &PRINT_AND_WAIT));
    let mut running = ClientProcess::start_by(&home, command);
    running.line();
    assert_eq!(daemon.stop(), 0);

    eventually("the client reports it", || {
        stderr_of_clients(&home)
            .contains("are not reported until")
            .then_some(())
    });

    assert_eq!(
        home.rolekeeper(&["status"]).code,
        3,
        "the client starts no daemon"
    );

    let _daemon = home.daemon(&[]);

    eventually("the client reports it", || {
        stderr_of_clients(&home)
            .contains("are reported again")
            .then_some(())
    });

    logout(&home);

    eventually("the client reports the revocation", || {
        stderr_of_clients(&home)
            .contains("were revoked while the command ran")
            .then_some(())
    });

    assert_eq!(
        stderr_of_clients(&home)
            .matches("connected; changes of profile dev")
            .count(),
        2,
        "{}",
        stderr_of_clients(&home)
    );
    assert!(running.is_running());
}

/// Another program listens on the port while no daemon runs: the command would take its credentials.
#[test]
fn exec_notices_that_its_endpoint_is_elsewhere() {
    let (_sandbox, home) = world();
    let mut daemon = home.daemon(&[]);
    let start = |on_revoke: &str| {
        let script = "echo $AWS_CONTAINER_CREDENTIALS_FULL_URI; exec sleep 600";
        let args = exec(on_revoke, &["sh", "-c", script]);
        let args = [&args[..1], &["--mode", "http"], &args[1..]].concat();
        let mut running = ClientProcess::start(&home, &args);
        let url = running.line();
        let host = url.split('/').nth(2).unwrap().to_owned();
        (running, host)
    };

    let (mut warned, host) = start("warn");
    let (mut terminated, _) = start("term");
    let (mut restarted, _) = start("restart");

    // The same port is no loss.
    daemon.kill();
    daemon = home.daemon(&[]);
    eventually("the clients have subscribed", || {
        let status = home.rolekeeper(&["status", "--json"]).json();
        (status["daemon"]["connections"] == 4).then_some(())
    });
    for running in [&mut warned, &mut terminated, &mut restarted] {
        assert!(running.is_running());
    }
    assert!(!stderr_of_clients(&home).contains("another program may answer"));

    daemon.kill();
    let _other = std::net::TcpListener::bind(&host).unwrap();
    let _daemon = home.daemon(&[]);

    assert_eq!(terminated.code(), Some(3));
    assert!(!restarted.line().contains(&host));
    let words =
        format!("the command uses http://{host}/credentials/dev, where another program may answer");
    eventually("all of them have printed it", || {
        (stderr_of_clients(&home).matches(&words).count() == 3).then_some(())
    });
    assert!(warned.is_running());
}

#[test]
fn restart_waits_for_unavailable_upstream() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut running = ClientProcess::start(&home, &exec("restart", &PRINT_AND_WAIT));
    let first = running.line();
    logout(&home);
    eventually("the client waits for the hold to end", || {
        stderr_of_clients(&home).contains("(held)").then_some(())
    });
    sandbox.fault(&json!({ "kind": "status", "status": 503 }));
    resume(&home);

    eventually("the client waits for the upstream", || {
        stderr_of_clients(&home)
            .contains("(upstream_unavailable)")
            .then_some(())
    });

    sandbox.clear_faults();
    assert_ne!(running.line(), first);
}

#[test]
fn exec_gives_session_expiry_not_lease_expiry() {
    let (_sandbox, home) = world();
    home.configure_more("", "lease = \"strict\"");
    let _daemon = home.daemon(&[]);

    let lease_expiry = home.rolekeeper(&["credential-process", "dev"]).json()["Expiration"].clone();
    let session_expiry =
        ClientProcess::start(&home, &["watch", "dev"]).json()["session"]["expires_at"].clone();

    let run = home.rolekeeper(&[
        "exec",
        "dev",
        "--",
        "sh",
        "-c",
        "echo $AWS_CREDENTIAL_EXPIRATION",
    ]);

    assert_eq!(run.stdout.trim(), session_expiry, "{run:?}");
    assert_ne!(session_expiry, lease_expiry);
}

#[test]
fn watch_ends_when_its_reader_closes() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let mut watch = ClientProcess::start(&home, &["watch", "dev"]);
    watch.json();
    watch.lines = None;
    assert_eq!(watch.code(), Some(0));
}
