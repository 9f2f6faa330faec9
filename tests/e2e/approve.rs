//! Profiles with `confirm`: a person approves each program. No answer means denied.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rolekeeper_tests::harness::raw_client::request_lease;
use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually, programs, which, world};
use serde_json::Value;

fn world_with_confirm(confirm: &str) -> (SandboxProcess, Home) {
    let (sandbox, home) = world();
    home.configure_more("", &format!("confirm = \"{confirm}\""));

    (sandbox, home)
}

/// Requests a lease by another program than this test, which answers the approval.
fn ask(home: &Home) -> Run {
    home.run(request_by(home, Path::new("timeout")))
}

/// `timeout` may be a copy of that program.
fn request_by(home: &Home, timeout: &Path) -> Command {
    let mut command = home.command(timeout);
    command
        .arg("100")
        .arg(&programs().rolekeeper)
        .args(["credential-process", "dev"]);
    command.env("ROLEKEEPER_AUTOSTART", "0");

    command
}

pub(crate) fn pending_approval(home: &Home) -> Value {
    eventually("an approval is pending", || {
        let pending = home.rolekeeper(&["approve", "--json"]).json();
        pending["pending"].get(0).cloned()
    })
}

/// Runs `rolekeeper` in a session and on a terminal of its own, as a person does.
pub(crate) fn run_on_terminal(home: &Home, args: &[&str], question: &str, typed: &str) -> Run {
    let mut command = home.command(&PathBuf::from("setsid"));
    command
        .args(["--ctty", "--wait"])
        .arg(&programs().rolekeeper)
        .args(args)
        .env("ROLEKEEPER_AUTOSTART", "0");

    home.on_terminal_when(command, question, typed)
}

#[test]
fn approval_is_valid_for_the_shown_program_only() {
    let (sandbox, home) = world_with_confirm("first");
    let daemon = home.daemon(&[]);

    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&home));
        let pending = pending_approval(&home);
        let program = pending["program"].as_str().unwrap();
        assert!(
            program.contains("timeout (process ") && program.contains(", by "),
            "{pending}"
        );
        assert_eq!(
            (&pending["profile"], &pending["uid"]),
            (&"dev".into(), &rustix::process::geteuid().as_raw().into())
        );
        assert_eq!(
            sandbox.calls("assumeRole"),
            0,
            "no session is fetched before the approval"
        );

        let id = pending["id"].to_string();
        let without_terminal = home.rolekeeper(&["approve", &id]);
        assert!(
            without_terminal.code == 4
                && without_terminal
                    .stderr
                    .contains("an approval must come from a terminal"),
            "{without_terminal:?}"
        );

        let done = run_on_terminal(&home, &["approve"], "Allow it? [y/n]", "y\r");
        assert!(
            done.code == 0 && done.stdout.contains("asks for profile dev"),
            "{done:?}"
        );
        assert_eq!(asking.join().unwrap().code, 0);
    });

    assert_eq!(ask(&home).code, 0, "one approval is enough");
    assert_eq!(
        home.rolekeeper(&["approve"]).stdout,
        "no pending approvals\n"
    );
    assert!(
        daemon
            .log()
            .contains("approval required: rolekeeper approve"),
        "{}",
        daemon.log()
    );

    // Another program needs another approval.
    thread::scope(|scope| {
        let asking = scope.spawn(|| home.rolekeeper(&["credential-process", "dev"]));
        let id = pending_approval(&home)["id"].to_string();
        let own = run_on_terminal(&home, &["approve"], "Allow it? [y/n]", "y\r");
        assert_eq!(own.code, 4, "this program asks: {own:?}");
        let refused = home.rolekeeper(&["approve", &id, "--deny"]);
        assert_eq!(
            (refused.code, refused.stdout),
            (0, format!("{id}: denied\n"))
        );

        let run = asking.join().unwrap();
        assert!(
            run.code == 4 && run.stderr.contains("requires approval: denied"),
            "{run:?}"
        );
    });

    let again = home.rolekeeper(&["credential-process", "dev"]);
    assert!(
        again.code == 4
            && again
                .stderr
                .contains("requires approval: denied a moment ago"),
        "{again:?}"
    );
}

#[test]
fn always_asks_each_time() {
    let (_sandbox, home) = world_with_confirm("always");
    let _daemon = home.daemon(&[]);

    for _ in 0..2 {
        thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&home));
            let id = pending_approval(&home)["id"].to_string();
            assert_eq!(
                run_on_terminal(&home, &["approve", &id], "allowed", "").code,
                0
            );
            assert_eq!(asking.join().unwrap().code, 0);
        });
    }

    // Two requests at once are two approvals. Each answer is for the id that it names.
    thread::scope(|scope| {
        let asking = [scope.spawn(|| ask(&home)), scope.spawn(|| ask(&home))];

        let ids = eventually("both approvals are pending", || {
            let pending = home.rolekeeper(&["approve", "--json"]).json();
            let ids: Vec<_> = pending["pending"]
                .as_array()
                .unwrap()
                .iter()
                .map(|each| each["id"].to_string())
                .collect();
            (ids.len() == 2).then_some(ids)
        });

        assert_eq!(
            run_on_terminal(&home, &["approve", &ids[0]], "allowed", "").code,
            0
        );
        assert_eq!(home.rolekeeper(&["approve", &ids[1], "--deny"]).code, 0);

        let mut codes = asking.map(|asking| asking.join().unwrap().code);
        codes.sort_unstable();
        assert_eq!(codes, [0, 4]);
    });
}

/// The requester starts its own approver on a terminal. The daemon refuses it, because the requester
/// is its ancestor.
#[test]
fn requester_cannot_approve_itself() {
    let (_sandbox, home) = world_with_confirm("always");
    let _daemon = home.daemon(&[]);

    let script = "\"$0\" credential-process dev & sleep 0.1; n=100; \
                  while [ $n -gt 0 ] && ! \"$0\" approve </dev/null | grep -q asks; do n=$((n-1)); done; \
                  setsid --ctty --wait \"$0\" approve 1 2>&1; \"$0\" approve 1 --deny; wait";
    let mut command = Command::new("env");
    command
        .args(["sh", "-c", script])
        .arg(&programs().rolekeeper);
    home.set_env(&mut command);
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .stderr(Stdio::null());
    let run = home.on_terminal(command, 120, "");
    assert!(
        run.stdout
            .contains("must come from a terminal that the requesting program did not start"),
        "{run:?}"
    );
    assert!(run.stdout.contains("1: denied"), "{run:?}");
}

/// A program that asks again under another path would otherwise ask until a person allows it.
#[test]
fn after_a_no_nobody_is_asked_for_a_while() {
    let (_sandbox, home) = world_with_confirm("first");
    let _daemon = home.daemon(&[]);
    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&home));
        let id = pending_approval(&home)["id"].to_string();
        assert_eq!(home.rolekeeper(&["approve", &id, "--deny"]).code, 0);
        assert_eq!(asking.join().unwrap().code, 4);
    });

    let another = home.copy_of(&which("timeout"));
    let refused = home.run(request_by(&home, &another));
    assert!(
        refused.code == 4 && refused.stderr.contains("denied a moment ago"),
        "{refused:?}"
    );
    assert_eq!(
        home.rolekeeper(&["approve"]).stdout,
        "no pending approvals\n"
    );
}

/// Each question interrupts a person. One of a client that has gone away counts, too.
#[test]
fn questions_are_limited() {
    let (_sandbox, home) = world_with_confirm("always");
    let daemon = home.daemon(&[]);

    for _ in 0..20 {
        let mut stream = UnixStream::connect(home.socket()).unwrap();
        request_lease(&mut stream).unwrap();
        // A client that has sent more is noticed to be gone, too.
        stream.write_all(&[0, 0]).unwrap();
        drop(stream);
        eventually("its slot is free", || {
            let pending = home.rolekeeper(&["approve"]).stdout;
            (pending == "no pending approvals\n").then_some(())
        });
    }

    let asked = daemon.log().matches("approval required").count();
    assert!((3..=6).contains(&asked), "{asked}");
    let refused = ask(&home);
    assert!(
        refused.code == 3 && refused.stderr.contains("(busy)"),
        "{refused:?}"
    );
}

/// The attack: a yes for one script is used by another script of the same interpreter.
#[test]
fn approval_of_an_interpreter_is_for_one_request() {
    let (_sandbox, home) = world_with_confirm("first");
    let _daemon = home.daemon(&[]);
    let python = home.path().join("python3");
    std::fs::rename(home.copy_of(&which("timeout")), &python).unwrap();
    let ask = || {
        let mut command = home.command(&python);
        command
            .arg("100")
            .arg(&programs().rolekeeper)
            .args(["credential-process", "dev"])
            .env("ROLEKEEPER_AUTOSTART", "0");
        home.run(command)
    };

    for _ in 0..2 {
        thread::scope(|scope| {
            let asking = scope.spawn(ask);
            let pending = pending_approval(&home);
            let program = pending["program"].as_str().unwrap();
            assert!(program.ends_with(", with an unknown script"), "{pending}");
            let id = pending["id"].to_string();
            run_on_terminal(&home, &["approve", &id], "allowed", "");
            assert_eq!(asking.join().unwrap().code, 0);
        });
    }
}

#[test]
fn approve_unknown_id_is_an_error() {
    let (_sandbox, home) = world_with_confirm("15m");
    let _daemon = home.daemon(&[]);

    let none = home.rolekeeper(&["approve", "7"]);
    assert!(
        none.code == 2 && none.stderr.contains("no pending approval 7"),
        "{none:?}"
    );
}

/// Ctrl-C at the tool: no process would receive the approved credentials.
#[test]
fn request_of_a_client_that_is_gone_is_withdrawn() {
    let (sandbox, home) = world_with_confirm("first");
    let _daemon = home.daemon(&[]);
    let mut asking = home
        .command(&programs().rolekeeper)
        .args(["credential-process", "dev"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let id = pending_approval(&home)["id"].to_string();

    asking.kill().unwrap();
    asking.wait().unwrap();
    eventually("nothing is pending", || {
        let pending = home.rolekeeper(&["approve"]).stdout;
        (pending == "no pending approvals\n").then_some(())
    });

    let late = home.rolekeeper(&["approve", &id, "--deny"]);
    assert!(
        late.code != 0 && late.stderr.contains("no pending"),
        "{late:?}"
    );
    assert_eq!(sandbox.calls("assumeRole"), 0);
    eventually("the withdrawal is journalled", || {
        let journal = home.rolekeeper(&["journal", "--json"]).stdout;
        journal.contains("withdrawn").then_some(())
    });
}
