//! What a shell is offered when an upstream has a say in it.

use super::stand_in::StandIn;

const HOSTILE: &str = r#"{"items":[
    {"id":"r-1","name":"Reader"}, {"id":"$(touch${IFS}here)"}, {"id":"`id`"}, {"id":"*"}, {"id":"a b"}, {"id":"--yes"},
    {"id":"a\nb"}, {"id":"a\u000bb"}, {"id":"é"}, {"id":"r.2_x","name":"\u001b[2J\u202e"}
]}"#;

fn offered(daemon: &StandIn, shell: &str, words: &[&str]) -> String {
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
fn completion_offers_only_harmless_ids() {
    let daemon = StandIn::answering(HOSTILE);
    let words = ["iam", "deleteRole", "--role-id", ""];
    for shell in ["bash", "elvish"] {
        assert_eq!(offered(&daemon, shell, &words), "r-1\nr.2_x", "{shell}");
    }
    for (shell, between, end) in [
        ("fish", "\t", "\n"),
        ("powershell", "\t", "\n"),
        ("zsh", ":", ""),
    ] {
        let want = format!("r-1{between}Reader\nr.2_x{between}\u{fffd}[2J\u{fffd}{end}");
        assert_eq!(offered(&daemon, shell, &words), want, "{shell}");
    }
}

#[test]
fn completion_offers_upstreams_of_profiles() {
    let words = ["iam", "listRoles", "--upstream", ""];
    assert_eq!(
        offered(&StandIn::new("", "cloud"), "fish", &words),
        "cloud\n"
    );
    assert_eq!(offered(&StandIn::new("", "$(id)"), "fish", &words), "");
}
