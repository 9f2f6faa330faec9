//! What a wrong configuration gets: each its own message, what to do next, and exit code 2.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rolekeeper_tests::harness::{Home, Run};

const GOOD: &str = "[upstream.sandbox]\nkind = \"bycloud\"\nendpoint = \"https://iam.example.test\"\n\
                    token = { env = \"TOKEN\" }\n[profile.dev]\nupstream = \"sandbox\"\nrole_id = \"r-1\"\n";

fn check(home: &Home) -> Run {
    home.rolekeeperd(&["--check"])
}

/// It is refused by `--check` and by a start alike, with exit code 2 and these words.
fn refused(home: &Home, words: &[&str]) {
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
fn check_of_valid_configuration_starts_nothing() {
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
fn a_missing_or_empty_one_is_answered_with_an_example() {
    let home = Home::default();
    refused(
        &home,
        &[
            "does not exist",
            "[upstream.bycloud]",
            "role_id = ",
            "config/rolekeeper/config.toml",
        ],
    );
    home.configure("\n");
    refused(&home, &["has no upstream", "[upstream.bycloud]"]);
}

#[test]
fn an_example_that_is_shown_is_a_configuration_that_passes() {
    let home = Home::default();
    let run = check(&home);
    let (_, example) = run.stderr.split_once("like this:").unwrap();
    home.configure(example);
    assert_eq!(check(&home).code, 0);
}

#[test]
fn a_readable_by_others_or_unreadable_one_is_refused_with_the_command_that_mends_it() {
    let home = Home::default();
    home.configure(GOOD);
    let mode =
        |mode| fs::set_permissions(home.config_path(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    refused(
        &home,
        &[
            "can be read or written by other users (mode 0644)",
            "chmod 600 ",
        ],
    );
    mode(0o600);
    assert_eq!(check(&home).code, 0);
    fs::remove_file(home.config_path()).unwrap();
    fs::create_dir(home.config_path()).unwrap();
    refused(&home, &["is not a regular file"]);
}

#[test]
fn a_wrong_one_names_every_error_with_its_line_and_column() {
    let home = Home::default();
    let wrong = GOOD
        .replace("r-1", "a/b")
        .replace("token =", "tokn =")
        .replace("https", "http");
    home.configure(&(wrong + "duration = \"13h\"\n"));
    refused(
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
    refused(&home, &["config.toml:1:12: unclosed table"]);
}

#[test]
fn a_wrong_option_is_refused_with_the_right_ones() {
    let home = Home::default();
    let run = home.rolekeeperd(&["--confg", "x"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--config"), "{run:?}");
    let run = home.rolekeeperd(&["--log", "rolekeeperd=loud"]);
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn the_client_tells_usage_from_failure() {
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
