//! What `env` prints, read by the real readers: whatever an upstream calls its keys, nothing but that is in the variable.

use std::process::Command;

use super::stand_in::StandIn;

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

/// What a program has in the variable after it has read what `env` printed. It is given the text as its last argument.
fn read(program: &str, arguments: &[&str], text: &str) -> Option<String> {
    let said = Command::new(program)
        .args(arguments)
        .arg(text)
        .output()
        .ok()?;
    assert!(said.status.success(), "{program}: {said:?}");
    Some(String::from_utf8(said.stdout).unwrap())
}

fn printed(daemon: &StandIn, format: &str) -> String {
    let run = daemon.run(&["env", "dev", "--format", format]);
    assert!(run.status.success() && run.stderr.is_empty(), "{run:?}");
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn sh_output_is_quoted() {
    for value in HOSTILE {
        let daemon = StandIn::answering(value);
        let seen = read(
            "sh",
            &["-euc", "eval \"$0\"; printf %s \"$AWS_ACCESS_KEY_ID\""],
            &printed(&daemon, "sh"),
        );
        assert_eq!(seen.as_deref(), Some(value));
    }
}

#[test]
fn fish_output_is_quoted() {
    for value in HOSTILE {
        let daemon = StandIn::answering(value);
        let script = "printf %s $argv[1] | source; printf %s \"$AWS_ACCESS_KEY_ID\"";
        match read(
            "fish",
            &["--no-config", "-c", script],
            &printed(&daemon, "fish"),
        ) {
            Some(seen) => assert_eq!(seen, value),
            None => return println!("skipped: fish is not installed"),
        }
    }
}

/// Values that readers of such files interpret differently are rejected.
#[test]
fn dotenv_rejects_ambiguous_values() {
    let daemon = StandIn::answering(HOSTILE[0]);
    let file = daemon.home().join("file.env");
    std::fs::write(&file, printed(&daemon, "dotenv")).unwrap();
    let file = file.to_str().unwrap();
    let shell = read(
        "sh",
        &["-c", ". \"$0\"; printf %s \"$AWS_ACCESS_KEY_ID\""],
        file,
    );
    assert_eq!(shell.as_deref(), Some(HOSTILE[0]));
    match Command::new("node")
        .arg(format!("--env-file={file}"))
        .args(["-p", "process.env.AWS_ACCESS_KEY_ID"])
        .output()
    {
        Ok(said) => assert_eq!(
            String::from_utf8(said.stdout).unwrap(),
            format!("{}\n", HOSTILE[0])
        ),
        Err(_) => println!("skipped: node is not installed"),
    }
    for value in &HOSTILE[1..] {
        let run = StandIn::answering(value).run(&["env", "dev", "--format", "dotenv"]);
        let told = String::from_utf8(run.stderr).unwrap();
        assert!(
            run.status.code() == Some(2) && run.stdout.is_empty(),
            "{told}"
        );
        assert!(
            told.contains("cannot be written to this format") && told.contains("--format json"),
            "{told}"
        );
    }
}
