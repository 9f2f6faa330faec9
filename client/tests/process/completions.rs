//! Completions from an upstream: hostile ids and names do not reach the shell.

use super::fake_daemon::FakeDaemon;

const HOSTILE: &str = r#"{"items":[
    {"id":"r-1","name":"Reader"}, {"id":"$(touch${IFS}here)"}, {"id":"`id`"}, {"id":"*"}, {"id":"a b"}, {"id":"--yes"},
    {"id":"a\nb"}, {"id":"a\u000bb"}, {"id":"é"}, {"id":"r.2_x","name":"\u001b[2J\u202e"}
]}"#;

fn completions(daemon: &FakeDaemon, shell: &str, words: &[&str]) -> String {
    let index = words.len().to_string();
    let mut command = daemon.client(&["--", "rolekeeper"]);
    command
        .args(words)
        .env("ROLEKEEPER_COMPLETE", shell)
        .env("_CLAP_COMPLETE_INDEX", index)
        .env("_CLAP_IFS", "\n");

    let run = command.output().unwrap();
    assert!(run.status.success() && run.stderr.is_empty());

    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn only_shell_safe_ids_are_completed() {
    let daemon = FakeDaemon::answering(HOSTILE);

    let words = ["iam", "deleteRole", "--role-id", ""];
    for shell in ["bash", "elvish"] {
        assert_eq!(completions(&daemon, shell, &words), "r-1\nr.2_x", "{shell}");
    }

    for (shell, separator, end) in [
        ("fish", "\t", "\n"),
        ("powershell", "\t", "\n"),
        ("zsh", ":", ""),
    ] {
        let want = format!("r-1{separator}Reader\nr.2_x{separator}\u{fffd}[2J\u{fffd}{end}");
        assert_eq!(completions(&daemon, shell, &words), want, "{shell}");
    }
}

#[test]
fn upstreams_of_profiles_are_completed() {
    let words = ["iam", "listRoles", "--upstream", ""];
    assert_eq!(
        completions(&FakeDaemon::new("", "cloud"), "fish", &words),
        "cloud\n"
    );
    assert_eq!(
        completions(&FakeDaemon::new("", "$(id)"), "fish", &words),
        ""
    );
}
