//! Shell completions: methods, options, profiles and ids, and a real bash that uses them.

use rolekeeper_tests::harness::{Home, programs, world};

/// The completions of a command line whose last word is incomplete.
fn completions(home: &Home, words: &[&str]) -> String {
    let mut command = home.client();
    command
        .env("ROLEKEEPER_COMPLETE", "fish")
        .args(["--", "rolekeeper"])
        .args(words);
    let run = home.run(command);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));

    run.stdout
}

#[test]
fn methods_options_profiles_and_ids_are_completed() {
    let (sandbox, home) = world();

    assert_eq!(
        completions(&home, &["explain", "d"]),
        "",
        "completions start no daemon"
    );

    let _daemon = home.daemon(&[]);

    assert!(completions(&home, &["iam", "listR"]).starts_with("listRoles\tShow the roles\n"));
    assert!(completions(&home, &["iam", "list-ro"]).starts_with("list-roles\t"));
    assert!(
        completions(&home, &["iam", "assume-role", "--du"]).starts_with("--duration-seconds\t")
    );
    assert!(completions(&home, &["explain", "d"]).starts_with("dev\n"));
    assert!(completions(&home, &["credential-process", "d"]).starts_with("dev\n"));

    let roles = completions(&home, &["iam", "getRole", "--role-id", ""]);
    assert!(
        roles.contains(&format!("{}\tS3ReadOnly\n", sandbox.role("S3ReadOnly"))),
        "{roles}"
    );
    assert_eq!(
        completions(&home, &["iam", "listAuditLogs", "--status", ""]),
        "success\ndenied\nerror\n"
    );
}

#[test]
fn completions_work_in_bash() {
    let (_sandbox, home) = world();
    let _daemon = home.daemon(&[]);

    let folder = programs().rolekeeper.parent().unwrap().to_owned();
    let mut bash = home.command(std::path::Path::new("bash"));
    let path = std::env::join_paths(
        std::iter::once(folder).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );

    bash.env("PATH", path.unwrap()).args(["--norc", "-c"]).arg(
        "source <(rolekeeper completions bash)\n\
         COMP_WORDS=(rolekeeper iam listSTS) COMP_CWORD=2 COMP_TYPE=9\n\
         _clap_complete_rolekeeper rolekeeper listSTS iam\n\
         printf '%s\\n' \"${COMPREPLY[@]}\"",
    );

    let run = home.run(bash);
    assert_eq!(
        (run.code, run.stdout.trim()),
        (0, "listSTSSessions"),
        "{run:?}"
    );

    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(
            home.rolekeeper(&["completions", shell])
                .stdout
                .contains("rolekeeper"),
            "{shell}"
        );
    }

    let wrong = home.rolekeeper(&["completions", "tcsh"]);
    assert!(
        wrong.code == 2 && wrong.stderr.contains("invalid value 'tcsh'"),
        "{wrong:?}"
    );
}
