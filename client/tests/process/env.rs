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
