//! A hint is a command that works as printed. Each test makes a situation with the real programs, takes the command out
//! of what they print, runs it in a shell, and checks that the situation is better.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rolekeeper_tests::harness::{Endpoint, Home, Run, SandboxProcess, eventually, programs, world};
use rustix::process::Signal;
use serde_json::json;

use crate::approve::{pending_approval, run_on_terminal};
use crate::callers::only_for;

/// The hint of an error.
fn hint(run: &Run) -> &str {
    let hint = run.stderr.split_once("\n  try: ");
    hint.unwrap_or_else(|| panic!("{run:?}")).1.trim_end()
}

/// The part of a text between two others. Without an end, the text up to the end of its line.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("{start:?} is not in {text:?}"));
    let end = if end.is_empty() { "\n" } else { end };

    rest.split(end).next().unwrap_or(rest)
}

fn command_in<'a>(run: &'a Run, end: &str) -> &'a str {
    between(hint(run), "run ", end)
}

/// A shell as the user's own, with the programs in `PATH`.
fn shell(home: &Home, script: &str) -> Command {
    let folder = programs().rolekeeper.canonicalize().unwrap();
    let mut path = OsString::from(folder.parent().unwrap());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());

    let mut command = home.command(Path::new("sh"));
    command
        .env("PATH", path)
        .env("ROLEKEEPER_AUTOSTART", "0")
        .args(["-c", script]);

    command
}

fn run(home: &Home, script: &str) -> Run {
    home.run(shell(home, script))
}

/// Runs a script that has to succeed.
fn done(home: &Home, script: &str) -> Run {
    let run = run(home, script);
    assert_eq!(run.code, 0, "{script}: {run:?}");

    run
}

/// The same, with lines to read.
fn done_with_input(home: &Home, script: &str, input: &str) -> Run {
    let input = home.private_file("input", input);
    done(home, &format!("{{ {script}; }} < {}", input.display()))
}

fn ask(home: &Home) -> Run {
    home.rolekeeper(&["credential-process", "dev"])
}

/// Stops a daemon that a hint has started.
fn stop(home: &Home, client: &str) {
    let stopping = run(home, &format!("{client} stop"));
    let pid = between(hint(&stopping), "run kill ", "").to_owned();
    done(home, command_in(&stopping, ""));
    has_ended(&pid);
}

fn has_ended(pid: &str) {
    let process = Path::new("/proc").join(pid);
    eventually("the daemon has stopped", || {
        (!process.exists()).then_some(())
    });
}

/// Replaces the source of the token in the configuration.
fn with_token(sandbox: &SandboxProcess, source: &str) -> Home {
    let home = Home::default();
    home.configure_for(sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let text = fs::read_to_string(home.config_path()).unwrap();
    let (before, rest) = text.split_once("token = ").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    home.configure(&format!("{before}token = {source}\n{after}"));

    home
}

const AGE: &str = "{ age = \"token.age\", identity = \"key\" }";

// Commands that do not exist.

#[test]
fn help_that_a_usage_error_names_is_printed() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    for (wrong, want) in [
        ("rolekeeper", "rolekeeper --help"),
        ("rolekeeper nonsense", "rolekeeper --help"),
        ("rolekeeper help", "rolekeeper --help"),
        ("rolekeeper setup", "rolekeeper setup --help"),
        ("rolekeeper refresh", "rolekeeper refresh --help"),
        ("rolekeeper iam", "rolekeeper iam --help"),
        ("rolekeeper iam getRole", "rolekeeper iam getRole --help"),
    ] {
        let refused = run(&home, wrong);
        let command = command_in(&refused, " to list");
        assert_eq!((refused.code, command), (2, want), "{refused:?}");
        assert!(done(&home, command).stdout.contains("Usage: "), "{command}");
    }
}

#[test]
fn command_of_another_tool_is_replaced_by_one_that_works() {
    let (_sandbox, home) = world();

    let example = run(&home, "rolekeeper init");
    fs::rename(home.config_path(), home.path().join("aside")).unwrap();
    let check = run(&home, command_in(&example, ", which"));
    assert!(
        check.stderr.contains("like this:") && check.stderr.contains("config.toml"),
        "{check:?}"
    );
    fs::rename(home.path().join("aside"), home.config_path()).unwrap();
    done(&home, command_in(&example, ", which"));

    let stopped = run(&home, "rolekeeper stop");
    assert!(hint(&stopped).ends_with("no daemon is running"));
    for word in ["start", "restart", "reload"] {
        let refused = run(&home, &format!("rolekeeper {word}"));
        done(&home, command_in(&refused, ";"));
        done(&home, "rolekeeper credential-process dev");
        stop(&home, "rolekeeper");
    }

    let mut daemon = home.daemon(&[]);
    for (word, want) in [
        ("version", "rolekeeper "),
        ("list", "dev "),
        ("log", "TIME"),
    ] {
        ask(&home).json();
        let refused = run(&home, &format!("rolekeeper {word}"));
        let shown = done(&home, command_in(&refused, ""));
        assert!(shown.stdout.contains(want), "{shown:?}");
    }

    let reload = run(&home, "rolekeeper reload");
    done(&home, command_in(&reload, ""));
    eventually("the daemon has reloaded", || {
        (daemon.starts() == 2).then_some(())
    });

    let restart = run(&home, "rolekeeper restart");
    done(&home, command_in(&restart, ";"));
    assert_eq!(daemon.wait(), 0);
}

// The daemon, its socket and its configuration.

#[test]
fn no_daemon_names_the_command_that_starts_it() {
    let (_sandbox, home) = world();
    let folder = home.path().join("a b");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();

    let other = format!("rolekeeper --socket '{}/socket'", folder.display());
    for client in ["rolekeeper", &other] {
        let refused = run(&home, &format!("{client} status"));
        assert_eq!(refused.code, 3, "{refused:?}");
        done(&home, command_in(&refused, ""));
        done(&home, &format!("{client} credential-process dev"));

        // The hints of this daemon's errors name its socket, too.
        let unknown = run(&home, &format!("{client} credential-process x"));
        let listed = done(&home, command_in(&unknown, " to list"));
        assert!(listed.stdout.contains("dev"), "{listed:?}");
        stop(&home, client);
    }
}

#[test]
fn daemon_that_ends_without_an_error_is_started_in_the_foreground() {
    let (_sandbox, home) = world();
    let client = home.copy_of(&programs().rolekeeper);
    let daemon = client.with_file_name("rolekeeperd");
    fs::write(&daemon, "#!/bin/sh\nexit 9\n").unwrap();
    fs::set_permissions(&daemon, fs::Permissions::from_mode(0o700)).unwrap();

    let mut command = home.command(&client);
    command.args(["credential-process", "dev"]);
    let refused = home.run(command);
    let mut foreground = shell(&home, command_in(&refused, ", and"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the daemon serves", || (ask(&home).code == 0).then_some(()));

    stop(&home, "rolekeeper");
    foreground.wait().unwrap();
}

#[test]
fn other_configuration_names_the_commands_that_use_it() {
    let (_sandbox, home) = world();
    let text = fs::read_to_string(home.config_path()).unwrap();
    let other = home.private_file("other file.toml", &text);
    let request = format!(
        "export ROLEKEEPER_CONFIG='{}'; ROLEKEEPER_AUTOSTART=1 rolekeeper credential-process dev",
        other.display()
    );

    // No daemon is running.
    let refused = run(&home, &request);
    assert_eq!(refused.code, 3, "{refused:?}");
    done(&home, command_in(&refused, ", or remove"));
    done(&home, &request);
    stop(&home, "rolekeeper");

    // One with the default configuration is running.
    let mut daemon = home.daemon(&[]);
    let refused = run(&home, &request);
    let unset = command_in(&refused, " and then");
    let (export, again) = request.split_once("; ").unwrap();
    done(&home, &format!("{export}; {unset}; {again}"));

    let kill = between(hint(&refused), ", or run ", " and then ");
    let start = hint(&refused).rsplit_once(" and then ").unwrap().1;
    done(&home, kill);
    assert_eq!(daemon.wait(), 0);
    done(&home, start);
    done(&home, &request);
    stop(&home, "rolekeeper");

    // A client has started the daemon, and another client names another folder of configurations.
    let start = "ROLEKEEPER_AUTOSTART=1 rolekeeper credential-process dev";
    done(&home, start);
    let folder = home.path().join("other-configs");
    fs::create_dir_all(folder.join("rolekeeper")).unwrap();
    fs::copy(&other, folder.join("rolekeeper/config.toml")).unwrap();
    let request = format!("export XDG_CONFIG_HOME='{}'; {start}", folder.display());

    let refused = run(&home, &request);
    let kill = between(hint(&refused), ", or run ", " and then the command");
    done(&home, kill);
    has_ended(kill.trim_start_matches("kill "));
    done(&home, &request);
    stop(&home, "rolekeeper");
}

#[test]
fn second_daemon_replaces_the_first() {
    let (_sandbox, home) = world();
    let mut first = home.daemon(&[]);

    let refused = home.rolekeeperd(&[]);
    assert_eq!(refused.code, 3, "{refused:?}");
    done(&home, command_in(&refused, " and then"));
    assert_eq!(first.wait(), 0);
    let _second = home.daemon(&[]);
    ask(&home).json();
}

#[test]
fn daemon_that_has_the_state_is_used() {
    let (_sandbox, home) = world();
    let folder = home.path().join("first one");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let socket = folder.join("socket");
    let _first = home.daemon(&["--socket", socket.to_str().unwrap()]);

    let request = "ROLEKEEPER_AUTOSTART=1 rolekeeper credential-process dev";
    let refused = run(&home, request);
    assert_eq!(refused.code, 3, "{refused:?}");
    let export = command_in(&refused, " to use");
    done(&home, &format!("{export}; {request}"));
}

/// The socket of the first daemon is in a mount namespace.
#[test]
#[ignore = "needs root"]
fn daemon_that_cannot_be_reached_is_killed() {
    let (_sandbox, home) = world();
    let hidden = home.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    let mut command = home.command(Path::new("unshare"));
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o mode=700 tmpfs \"$0\" && exec \"$1\" --socket \"$0/socket\"")
        .arg(&hidden)
        .arg(&programs().rolekeeperd);
    let mut first = home.daemon_from(command);

    let refused = home.rolekeeperd(&[]);
    assert_eq!(refused.code, 3, "{refused:?}");
    done(&home, command_in(&refused, " where"));
    assert_eq!(first.wait(), 0);
    let _second = home.daemon(&[]);
}

// Files.

#[test]
fn mode_of_an_own_file_is_repaired() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    fs::create_dir(home.path().join("a b")).unwrap();
    home.configure_for(&sandbox, "dev", &[("dev", "S3ReadOnly")]);
    let token = home.private_file("a b/it's.token", sandbox.token("dev"));
    let text = fs::read_to_string(home.config_path()).unwrap();
    let old = home.path().join("dev.token");
    home.configure(&text.replace(old.to_str().unwrap(), token.to_str().unwrap()));
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };

    set_mode(&home.config_path(), 0o644);
    let refused = home.rolekeeperd(&["--check"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    done(&home, command_in(&refused, ""));
    assert_eq!(home.rolekeeperd(&["--check"]).code, 0);

    // Root can read files of each mode.
    let is_root = rustix::process::geteuid().is_root();
    for mode in [0o644].into_iter().chain((!is_root).then_some(0)) {
        set_mode(&token, mode);
        let _daemon = home.daemon(&[]);
        let refused = ask(&home);
        assert_eq!(refused.code, 5, "{refused:?}");
        done(&home, command_in(&refused, ";"));
        eventually("the token is read again", || {
            (home.rolekeeper(&["refresh", "dev"]).code == 0).then_some(())
        });

        if !is_root {
            set_mode(&home.journal(), 0);
            let refused = home.rolekeeper(&["journal"]);
            assert_eq!(refused.code, 1, "{refused:?}");
            done(&home, command_in(&refused, ""));
            assert_eq!(home.rolekeeper(&["journal"]).code, 0);
        }
    }
}

/// Root can write to folders of each mode.
#[test]
fn mode_of_an_own_folder_is_repaired() {
    if rustix::process::geteuid().is_root() {
        return;
    }

    let sandbox = SandboxProcess::start(&[]);
    let home = with_token(&sandbox, AGE);
    let _daemon = home.daemon(&[]);
    let folder = home.config_path().parent().unwrap().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();

    let login = format!("rolekeeper login < {}", token_file(&home, &sandbox));
    let refused = run(&home, &login);
    assert_eq!(refused.code, 5, "{refused:?}");
    done(&home, command_in(&refused, ""));
    done(&home, &login);
}

/// D5: a file of another user stays as it is.
#[test]
#[ignore = "needs root"]
fn hint_changes_no_file_of_another_user() {
    let (_sandbox, home) = world();
    std::os::unix::fs::chown(home.config_path(), Some(65_534), None).unwrap();

    let refused = home.rolekeeperd(&["--check"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert_eq!(
        hint(&refused),
        "use a file that belongs to you, with mode 600"
    );
}

// Tokens.

fn token_file(home: &Home, sandbox: &SandboxProcess) -> String {
    let file = sandbox.token_file(home, "dev");
    file.to_str().unwrap().to_owned()
}

#[test]
fn login_stores_a_token_that_is_missing_or_cannot_be_used() {
    let sandbox = SandboxProcess::start(&[]);
    let home = with_token(&sandbox, AGE);
    let file = home.config_path().with_file_name("token.age");
    let key = file.with_file_name("key");
    let token = sandbox.token("dev");
    let user = json!({ "email": "new@example.test" });

    let situations: [(&str, &dyn Fn()); 5] = [
        ("does not exist", &|| {}),
        ("cannot be decrypted", &|| {
            home.private_file("config/rolekeeper/token.age", "nonsense");
        }),
        ("is not encrypted for the key", &|| {
            fs::remove_file(&key).unwrap();
            let other = with_token(&sandbox, AGE);
            let _daemon = other.daemon(&[]);
            done_with_input(&other, "rolekeeper login", token);
            fs::copy(other.config_path().with_file_name("key"), &key).unwrap();
        }),
        ("invalid_token", &|| {
            let user = sandbox.control("POST", "/users", Some(user.clone()));
            let old = user["token"].as_str().unwrap().to_owned();
            home.secret(&old);
            done_with_input(&home, "rolekeeper login", &old);
            sandbox.control("DELETE", "/tokens", Some(json!({ "token": old })));
        }),
        ("does not exist", &|| fs::remove_file(&file).unwrap()),
    ];

    for (message, make) in situations {
        let _daemon = home.daemon(&[]);
        make();
        let refused = home.rolekeeper(&["refresh", "dev"]);
        assert!(
            refused.code == 5 && refused.stderr.contains(message),
            "{refused:?}"
        );

        let command = command_in(&refused, ";").split(',').next().unwrap();
        assert_eq!(command, "rolekeeper login sandbox");
        done_with_input(&home, command, token);
        assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0, "{message}");
    }

    // Only the token of a service account can be rotated.
    let _daemon = home.daemon(&[]);
    let refused = home.rolekeeper(&["login", "--rotate"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    done_with_input(&home, command_in(&refused, ","), token);
}

#[test]
fn login_takes_a_code_of_the_mfa_device() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let serial = sandbox.aws_fixture(&["mfa", "serial"]);
    home.configure(&format!(
        "[upstream.aws]\nkind = \"aws\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"\n\
         keys = {{ file = {:?} }}\nmfa = {{ serial = \"{serial}\" }}\n\
         [profile.dev]\nupstream = \"aws\"\nrole_arn = \"{}\"\n",
        sandbox.aws(),
        sandbox.aws_key_file(&home, "ada"),
        sandbox.aws_fixture(&["roles", "admin"]),
    ));
    let _daemon = home.daemon(&[]);

    let refused = home.rolekeeper(&["refresh", "dev"]);
    let login = command_in(&refused, ", and enter");
    done_with_input(&home, login, &format!("{}\n", sandbox.mfa_code()));
    assert_eq!(ask(&home).code, 0);
}

#[test]
fn unlock_takes_the_passphrase() {
    let sandbox = SandboxProcess::start(&[]);
    let home = with_token(&sandbox, "{ age = \"token.age\" }");
    {
        let _daemon = home.daemon(&[]);
        let input = format!("{}\ncanary-passphrase\n", sandbox.token("dev"));
        done_with_input(&home, "rolekeeper login", &input);
    }

    let _daemon = home.daemon(&[]);
    let locked = ask(&home);
    done_with_input(&home, command_in(&locked, ","), "canary-passphrase\n");
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
}

#[test]
fn token_command_run_by_hand_shows_its_error() {
    let sandbox = SandboxProcess::start(&[]);
    for (script, want) in [
        ("echo 'it is broken' >&2; exit 3", "it is broken"),
        ("echo two; echo lines", "two\nlines"),
    ] {
        let source = format!("{{ command = [\"/bin/sh\", \"-c\", {script:?}] }}");
        let home = with_token(&sandbox, &source);
        let _daemon = home.daemon(&[]);

        let refused = ask(&home);
        assert_eq!(refused.code, 5, "{refused:?}");
        let hint = hint(&refused).split("; the token is").next().unwrap();
        let (_, command) = hint.split_once(": ").unwrap();
        let by_hand = run(&home, command);
        let seen = by_hand.stdout + &by_hand.stderr;
        assert!(seen.contains(want), "{command}: {seen}");
    }
}

// Profiles, revocations and approvals.

#[test]
fn unknown_profile_is_found_in_the_list() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    home.configure_for(&sandbox, "dev", &[("production", "S3ReadOnly")]);
    let _daemon = home.daemon(&[]);

    for wrong in ["x", "prodution"] {
        let refused = home.rolekeeper(&["credential-process", wrong]);
        let listed = done(&home, command_in(&refused, " to list"));
        assert!(listed.stdout.contains("production"), "{listed:?}");
    }
}

#[test]
fn refused_role_is_explained() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let profiles = [("notrust", "NoTrust"), ("notallowed", "NotAllowed")];
    home.configure_for(&sandbox, "dev", &profiles);
    let _daemon = home.daemon(&[]);

    for (profile, end) in [("notrust", " to compare"), ("notallowed", ", or check")] {
        let refused = home.rolekeeper(&["credential-process", profile]);
        let explained = done(&home, command_in(&refused, end));
        assert!(!explained.stdout.is_empty(), "{explained:?}");
    }
}

#[test]
fn rejected_parameters_are_explained_by_help() {
    let (sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let fault = json!({ "kind": "status", "status": 400, "code": "invalid_request" });
    let rule = json!({ "method": "listRoles", "fault": fault });
    sandbox.control("POST", "/faults", Some(rule));

    let refused = home.rolekeeper(&["iam", "listRoles"]);
    let help = done(&home, command_in(&refused, ""));
    assert!(help.stdout.contains("--marker"), "{help:?}");
}

#[test]
fn held_profile_is_audited_and_resumed() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let works = || ask(&home).json();
    let hold = || done(&home, "rolekeeper logout dev");

    for request in ["credential-process dev", "report-rejected dev"] {
        works();
        hold();
        let refused = run(&home, &format!("rolekeeper {request}"));
        assert_eq!(refused.code, 6, "{refused:?}");
        let end = if request.starts_with("cred") {
            " to see"
        } else {
            ", then"
        };
        done(&home, command_in(&refused, end));
        done(&home, between(hint(&refused), ", then ", ""));
        works();
    }

    // The same command in what `logout` and `status` print.
    let logout = hold();
    done(&home, between(&logout.stdout, "To resume: ", ""));
    works();
    hold();
    let status = done(&home, "rolekeeper status");
    done(&home, between(&status.stdout, "to resume: ", "\n"));
    works();
}

#[test]
fn revocation_under_a_running_command_is_audited_and_resumed() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let script = "rolekeeper exec --on-revoke term dev -- sh -c 'touch started; exec sleep 60'";

    let ended = thread::scope(|scope| {
        let mut command = shell(&home, script);
        command.current_dir(home.path());
        let running = scope.spawn(|| home.run(command));
        eventually("the command runs", || {
            home.path().join("started").exists().then_some(())
        });
        done(&home, "rolekeeper logout dev");
        running.join().unwrap()
    });

    done(&home, command_in(&ended, ", then"));
    done(&home, between(hint(&ended), ", then ", ""));
    ask(&home).json();
}

#[test]
fn nested_exec_runs_after_the_variable_is_unset() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);
    let exec = "rolekeeper exec dev --";

    let refused = run(&home, &format!("{exec} {exec} true"));
    assert_eq!(refused.code, 2, "{refused:?}");
    let unset = command_in(&refused, " and then");
    done(&home, &format!("{exec} sh -c '{unset}; {exec} true'"));
}

#[test]
fn socket_is_used_where_http_does_not_identify_the_caller() {
    let test = std::env::current_exe().unwrap();
    let (_sandbox, home) = only_for(&format!("callers = [{{ exe = {test:?} }}]"));
    let _daemon = home.daemon(&[]);

    let refused = home.rolekeeper(&["exec", "dev", "--mode", "http", "--", "true"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    done(&home, command_in(&refused, ","));
}

/// Requests a lease by another program than this test, which answers the approval.
fn asking(home: &Home) -> Command {
    let mut command = home.command(&PathBuf::from("timeout"));
    command
        .arg("100")
        .arg(&programs().rolekeeper)
        .args(["credential-process", "dev"])
        .env("ROLEKEEPER_AUTOSTART", "0");

    command
}

/// Runs a command of `rolekeeper` that a hint has on a terminal of its own.
fn done_on_terminal(home: &Home, command: &str, question: &str, typed: &str) {
    let (program, words) = command.split_once(' ').unwrap();
    assert_eq!(program, "rolekeeper");
    let words: Vec<_> = words.split(' ').collect();
    let run = run_on_terminal(home, &words, question, typed);
    assert_eq!(run.code, 0, "{command}: {run:?}");
}

#[test]
fn approval_is_given_by_each_command_that_asks_for_it() {
    let (_sandbox, home) = world();
    home.configure_more("", "confirm = \"always\"");
    let _daemon = home.daemon(&[]);

    let none = home.rolekeeper(&["approve", "7"]);
    let listed = done(&home, command_in(&none, " to list"));
    assert_eq!(listed.stdout, "no pending approvals\n");

    let listing = || home.rolekeeper(&["approve"]);
    let by_list = |end: &str, start: &str| between(&listing().stdout, start, end).to_owned();
    let by_error = || {
        let id = pending_approval(&home)["id"].to_string();
        let refused = home.rolekeeper(&["approve", &id]);
        command_in(&refused, " in another").to_owned()
    };
    let by_unreadable_answer = || {
        let mut command = home.command(Path::new("setsid"));
        command
            .args(["--ctty", "--wait", "sh", "-c"])
            .arg("stty -echo; exec \"$0\" approve")
            .arg(&programs().rolekeeper);
        let answer = |terminal: &mut fs::File| {
            std::io::Write::write_all(terminal, b"\xff\n").unwrap();
        };
        let (run, _) = home.on_terminal_until(command, "Allow it?", answer, Signal::CONT);
        let text = run.stdout.split_once("try: ").unwrap().1.to_owned();
        between(&text, "run ", ", or").trim_end().to_owned()
    };

    let ways: [(&dyn Fn() -> String, i32); 4] = [
        (&|| by_list(". To deny", "To allow 1: "), 0),
        (&by_error, 0),
        (&by_unreadable_answer, 0),
        // A denial is remembered.
        (&|| by_list("\n", "To deny it: "), 4),
    ];
    for (command, want) in ways {
        thread::scope(|scope| {
            let asking = scope.spawn(|| home.run(asking(&home)));
            pending_approval(&home);
            let command = command();
            match command.as_str() {
                "rolekeeper approve" => {
                    done_on_terminal(&home, &command, "Allow it? [y/n]", "y\r");
                }
                _ => done_on_terminal(&home, &command, "ed", ""),
            }
            assert_eq!(asking.join().unwrap().code, want, "{command}");
        });
    }
}

/// A tool on a terminal shows what it waits for.
#[test]
fn waiting_client_names_the_command_that_approves() {
    let (_sandbox, home) = world();
    home.configure_more("", "confirm = \"first\"");
    let _daemon = home.daemon(&[]);

    let typed = |_: &mut fs::File| {
        done_on_terminal(&home, "rolekeeper approve", "Allow it? [y/n]", "y\r");
    };
    let (run, _) = home.on_terminal_until(
        asking(&home),
        "waiting for approval: run rolekeeper approve (",
        typed,
        Signal::CONT,
    );
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn approval_over_http_is_given_in_another_terminal() {
    let (_sandbox, home) = world();
    let daemon = home.daemon(&[]);
    let endpoint = Endpoint::of(&home, "dev", "http");
    home.configure_more("", "confirm = \"15m\"");
    daemon.reload();

    let header = format!("Authorization: {}", endpoint.token());
    let url = format!("http://{}{}", endpoint.host, endpoint.path);
    let request = || {
        let mut curl = home.command(Path::new("curl"));
        curl.args(["--silent", "--header", &header, &url]);
        let lease = curl.output().unwrap().stdout;
        String::from_utf8(lease).unwrap()
    };

    let refused = request();
    let command = between(&refused, "try: run ", " in another");
    done_on_terminal(&home, command, "Allow it? [y/n]", "y\r");
    assert!(request().contains("AccessKeyId"));
}

// Other programs.

#[test]
fn other_helper_of_git_is_removed_or_moved() {
    let home = Home::default();
    let setup = "GIT_CONFIG_NOSYSTEM=1 rolekeeper setup git dev --host h.test --write";
    let section = "[credential \"https://h.test\"]\n";

    fs::write(
        home.path().join(".gitconfig"),
        format!("{section}\thelper = store\n"),
    )
    .unwrap();
    let refused = run(&home, setup);
    assert_eq!(refused.code, 2, "{refused:?}");
    done(&home, command_in(&refused, ""));
    done(&home, setup);

    let helper = "[credential]\n\thelper = store\n";
    let ours = format!("{section}\tusername = x\n");
    fs::write(home.path().join(".gitconfig"), format!("{ours}{helper}")).unwrap();
    fs::write(home.path().join("moved"), format!("{helper}{ours}")).unwrap();
    let refused = run(&home, setup);
    assert_eq!(refused.code, 2, "{refused:?}");
    let edit = command_in(&refused, ", and move");
    done(&home, &format!("GIT_EDITOR=\"cp $HOME/moved\" {edit}"));
    done(&home, setup);
}

// The list of all.

/// The hints with a command, as in the sources, and where they are run.
const TESTED: &[(&str, &str)] = &[
    ("{} --help", "help_that_a_usage_error_names_is_printed"),
    (
        "rolekeeper --help",
        "help_that_a_usage_error_names_is_printed",
    ),
    (
        "rolekeeper iam --help",
        "help_that_a_usage_error_names_is_printed",
    ),
    (
        "rolekeeper iam {} --help",
        "rejected_parameters_are_explained_by_help",
    ),
    (
        "rolekeeper --version",
        "command_of_another_tool_is_replaced_by_one_that_works",
    ),
    (
        "rolekeeperd --check",
        "command_of_another_tool_is_replaced_by_one_that_works",
    ),
    (
        "rolekeeper journal",
        "command_of_another_tool_is_replaced_by_one_that_works",
    ),
    (
        "kill {signal}{}{next}",
        "command_of_another_tool_is_replaced_by_one_that_works",
    ),
    ("rolekeeper status", "unknown_profile_is_found_in_the_list"),
    (
        "rolekeeperd --detach{}",
        "no_daemon_names_the_command_that_starts_it",
    ),
    (
        "rolekeeperd --detach",
        "command_of_another_tool_is_replaced_by_one_that_works",
    ),
    (
        "rolekeeperd{}",
        "daemon_that_ends_without_an_error_is_started_in_the_foreground",
    ),
    (
        "rolekeeperd --detach --config {}{}",
        "other_configuration_names_the_commands_that_use_it",
    ),
    (
        "unset {variable}",
        "other_configuration_names_the_commands_that_use_it",
    ),
    (
        "kill {pid} and {restart}",
        "other_configuration_names_the_commands_that_use_it",
    ),
    (
        "kill {process} and then the command again",
        "second_daemon_replaces_the_first",
    ),
    (
        "export ROLEKEEPER_SOCKET={}",
        "daemon_that_has_the_state_is_used",
    ),
    (
        "kill {} where that daemon runs",
        "daemon_that_cannot_be_reached_is_killed",
    ),
    ("chmod 600 {}", "mode_of_an_own_file_is_repaired"),
    ("chmod u+wx {}", "mode_of_an_own_folder_is_repaired"),
    (
        "rolekeeper login {upstream}",
        "login_stores_a_token_that_is_missing_or_cannot_be_used",
    ),
    (
        "rolekeeper login {}",
        "login_takes_a_code_of_the_mfa_device",
    ),
    (
        "rolekeeper unlock {upstream}",
        "unlock_takes_the_passphrase",
    ),
    ("rolekeeper explain {profile}", "refused_role_is_explained"),
    (
        "rolekeeper audit {profile}",
        "held_profile_is_audited_and_resumed",
    ),
    (
        "unset {EXEC_VARIABLE}",
        "nested_exec_runs_after_the_variable_is_unset",
    ),
    (
        "rolekeeper credential-process {profile}",
        "socket_is_used_where_http_does_not_identify_the_caller",
    ),
    (
        "rolekeeper approve",
        "approval_is_given_by_each_command_that_asks_for_it",
    ),
    (
        "rolekeeper approve {id}",
        "approval_is_given_by_each_command_that_asks_for_it",
    ),
    (
        "rolekeeper approve ({} s left)",
        "waiting_client_names_the_command_that_approves",
    ),
    ("{remove}", "other_helper_of_git_is_removed_or_moved"),
    ("{edit}", "other_helper_of_git_is_removed_or_moved"),
];

/// The hints that this program does not run, and why.
const EXEMPT: &[(&str, &str)] = &[
    (
        "chmod 700 {}",
        "one_daemon::hint_does_not_close_a_shared_folder",
    ),
    (
        "kill {pid} and then the command again",
        "one_daemon::other_network_namespace_is_named",
    ),
    ("kill {pid} and then any command", "the same, in the status"),
    (
        "kill {} and then",
        "one_daemon::token_in_a_variable_needs_a_daemon_that_a_person_starts",
    ),
    (
        "chattr -{letter} {} as root",
        "setup_files.rs of the client's tests",
    ),
    (
        "rolekeeper setup git {profile} --host {host} --write",
        "setup_files.rs of the client's tests",
    ),
    ("{command}", "setup_files.rs of the client's tests"),
    (
        "git without the option -c {key}",
        "the command is the user's own",
    ),
    (
        "systemctl --user {action} rolekeeperd",
        "needs the user's systemd",
    ),
    ("systemctl {action} rolekeeperd", "for the administrator"),
    (
        "systemctl start rolekeeperd.socket",
        "for the administrator",
    ),
    (
        "rolekeeper resume {profile}",
        "a notification; held_profile_is_audited_and_resumed runs it",
    ),
];

/// The commands that hints name, up to a sign that ends them.
fn commands_in(source: &str) -> Vec<String> {
    const PROGRAMS: [&str; 14] = [
        "rolekeeper",
        "rolekeeperd",
        "chmod",
        "chown",
        "chattr",
        "kill",
        "unset",
        "export",
        "ls",
        "git",
        "kubectl",
        "systemctl",
        "env",
        "rm",
    ];
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));

    lines
        .flat_map(|line| line.split("run ").skip(1))
        .filter(|rest| {
            let word = rest.split([' ', '{', '"']).next().unwrap_or_default();
            PROGRAMS.contains(&word) || rest.starts_with('{')
        })
        .map(|rest| rest.split(['"', ',', ';', '\\']).next().unwrap_or(rest))
        .map(|command| command.trim_end().to_owned())
        .collect()
}

#[test]
fn every_hint_with_a_command_is_listed() {
    let mut unused: Vec<_> = TESTED.iter().chain(EXEMPT).map(|(hint, _)| *hint).collect();
    let own = include_str!("hints.rs");
    for (hint, test) in TESTED {
        assert!(own.contains(&format!("fn {test}()")), "{hint}: no {test}");
    }

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["client/src", "daemon/src"] {
        for path in sources(&root.join(folder)) {
            for command in commands_in(&fs::read_to_string(&path).unwrap()) {
                let mut listed = TESTED.iter().chain(EXEMPT);
                let is_meant = |hint: &str| {
                    let rest = command.strip_prefix(hint);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
                };
                assert!(
                    listed.any(|(hint, _)| is_meant(hint)),
                    "{}: test the hint `run {command}`, and list it here",
                    path.display()
                );
                unused.retain(|hint| !is_meant(hint));
            }
        }
    }
    assert!(unused.is_empty(), "no longer in the sources: {unused:?}");
}

/// The Rust files of a folder without those that have tests only.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_source = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "test_support.rs"
    };

    let mut found: Vec<_> = files.into_iter().filter(is_source).collect();
    found.extend(folders.iter().flat_map(|folder| sources(folder)));

    found
}
