//! Token commands: a command that waits for itself is named at once, and a process that it leaves
//! behind is not awaited.

use std::fs;
use std::time::{Duration, Instant};

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, programs};

/// Profile `dev` at upstream `sandbox`, profile `other` at upstream `other`, and the token commands
/// of these.
fn home_with_commands(sandbox: &SandboxProcess, of_sandbox: &str, of_other: &str) -> Home {
    let home = Home::default();
    sandbox.token_file(&home, "dev");
    let endpoint = sandbox.endpoint();
    let role = sandbox.role("S3ReadOnly");
    let rolekeeper = programs().rolekeeper.display();
    let mut text = String::new();
    for (upstream, profile, script) in
        [("sandbox", "dev", of_sandbox), ("other", "other", of_other)]
    {
        let script = script.replace("ROLEKEEPER", &rolekeeper.to_string());
        let script = script.replace("HOME", home.path().to_str().unwrap());
        text += &format!(
            "[upstream.{upstream}]\nkind = \"bycloud\"\nendpoint = \"{endpoint}\"\n\
             token = {{ command = [\"/bin/sh\", \"-c\", {script:?}], keep = \"0s\" }}\n\
             [profile.{profile}]\nupstream = \"{upstream}\"\nrole_id = \"{role}\"\n"
        );
    }
    home.configure(&text);

    home
}

fn timed_refresh(home: &Home, profile: &str) -> (Run, Duration) {
    let start = Instant::now();
    let run = home.rolekeeper(&["refresh", profile]);
    (run, start.elapsed())
}

const CAT: &str = "cat HOME/dev.token";

#[test]
fn command_that_waits_for_itself_is_named_at_once() {
    let sandbox = SandboxProcess::start(&[]);
    let by_other = "ROLEKEEPER token other || exit 4";

    for (of_sandbox, of_other) in [
        ("exec ROLEKEEPER token dev", CAT),
        ("ROLEKEEPER credential-process dev | cat; exit 1", CAT),
        (
            "sh -c 'ROLEKEEPER exec dev -- true' && cat HOME/dev.token",
            CAT,
        ),
        ("ROLEKEEPER refresh dev; exit 1", CAT),
        ("ROLEKEEPER explain dev; exit 1", CAT),
        ("ROLEKEEPER iam listRoles --upstream sandbox && exit 1", CAT),
        (by_other, "ROLEKEEPER token dev || exit 5"),
    ] {
        let home = home_with_commands(&sandbox, of_sandbox, of_other);
        let _daemon = home.daemon(&[]);
        let (run, elapsed) = timed_refresh(&home, "dev");
        let problem = "the program /bin/sh asks rolekeeper for a profile that needs the output of this program";
        let hint = "try: take the token of [upstream.sandbox] from elsewhere";
        assert!(
            run.code == 5 && run.stderr.contains(problem) && run.stderr.contains(hint),
            "{of_sandbox}: {run:?}"
        );
        assert!(
            elapsed < Duration::from_secs(5),
            "{of_sandbox}: {elapsed:?}"
        );
    }
}

#[test]
fn code_command_that_waits_for_itself_is_named_at_once() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let keys = sandbox.aws_key_file(&home, "ada");
    let rolekeeper = programs().rolekeeper.display().to_string();
    home.configure(&format!(
        "[upstream.aws]\nkind = \"aws\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"\nkeys = {{ file = {keys:?} }}\n\
         mfa = {{ serial = \"{}\", command = [{rolekeeper:?}, \"credential-process\", \"dev\"] }}\n\
         [profile.dev]\nupstream = \"aws\"\nrole_arn = \"{}\"\n",
        sandbox.aws(),
        sandbox.aws_fixture(&["mfa", "serial"]),
        sandbox.aws_fixture(&["roles", "reader"]),
    ));
    let _daemon = home.daemon(&[]);

    let (run, elapsed) = timed_refresh(&home, "dev");
    let problem = "asks rolekeeper for a profile that needs the output of this program";
    assert!(run.code == 5 && run.stderr.contains(problem), "{run:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
}

#[test]
fn command_may_use_a_profile_of_another_upstream() {
    let sandbox = SandboxProcess::start(&[]);
    let script = "ROLEKEEPER token other > HOME/other.token && cat HOME/dev.token";
    let home = home_with_commands(&sandbox, script, CAT);
    let _daemon = home.daemon(&[]);
    assert_eq!(timed_refresh(&home, "dev").0.code, 0);
    assert!(
        !fs::read_to_string(home.path().join("other.token"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn child_with_the_pipe_open_does_not_delay_the_token() {
    let sandbox = SandboxProcess::start(&[]);
    let home = home_with_commands(&sandbox, "sleep 25 & cat HOME/dev.token", CAT);
    let _daemon = home.daemon(&[]);
    let (run, elapsed) = timed_refresh(&home, "dev");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}
