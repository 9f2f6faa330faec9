//! The output of `env` in real shells: a hostile value arrives unchanged, and nothing of it runs.

use std::process::Command;

use super::fake_daemon::FakeDaemon;

const HOSTILE: [&str; 8] = [
    "plain/+=",
    "it's",
    "$(touch /tmp/x) `id` $HOME ${A} %PATH% !!",
    "back\\slash \\' \\n \\",
    "two\nlines\n\n",
    "\"quoted\" ; & | > < * ? ~ # -- = [x] {a,b} (true)",
    "\u{2019}; echo \u{201b} \u{e9} \u{202e}",
    "' ; end ; echo '",
];

/// The output of a program that reads `text`, its last argument.
fn read(program: &str, arguments: &[&str], text: &str) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(text)
        .output()
        .unwrap_or_else(|error| panic!("install {program} for this test: {error}"));

    assert!(output.status.success(), "{program}: {output:?}");

    String::from_utf8(output.stdout).unwrap()
}

fn env_output(daemon: &FakeDaemon, format: &str) -> String {
    let run = daemon.run(&["env", "dev", "--format", format]);
    assert!(run.status.success() && run.stderr.is_empty(), "{run:?}");

    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn sh_reads_hostile_values_unchanged() {
    for value in HOSTILE {
        let daemon = FakeDaemon::answering(value);

        let seen = read(
            "sh",
            &["-euc", "eval \"$0\"; printf %s \"$AWS_ACCESS_KEY_ID\""],
            &env_output(&daemon, "sh"),
        );

        assert_eq!(seen, value);
    }
}

#[test]
#[ignore = "needs fish"]
fn fish_reads_hostile_values_unchanged() {
    for value in HOSTILE {
        let daemon = FakeDaemon::answering(value);

        let script = "printf %s $argv[1] | source; printf %s \"$AWS_ACCESS_KEY_ID\"";
        let seen = read(
            "fish",
            &["--no-config", "-c", script],
            &env_output(&daemon, "fish"),
        );

        assert_eq!(seen, value);
    }
}

/// A file with the output of `env`.
fn dotenv_file(daemon: &FakeDaemon) -> String {
    let file = daemon.home().join("file.env");
    std::fs::write(&file, env_output(daemon, "dotenv")).unwrap();

    file.to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs Node.js 20"]
fn node_reads_dotenv_file() {
    let daemon = FakeDaemon::answering(HOSTILE[0]);

    let file = dotenv_file(&daemon);

    let seen = read(
        "node",
        &[&format!("--env-file={file}"), "-p"],
        "process.env.AWS_ACCESS_KEY_ID",
    );

    assert_eq!(seen, format!("{}\n", HOSTILE[0]));
}

/// Readers of dotenv files disagree about quoting: values that need it are an error.
#[test]
fn dotenv_is_written_only_if_all_readers_agree() {
    let daemon = FakeDaemon::answering(HOSTILE[0]);

    let file = dotenv_file(&daemon);
    let shell = read(
        "sh",
        &["-c", ". \"$0\"; printf %s \"$AWS_ACCESS_KEY_ID\""],
        &file,
    );

    assert_eq!(shell, HOSTILE[0]);

    for value in &HOSTILE[1..] {
        let run = FakeDaemon::answering(value).run(&["env", "dev", "--format", "dotenv"]);
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(2) && run.stdout.is_empty(),
            "{stderr}"
        );
        assert!(
            stderr.contains("cannot be written to this format") && stderr.contains("--format json"),
            "{stderr}"
        );
    }
}

/// What a shell prints that evaluates two calls of `env`, the second with these arguments.
fn shell_after_second_env(daemon: &FakeDaemon, second: &str) -> String {
    let client = env!("CARGO_BIN_EXE_rolekeeper");
    let script = format!(
        "eval \"$({client} env dev)\"; echo $? $AWS_ACCESS_KEY_ID; eval \"$({client} {second} 2>/dev/null)\"; \
         echo $? ${{AWS_ACCESS_KEY_ID-gone}} ${{AWS_SESSION_TOKEN-gone}} ${{AWS_REGION-gone}}"
    );
    let run = daemon.command("sh").args(["-c", &script]).output().unwrap();

    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn failed_env_unsets_credentials_and_fails_in_the_shell() {
    let daemon = FakeDaemon::answering("BYIA1");
    daemon.set_region("eu-central-1");
    for second in [
        "env held",
        "env dev --format csh",
        "env",
        "--socket /tmp env dev",
        "--socket env env dev x",
        "env dev --mode http",
    ] {
        let seen = shell_after_second_env(&daemon, second);
        assert_eq!(seen, "0 BYIA1\n1 gone gone gone\n", "{second}");
    }

    let json = daemon.run(&["env", "held", "--format", "json"]);
    assert!(
        json.stdout.is_empty() && json.status.code() == Some(6),
        "{json:?}"
    );
    let other = daemon.run(&["status", "env", "--wrong"]);
    assert!(
        other.stdout.is_empty() && other.status.code() == Some(2),
        "{other:?}"
    );

    let powershell = daemon.run(&["env", "held", "--format", "powershell"]);
    let text = String::from_utf8(powershell.stdout).unwrap();
    assert!(text.contains("Remove-Item -ErrorAction Ignore Env:AWS_ACCESS_KEY_ID\n"));
    assert!(
        text.ends_with("\nthrow 'rolekeeper env has failed'\n"),
        "{text}"
    );
}

#[test]
#[ignore = "needs fish"]
fn fish_fails_after_a_failed_env() {
    let daemon = FakeDaemon::answering("BYIA1");
    let client = env!("CARGO_BIN_EXE_rolekeeper");
    let call = |profile: &str| format!("{client} env {profile} --format fish 2>/dev/null | source");
    let script = format!(
        "{}; echo $status $AWS_ACCESS_KEY_ID; {}; echo $status (set -q AWS_ACCESS_KEY_ID; or echo gone)",
        call("dev"),
        call("held")
    );
    let mut fish = daemon.command("fish");
    fish.args(["--no-config", "-c", &script])
        .env("HOME", daemon.home());
    let run = fish.output().unwrap();

    assert_eq!(String::from_utf8(run.stdout).unwrap(), "0 BYIA1\n1 gone\n");
}

/// The region variables that a command of `exec` has, and standard error.
fn exec_regions(
    daemon: &FakeDaemon,
    variables: &[(&str, &str)],
    options: &[&str],
) -> (String, String) {
    let script = "echo ${AWS_REGION-none} ${AWS_DEFAULT_REGION-none}";
    let words = [&["exec"], options, &["dev", "--", "/bin/sh", "-c", script]].concat();
    let mut client = daemon.client(&words);
    let run = client.envs(variables.iter().copied()).output().unwrap();

    (
        String::from_utf8(run.stdout).unwrap(),
        String::from_utf8(run.stderr).unwrap(),
    )
}

#[test]
fn exec_uses_the_region_of_the_user() {
    let daemon = FakeDaemon::answering("BYIA1");
    daemon.set_region("eu-1");
    let notice = |used: &str| {
        format!("rolekeeper: {used} is used instead of eu-1, the region of profile dev\n")
    };

    for (variables, options, want, stderr) in [
        (&[][..], &[][..], "eu-1 eu-1\n", String::new()),
        (
            &[("AWS_REGION", "us-1")],
            &[],
            "us-1 us-1\n",
            notice("AWS_REGION=us-1"),
        ),
        (
            &[("AWS_DEFAULT_REGION", "us-1")],
            &[],
            "us-1 us-1\n",
            notice("AWS_DEFAULT_REGION=us-1"),
        ),
        (&[("AWS_REGION", "eu-1")], &[], "eu-1 eu-1\n", String::new()),
        (
            &[("AWS_REGION", "us-1")],
            &["--region", "ap-1"],
            "ap-1 ap-1\n",
            notice("--region ap-1"),
        ),
        // An earlier `rolekeeper env` of another profile has set it.
        (
            &[("AWS_REGION", "us-1"), ("ROLEKEEPER_REGION", "us-1")],
            &[],
            "eu-1 eu-1\n",
            String::new(),
        ),
    ] {
        let seen = exec_regions(&daemon, variables, options);
        assert_eq!(seen, (want.to_owned(), stderr), "{variables:?} {options:?}");
    }
}

#[test]
fn exec_is_nested_only_inside_of_exec() {
    let daemon = FakeDaemon::answering("BYIA1");
    let client = env!("CARGO_BIN_EXE_rolekeeper");

    let mut outer = daemon.client(&["exec", "dev", "--", "true"]);
    let outer = outer.env("ROLEKEEPER_PROFILE", "dev").output().unwrap();
    assert!(outer.status.success(), "{outer:?}");

    let nested = daemon.run(&["exec", "dev", "--", client, "exec", "dev", "--", "true"]);
    let stderr = String::from_utf8(nested.stderr).unwrap();
    assert_eq!(nested.status.code(), Some(2));
    assert!(
        stderr.contains("already inside of `rolekeeper exec dev`"),
        "{stderr}"
    );
    assert!(stderr.contains("or run unset ROLEKEEPER_EXEC and then the command again"));
}
