//! A profile that wants a person's word is given on that alone, to the program that it was about, and nobody's word is no.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually, programs, world};
use serde_json::Value;

fn wanting(confirm: &str) -> (SandboxProcess, Home) {
    let (sandbox, home) = world();
    home.configure_more("", &format!("confirm = \"{confirm}\""));
    (sandbox, home)
}

/// A lease for a program that is not this one, which is to give the answer.
fn ask(home: &Home) -> Run {
    let mut command = home.command(&PathBuf::from("timeout"));
    command
        .arg("100")
        .arg(&programs().rolekeeper)
        .args(["credential-process", "dev"]);
    command.env("ROLEKEEPER_AUTOSTART", "0");
    home.run(command)
}

pub(crate) fn waiting(home: &Home) -> Value {
    eventually("somebody is asked", || {
        let asked = home.rolekeeper(&["approve", "--json"]).json();
        asked["pending"].get(0).cloned()
    })
}

/// With a terminal of one's own, as a person has it.
pub(crate) fn at_terminal(home: &Home, args: &[&str], question: &str, typed: &str) -> Run {
    let mut command = home.command(&PathBuf::from("setsid"));
    command
        .args(["--ctty", "--wait"])
        .arg(&programs().rolekeeper)
        .args(args)
        .env("ROLEKEEPER_AUTOSTART", "0");
    home.on_terminal_when(command, question, typed)
}

#[test]
fn a_yes_is_good_for_the_program_that_was_shown() {
    let (sandbox, home) = wanting("first");
    let daemon = home.daemon(&[]);
    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&home));
        let asked = waiting(&home);
        let program = asked["program"].as_str().unwrap();
        assert!(
            program.contains("timeout (process ") && program.contains(", by "),
            "{asked}"
        );
        assert_eq!(
            (&asked["profile"], &asked["uid"]),
            (&"dev".into(), &rustix::process::geteuid().as_raw().into())
        );
        assert_eq!(sandbox.calls("assumeRole"), 0, "nothing is fetched before");
        let id = asked["id"].to_string();
        let by_program = home.rolekeeper(&["approve", &id]);
        assert!(
            by_program.code == 4 && by_program.stderr.contains("must come from a terminal"),
            "{by_program:?}"
        );
        let done = at_terminal(&home, &["approve"], "Allow it? [y/n]", "y\r");
        assert!(
            done.code == 0 && done.stdout.contains("asks for profile dev"),
            "{done:?}"
        );
        assert_eq!(asking.join().unwrap().code, 0);
    });
    assert_eq!(ask(&home).code, 0, "it is not asked about again");
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
    // Another program is another question.
    thread::scope(|scope| {
        let asking = scope.spawn(|| home.rolekeeper(&["credential-process", "dev"]));
        let id = waiting(&home)["id"].to_string();
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
fn always_means_every_request_and_who_asks_cannot_answer() {
    let (_sandbox, home) = wanting("always");
    let _daemon = home.daemon(&[]);
    for _ in 0..2 {
        thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&home));
            let id = waiting(&home)["id"].to_string();
            assert_eq!(at_terminal(&home, &["approve", &id], "allowed", "").code, 0);
            assert_eq!(asking.join().unwrap().code, 0);
        });
    }
    // Two at once are two questions, and a yes is for the one that was shown.
    thread::scope(|scope| {
        let asking = [scope.spawn(|| ask(&home)), scope.spawn(|| ask(&home))];
        let ids = eventually("both are asked", || {
            let asked = home.rolekeeper(&["approve", "--json"]).json();
            let ids: Vec<_> = asked["pending"]
                .as_array()
                .unwrap()
                .iter()
                .map(|each| each["id"].to_string())
                .collect();
            (ids.len() == 2).then_some(ids)
        });
        assert_eq!(
            at_terminal(&home, &["approve", &ids[0]], "allowed", "").code,
            0
        );
        assert_eq!(home.rolekeeper(&["approve", &ids[1], "--deny"]).code, 0);
        let mut codes = asking.map(|asking| asking.join().unwrap().code);
        codes.sort_unstable();
        assert_eq!(codes, [0, 4]);
    });
    // It has a terminal, and everything else that a person has; but it is started by what asks.
    let script = "\"$0\" credential-process dev & sleep 0.1; n=100; \
                  while [ $n -gt 0 ] && ! \"$0\" approve </dev/null | grep -q asks; do n=$((n-1)); done; \
                  setsid --ctty --wait \"$0\" approve 5 2>&1; \"$0\" approve 5 --deny; wait";
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
    assert!(run.stdout.contains("5: denied"), "{run:?}");
}

#[test]
fn what_is_not_asked_cannot_be_answered() {
    let (_sandbox, home) = wanting("15m");
    let _daemon = home.daemon(&[]);
    let none = home.rolekeeper(&["approve", "7"]);
    assert!(
        none.code == 2 && none.stderr.contains("no pending approval 7"),
        "{none:?}"
    );
}
