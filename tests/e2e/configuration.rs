//! Configuration errors: each has its own message, a hint, and exit code 2.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rolekeeper_tests::harness::{Home, Run};

const GOOD: &str = "[upstream.sandbox]\nkind = \"bycloud\"\nendpoint = \"https://iam.example.test\"\n\
                    token = { env = \"TOKEN\" }\n[profile.dev]\nupstream = \"sandbox\"\nrole_id = \"r-1\"\n";

fn check(home: &Home) -> Run {
    home.rolekeeperd(&["--check"])
}

/// Both `--check` and a start refuse the configuration, with exit code 2 and these words.
fn assert_refused(home: &Home, words: &[&str]) {
    for run in [check(home), home.rolekeeperd(&[])] {
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
        assert!(
            run.stderr.starts_with("rolekeeperd: ") && run.stderr.contains("\n  try: "),
            "{run:?}"
        );

        for word in words {
            assert!(run.stderr.contains(word), "{word} is not in {run:?}");
        }
    }
}

#[test]
fn check_passes_without_starting_anything() {
    let home = Home::default();
    home.configure(GOOD);
    let run = check(&home);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(
        run.stdout
            .ends_with("1 upstream(s), 1 profile(s), no errors\n"),
        "{run:?}"
    );
    assert!(!home.socket().exists());
}

#[test]
fn check_warns_about_a_rule_for_a_script() {
    let home = Home::default();
    let script = home.path().join("deploy");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    home.configure(&format!("{GOOD}callers = [{{ exe = {script:?} }}]\n"));

    let run = check(&home);
    assert_eq!(run.code, 0, "{run:?}");
    for words in [
        "`exe` in `callers` of [profile.dev] matches no process",
        "is a script",
        "\n  try: ",
    ] {
        assert!(run.stderr.contains(words), "{run:?}");
    }
}

#[test]
fn missing_or_empty_file_shows_an_example() {
    let home = Home::default();

    assert_refused(
        &home,
        &[
            "does not exist",
            "[upstream.aws]",
            "role_arn = ",
            "config/rolekeeper/config.toml",
        ],
    );

    home.configure("\n");
    assert_refused(&home, &["has no upstream", "[upstream.aws]"]);
}

#[test]
fn shown_example_passes_the_check() {
    let home = Home::default();
    let run = check(&home);
    let (_, example) = run.stderr.split_once("like this:").unwrap();
    home.configure(example);
    assert_eq!(check(&home).code, 0);

    // And with what is behind `#`.
    let (_, others) = example.split_once("~/.aws/config:\n").unwrap();
    let others = others.replace("# ByCloud IAM:", "").replace("    #", "");
    home.configure(&others);
    fs::create_dir(home.path().join(".aws")).unwrap();
    home.private_file(".aws/config", "");
    assert_eq!(check(&home).code, 0, "{others}");
}

#[test]
fn file_open_to_others_is_refused_with_chmod_hint() {
    let home = Home::default();
    home.configure(GOOD);
    let set_mode = |mode| {
        fs::set_permissions(home.config_path(), fs::Permissions::from_mode(mode)).unwrap();
    };

    set_mode(0o644);
    assert_refused(
        &home,
        &[
            "can be read or written by other users (mode 0644)",
            "chmod 600 ",
        ],
    );

    set_mode(0o600);
    assert_eq!(check(&home).code, 0);

    fs::remove_file(home.config_path()).unwrap();
    fs::create_dir(home.config_path()).unwrap();
    assert_refused(&home, &["is not a regular file"]);
}

#[test]
fn every_error_is_listed_with_line_and_column() {
    let home = Home::default();
    let wrong = GOOD
        .replace("r-1", "a/b")
        .replace("token =", "tokn =")
        .replace("https", "http");
    home.configure(&(wrong + "duration = \"13h\"\n"));

    assert_refused(
        &home,
        &[
            "the configuration has 5 errors",
            "config.toml:1:11: `upstream.sandbox.token` is missing",
            "config.toml:3:12: `upstream.sandbox.endpoint`: `http://iam.example.test` would send the token in clear",
            "config.toml:4:1: unknown key `upstream.sandbox.tokn`; did you mean `token`?",
            "config.toml:7:11: `profile.dev.role_id`: `a/b` is not a role id",
            "config.toml:8:12: `profile.dev.duration`: `13h` is out of range; use 15m to 12h",
        ],
    );

    home.configure("[upstream.a\nkind = ");
    assert_refused(&home, &["config.toml:1:12: unclosed table"]);
}

#[test]
fn check_fails_for_a_missing_token_file_or_command() {
    let home = Home::default();
    for (token, problem) in [
        (
            "{ file = \"missing\" }",
            "upstream sandbox: the token file HOME/missing does not exist",
        ),
        (
            "{ command = [\"./missing\"] }",
            "upstream sandbox: the token command HOME/./missing does not exist",
        ),
        (
            "{ command = [\"./config.toml\"] }",
            "upstream sandbox: the token command HOME/./config.toml is not an executable file",
        ),
    ] {
        home.configure(&GOOD.replace("{ env = \"TOKEN\" }", token));
        let run = check(&home);
        let folder = home.path().join("config/rolekeeper");
        let problem = problem.replace("HOME", folder.to_str().unwrap());
        assert!(
            run.code == 2 && run.stdout.is_empty() && run.stderr.contains(&problem),
            "{run:?}"
        );
        assert!(run.stderr.contains("try: create the file (chmod 600)"));
        // The token may come later.
        assert_eq!(home.daemon(&[]).stop(), 0);
    }
}

#[test]
fn reload_does_not_need_the_token_file() {
    let home = Home::default();
    home.configure(&GOOD.replace("{ env = \"TOKEN\" }", "{ file = \"missing\" }"));
    let daemon = home.daemon(&[]);
    daemon.reload();
    assert_eq!(daemon.starts(), 2);
}

#[test]
fn token_command_without_a_path_is_refused() {
    let home = Home::default();
    home.configure(&GOOD.replace("{ env = \"TOKEN\" }", "{ command = [\"sh\", \"-c\"] }"));
    assert_refused(&home, &["`sh` is not a path; write \"/"]);

    // It is not on PATH, as for a daemon that a client has started.
    fs::create_dir_all(home.path().join(".local/bin")).unwrap();
    let program = home.private_file(".local/bin/rk-mytok", "");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    home.configure(&GOOD.replace("{ env = \"TOKEN\" }", "{ command = [\"rk-mytok\"] }"));
    let advice = format!("`rk-mytok` is not a path; write {program:?}");
    assert_refused(&home, &[&advice]);

    // What it prints works.
    home.configure(&GOOD.replace(
        "{ env = \"TOKEN\" }",
        &format!("{{ command = [{program:?}] }}"),
    ));
    assert_eq!(check(&home).code, 0);
}

#[test]
fn unknown_option_of_the_daemon_is_refused() {
    let home = Home::default();
    let run = home.rolekeeperd(&["--confg", "x"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--config"), "{run:?}");

    for filter in ["loud", "rolekeeperd=loud"] {
        let run = home.rolekeeperd(&["--log", filter]);
        let levels = "`loud` is not a level; use off, error, warn, info, debug, trace";
        assert!(run.code == 2 && run.stderr.contains(levels), "{run:?}");
    }
}

#[test]
fn usage_errors_of_the_client_exit_with_2() {
    let home = Home::default();

    for args in [
        &["credential-proces", "dev"][..],
        &["credential-process"],
        &["status", "--jsn"],
        &[],
    ] {
        let run = home.rolekeeper(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
        assert!(
            run.stderr.starts_with("rolekeeper: ") && run.stderr.contains("(usage)\n  try: "),
            "{run:?}"
        );
        assert_eq!(run.stderr.lines().count(), 2, "{run:?}");
    }

    let help = home.rolekeeper(&["--help"]);
    assert!(
        help.code == 0
            && help.stdout.contains("credential-process")
            && help.stdout.contains("Exit codes")
    );
}
