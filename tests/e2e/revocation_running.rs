//! V6 and V7 for what is running: subscribers, and commands that cannot notice by themselves.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use rolekeeper_tests::harness::{Home, SandboxProcess, eventually, world};
use serde_json::Value;

/// A client that goes on running. It starts no daemon.
struct Running(Child, Lines<BufReader<ChildStdout>>);

impl Running {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.client();
        let log = std::fs::File::options().create(true).append(true).open(home.path().join("said")).unwrap();
        let mut child =
            command.env("ROLEKEEPER_AUTOSTART", "0").args(args).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    fn line(&mut self) -> String {
        self.1.next().expect("it says something").unwrap()
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("said")).unwrap()
}

fn logout(home: &Home) {
    let run = home.rolekeeper(&["logout", "dev"]);
    assert_eq!(run.code, 0, "{run:?}");
}

fn resume(home: &Home) {
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
}

/// A command that says which credentials it has, and then waits.
const WAIT: [&str; 3] = ["sh", "-c", "echo $AWS_ACCESS_KEY_ID $ROLEKEEPER_PROFILE $AWS_PROFILE; exec sleep 600"];

fn exec<'a>(on_revoke: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["exec", "--on-revoke", on_revoke, "dev", "--"], command].concat()
}

#[test]
fn a_subscriber_is_told_how_things_are_and_of_every_change_also_by_the_next_daemon() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let mut watch = Running::start(&home, &["watch", "dev"]);
    assert_eq!(watch.json(), serde_json::json!({ "profile": "dev", "generation": 0 }));
    home.rolekeeper(&["credential-process", "dev"]).json();
    let id = watch.json()["session"]["id"].as_str().unwrap().to_owned();
    logout(&home);
    let told = watch.json();
    assert_eq!((&told["generation"], &told["held"]["session_id"]), (&1.into(), &id.clone().into()));
    assert_eq!((&told["held"]["cause"], &told["session"]), (&"logged_out".into(), &Value::Null));
    resume(&home);
    assert_eq!(watch.json()["held"], Value::Null);
    logout(&home);
    assert_eq!(watch.json()["generation"], 2);
    drop(daemon);
    let _daemon = home.daemon(&[]);
    assert_eq!(watch.json()["held"]["cause"], "logged_out");
    let nobody = home.rolekeeper(&["watch", "nobody"]);
    assert!(nobody.code == 2 && nobody.stderr.contains("there is no profile `nobody`"), "{nobody:?}");
}

#[test]
fn a_command_has_the_credentials_and_its_own_exit_code() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let ours = home.rolekeeper(&["credential-process", "dev"]).json();
    let mut command = home.client();
    command.env("AWS_PROFILE", "other").env("AWS_SECURITY_TOKEN", "old").args(["exec", "dev", "--"]);
    command.args(["sh", "-c", "echo $AWS_ACCESS_KEY_ID $AWS_PROFILE $AWS_SECURITY_TOKEN $ROLEKEEPER_PROFILE; exit 42"]);
    let run = home.finish(command);
    assert_eq!((run.code, run.stdout.trim()), (42, format!("{} dev", ours["AccessKeyId"].as_str().unwrap()).as_str()));
    for (arguments, code, word) in [
        (vec!["exec", "nobody", "--", "true"], 2, "there is no profile"),
        (vec!["exec", "dev", "--", "no-such-program"], 2, "no-such-program cannot be started"),
        (vec!["exec", "dev"], 2, "<COMMAND>"),
        (exec("explode", &["true"]), 2, "invalid value 'explode'"),
    ] {
        let run = home.rolekeeper(&arguments);
        assert!(run.code == code && run.stderr.contains(word), "{run:?}");
    }
    let signalled = home.rolekeeper(&exec("warn", &["sh", "-c", "kill -USR1 $$"]));
    assert_eq!(signalled.code, 128 + 10);
    assert_eq!(home.rolekeeper(&exec("term", &["sh", "-c", "exit 42"])).code, 42);
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
    assert!(first.starts_with("BYIA") && first.ends_with(" dev"), "{first}");
    assert_eq!((ended.line(), again.line()), (first.clone(), first.clone()));
    logout(&home);
    assert_eq!(ended.0.wait().unwrap().code(), Some(6));
    eventually("all have said so", || {
        let said = said(&home);
        (said.matches("were revoked while the command ran").count() >= 3
            && said.contains("the command is started then"))
        .then_some(())
    });
    assert!(warned.0.try_wait().unwrap().is_none(), "it goes on");
    resume(&home);
    let second = again.line();
    assert!(second.starts_with("BYIA") && second != first, "{second}");
    // Who is told to end ends its command.
    let pid = rustix::process::Pid::from_child(&again.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(again.0.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_daemon_that_is_replaced_is_no_revocation() {
    let (_sandbox, home): (SandboxProcess, Home) = world();
    let mut daemon = home.daemon(&[]);
    logout(&home);
    resume(&home);
    let mut running = Running::start(&home, &exec("term", &WAIT));
    running.line();
    daemon.kill();
    let _daemon = home.daemon(&[]);
    home.rolekeeper(&["credential-process", "dev"]).json();
    assert!(running.0.try_wait().unwrap().is_none());
}
