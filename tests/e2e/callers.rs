//! Caller rules: which programs may use a profile.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, programs, which, world};

use crate::approve::{pending_approval, run_on_terminal};

/// A home whose profile `dev` has more lines of configuration, such as a caller rule.
pub(crate) fn only_for(rule: &str) -> (SandboxProcess, Home) {
    let (sandbox, home) = world();
    home.configure_more("", rule);

    (sandbox, home)
}

/// Runs `rolekeeper credential-process dev` as a child of a program.
fn run_by(home: &Home, program: &Path, arguments: &[&str]) -> Run {
    let mut command = home.command(program);
    command
        .env("ROLEKEEPER_AUTOSTART", "0")
        .args(arguments)
        .arg(&programs().rolekeeper);
    command.args(["credential-process", "dev"]);

    home.run(command)
}

fn refused(run: &Run, message: &str) {
    assert!(
        run.code == 4 && run.stdout.is_empty() && run.stderr.contains("(not_allowed)"),
        "{run:?}"
    );
    assert!(run.stderr.contains(message), "{message}: {run:?}");
}

#[test]
fn exec_names_its_caller_and_the_rule_to_add() {
    let timeout = which("timeout");
    let test = std::env::current_exe().unwrap();
    let (_sandbox, home) = only_for(&format!("callers = [{{ exe = {timeout:?} }}]"));
    let daemon = home.daemon(&[]);
    let exec = |home: &Home| home.rolekeeper(&["exec", "dev", "--", "timeout", "9", "true"]);

    let run = exec(&home);
    refused(
        &run,
        &format!("profile dev does not allow {}", test.display()),
    );
    let (_, hint) = run.stderr.split_once("not for its command: add ").unwrap();
    let (rule, _) = hint.split_once(" to `callers` of [profile.dev]").unwrap();
    drop(daemon);

    let (_sandbox, home) = only_for(&format!("callers = [{rule}]"));
    let _daemon = home.daemon(&[]);
    let run = exec(&home);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn exe_rule_matches_program_past_client_and_shells() {
    let timeout = which("timeout");
    let test = std::env::current_exe().unwrap();
    let (sandbox, home) = only_for(&format!("callers = [{{ exe = {timeout:?} }}]"));
    let _daemon = home.daemon(&[]);

    let direct = home.rolekeeper(&["credential-process", "dev"]);
    refused(
        &direct,
        &format!("profile dev does not allow {}", test.display()),
    );
    assert!(
        direct
            .stderr
            .contains("try: add the program to `callers` of [profile.dev]"),
        "{direct:?}"
    );
    assert_eq!(
        sandbox.calls("assumeRole"),
        0,
        "no session was fetched for the refused caller"
    );
    assert_eq!(run_by(&home, &timeout, &["20"]).code, 0);

    let shell = "\"$0\" credential-process dev; exit $?";
    let mut through = home.command(&timeout);
    through
        .args(["20", "sh", "-c", shell])
        .arg(&programs().rolekeeper)
        .env("ROLEKEEPER_AUTOSTART", "0");

    assert_eq!(
        home.run(through).code,
        0,
        "the rule also matches past a shell"
    );

    // A copy has the same name and the same content; only its folder differs.
    let copy = home.copy_of(&timeout);
    refused(&run_by(&home, &copy, &["20"]), "profile dev does not allow");

    // The daemon's user needs no rule for commands that give no credentials.
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
    assert_eq!(home.rolekeeper(&["audit", "dev"]).code, 0);

    let over_http = run_http_by(&home, &timeout);
    refused(&over_http, "HTTP does not identify the caller");
}

fn run_http_by(home: &Home, program: &Path) -> Run {
    let mut command = home.command(program);
    command
        .args(["20"])
        .arg(&programs().rolekeeper)
        .args(["exec", "dev", "--mode", "http", "--", "true"]);
    command.env("ROLEKEEPER_AUTOSTART", "0");

    home.run(command)
}

#[test]
fn hash_rule_matches_content_and_all_conditions_must_match() {
    let timeout = which("timeout");
    let output = Command::new("sha256sum").arg(&timeout).output().unwrap();
    let hash = String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();

    let (_sandbox, home) = only_for(&format!(
        "callers = [{{ sha256 = \"{hash}\", terminal = false }}]"
    ));
    let copy = home.copy_of(&timeout);

    {
        let _daemon = home.daemon(&[]);

        assert_eq!(run_by(&home, &copy, &["20"]).code, 0);
        refused(
            &home.rolekeeper(&["credential-process", "dev"]),
            "profile dev does not allow",
        );

        // Other content at the same path.
        fs::OpenOptions::new()
            .append(true)
            .open(&copy)
            .unwrap()
            .write_all(b"\0")
            .unwrap();

        refused(&run_by(&home, &copy, &["20"]), "profile dev does not allow");
    }

    let (_sandbox, home) = only_for(&format!(
        "callers = [{{ exe = {timeout:?}, unit = \"no-such.service\" }}]"
    ));
    let _daemon = home.daemon(&[]);

    refused(
        &run_by(&home, &timeout, &["20"]),
        "profile dev does not allow",
    );
}

/// Root of another pid namespace can name any process of that namespace as the sender of its
/// messages.
#[test]
#[ignore = "needs unprivileged user namespaces"]
fn process_in_other_pid_namespace_is_refused() {
    let timeout = which("timeout");
    let (_sandbox, home) = only_for(&format!("callers = [{{ exe = {timeout:?} }}]"));
    let _daemon = home.daemon(&[]);

    let in_new_namespace = |more: &[&str]| {
        let arguments = [
            &["--map-root-user", "--user"],
            more,
            &[timeout.to_str().unwrap(), "20"],
        ]
        .concat();

        run_by(&home, &which("unshare"), &arguments)
    };

    let other_user_namespace = in_new_namespace(&[]);
    assert_eq!(
        other_user_namespace.code, 0,
        "allow user namespaces for this test: {other_user_namespace:?}"
    );
    refused(
        &in_new_namespace(&["--pid", "--fork"]),
        "cannot identify the calling program",
    );
}

#[test]
fn iam_cannot_bypass_caller_rules() {
    for rule in [
        "callers = [{ exe = \"/usr/bin/no-such-program\" }]",
        "confirm = \"first\"",
    ] {
        let (sandbox, home) = only_for(rule);
        let _daemon = home.daemon(&[]);

        let role = sandbox.role("S3ReadOnly");
        let run = home.rolekeeper(&["iam", "assumeRole", "--role-id", role]);
        refused(&run, "returns credentials, and some profiles of upstream");
        assert_eq!(sandbox.calls("assumeRole"), 0);
        assert_eq!(
            home.rolekeeper(&["iam", "listRoles"]).code,
            0,
            "methods that change nothing are allowed"
        );
    }

    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    assert_eq!(
        home.rolekeeper(&["iam", "assumeRole", "--role-id", sandbox.role("S3ReadOnly")])
            .code,
        0
    );
}

/// The attack: attach a policy to a role that no rule guards, and then assume the guarded one with it.
#[test]
fn iam_changes_need_approval_beside_a_guarded_profile() {
    let (sandbox, home) = only_for("callers = [{ exe = \"/usr/bin/no-such-program\" }]");
    let _daemon = home.daemon(&[]);

    let policies = home.rolekeeper(&["iam", "listPolicies"]).json();
    let policy = policies["items"][0]["id"].as_str().unwrap().to_owned();
    let role = sandbox.role("S3ReadOnly");
    let attach = || {
        let mut command = home.command(&PathBuf::from("timeout"));
        command
            .arg("100")
            .arg(&programs().rolekeeper)
            .args(["iam", "attachRolePolicy", "--role-id", role])
            .args(["--policy-id", &policy])
            .env("ROLEKEEPER_AUTOSTART", "0");
        home.run(command)
    };

    // Each call is another question, also after a yes.
    for calls in 1..=2 {
        thread::scope(|scope| {
            let asking = scope.spawn(attach);
            pending_approval(&home);
            let done = run_on_terminal(&home, &["approve"], "Allow it? [y/n]", "y\r");
            assert!(
                done.stdout
                    .contains("which could bypass the rules of profile dev"),
                "{done:?}"
            );
            asking.join().unwrap();
        });
        assert_eq!(sandbox.calls("attachRolePolicy"), calls);
    }

    // A denial prevents further questions for a while: this is last.
    thread::scope(|scope| {
        let asking = scope.spawn(attach);
        let pending = pending_approval(&home);
        let call = pending["call"].as_str().unwrap();
        assert!(
            call.contains(&format!(
                "attachRolePolicy (role_id={role}, policy_id={policy})"
            )),
            "{pending}"
        );
        let id = pending["id"].to_string();
        assert_eq!(home.rolekeeper(&["approve", &id, "--deny"]).code, 0);
        refused(&asking.join().unwrap(), "requires approval: denied");
    });
    assert_eq!(sandbox.calls("attachRolePolicy"), 2);
}
