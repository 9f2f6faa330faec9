//! AWS as upstream: access keys, MFA, chained roles, and what its errors lead to.

use std::fs;
use std::process::Stdio;

use rolekeeper_tests::harness::{Home, Run, SandboxProcess, eventually};
use serde_json::{Value, json};

use crate::login::with_input;

const AGE: &str = "{ age = \"keys.age\", identity = \"key\" }";

/// The user's keys in a private file, where a test does not log in.
fn keys_file(sandbox: &SandboxProcess, home: &Home, user: &str) -> String {
    format!("{{ file = {:?} }}", sandbox.aws_key_file(home, user))
}

/// The keys of `ada`, as a person enters them.
fn keys(sandbox: &SandboxProcess, home: &Home) -> String {
    fs::read_to_string(sandbox.aws_key_file(home, "ada")).unwrap()
}

/// An upstream `aws` with these keys and lines, and profiles for roles: `(profile, role, lines)`.
fn configure(
    sandbox: &SandboxProcess,
    home: &Home,
    keys: &str,
    more: &str,
    profiles: &[(&str, &str, &str)],
) {
    let endpoint = sandbox.aws();
    let mut text = format!(
        "[upstream.aws]\nkind = \"aws\"\nregion = \"eu-central-1\"\nendpoint = \"{endpoint}\"\nkeys = {keys}\n{more}\n",
    );
    for (profile, role, more) in profiles {
        let arn = sandbox.aws_fixture(&["roles", role]);
        let from = match more.contains("from = ") {
            true => "",
            false => "upstream = \"aws\"\n",
        };
        text += &format!("[profile.{profile}]\n{from}role_arn = \"{arn}\"\n{more}\n");
    }

    home.configure(&text);
}

fn world_of(user: &str, more: &str, profiles: &[(&str, &str, &str)]) -> (SandboxProcess, Home) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let keys = keys_file(&sandbox, &home, user);
    configure(&sandbox, &home, &keys, more, profiles);

    (sandbox, home)
}

fn lease(home: &Home, profile: &str) -> Value {
    home.rolekeeper(&["credential-process", profile]).json()
}

fn refused(home: &Home, profile: &str) -> Run {
    let run = home.rolekeeper(&["credential-process", profile]);
    assert_ne!(run.code, 0, "{run:?}");
    run
}

#[test]
fn keys_are_checked_stored_and_used() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    configure(&sandbox, &home, AGE, "", &[("dev", "reader", "")]);
    let _daemon = home.daemon(&[]);

    // No keys yet: the hint names the command that stores them.
    let run = refused(&home, "dev");
    assert!(
        run.code == 5 && run.stderr.contains("run rolekeeper login aws"),
        "{run:?}"
    );

    let text = keys(&sandbox, &home);
    let (id, _) = text.split_once(':').unwrap();
    for (wrong, code, words) in [
        (id.to_owned(), 2, "is not KEYID:SECRET"),
        (format!("{id}:canary-wrong"), 5, "SignatureDoesNotMatch"),
        (
            "AKIAAAAAAAAAAAAAAAAA:canary-wrong".into(),
            5,
            "InvalidClientTokenId",
        ),
        (
            "ASIAAAAAAAAAAAAAAAAA:canary-wrong".into(),
            2,
            "temporary key",
        ),
    ] {
        let run = with_input(&home, &["login"], format!("{wrong}\n"));
        assert!(
            run.code == code && run.stderr.contains(words),
            "{wrong}: {run:?}"
        );
    }

    let run = with_input(&home, &["login"], format!("{text}\n"));
    let arn = sandbox.aws_fixture(&["users", "ada", "arn"]);
    assert!(run.code == 0 && run.stdout.contains(arn), "{run:?}");
    assert!(
        lease(&home, "dev")["AccessKeyId"]
            .as_str()
            .unwrap()
            .starts_with("ASIA")
    );
    assert_eq!(sandbox.aws_calls("AssumeRole"), 1);
}

#[test]
fn request_has_what_the_profile_says() {
    let tags = "tags = { team = \"core\" }\ntransitive_tags = [\"team\"]";
    let (sandbox, home) = world_of(
        "ada",
        "",
        &[
            ("partner", "partner", "external_id = \"x-1\""),
            ("stranger", "partner", "external_id = \"x-2\""),
            ("tagged", "tagged", tags),
            (
                "named",
                "named",
                "source_identity = \"ada\"\nsession_name = \"work\"",
            ),
            ("long", "short", "duration = \"2h\""),
        ],
    );
    let _daemon = home.daemon(&[]);

    for profile in ["partner", "tagged", "named"] {
        assert!(lease(&home, profile)["SessionToken"].is_string());
    }
    let calls = sandbox.control("GET", "/aws/calls?action=AssumeRole", None);
    let [partner, tagged, named] = [0, 1, 2].map(|n| &calls["items"][n]["params"]);
    assert_eq!(partner["ExternalId"], "x-1");
    assert_eq!(tagged["Tags.member.1.Key"], "team");
    assert_eq!(tagged["TransitiveTagKeys.member.1"], "team");
    assert_eq!(named["SourceIdentity"], "ada");
    assert_eq!(named["RoleSessionName"], "work");

    let run = refused(&home, "stranger");
    assert!(
        run.code == 8 && run.stderr.contains("trust_denied"),
        "{run:?}"
    );
    let run = refused(&home, "long");
    assert!(
        run.code == 8
            && run
                .stderr
                .contains("set duration of the profile to no more than"),
        "{run:?}"
    );
}

#[test]
fn wrong_clock_costs_one_call_and_nothing_else() {
    let (sandbox, home) = world_of("ada", "", &[("dev", "reader", ""), ("other", "short", "")]);
    sandbox.control(
        "POST",
        "/aws/clock",
        Some(json!({ "advance_seconds": -7200 })),
    );
    let _daemon = home.daemon(&[]);

    lease(&home, "dev");
    let calls = sandbox.aws_calls("GetCallerIdentity") + sandbox.aws_calls("AssumeRole");
    assert_eq!(calls, 3, "whose keys, twice, and the role");
    lease(&home, "other");
    assert_eq!(sandbox.aws_calls("AssumeRole"), 2, "the time is known");
}

#[test]
fn errors_lead_to_what_helps() {
    let (sandbox, home) = world_of("ada", "", &[("dev", "reader", ""), ("next", "short", "")]);
    let _daemon = home.daemon(&[]);
    let first = lease(&home, "dev");

    // Throttling is a 400, and passes.
    sandbox.control(
        "POST",
        "/aws/throttle",
        Some(json!({ "calls": 1, "action": "AssumeRole" })),
    );
    let run = refused(&home, "next");
    assert!(
        run.code == 7 && run.stderr.contains("Throttling"),
        "{run:?}"
    );

    // A captive portal's page, a truncated reply and one of 9 MiB are not AWS's own replies.
    for fault in [
        json!({ "kind": "html" }),
        json!({ "kind": "truncated" }),
        json!({ "kind": "garbage" }),
        json!({ "kind": "huge", "bytes": 9 << 20 }),
        json!({ "kind": "status", "status": 503 }),
    ] {
        let rule = json!({ "method": "*", "fault": fault });
        sandbox.control("POST", "/aws/faults", Some(rule));
        let run = home.rolekeeper(&["refresh", "dev"]);
        assert_eq!(run.code, 7, "{fault}: {run:?}");
        assert_eq!(
            lease(&home, "dev")["AccessKeyId"],
            first["AccessKeyId"],
            "served on"
        );
        sandbox.control("DELETE", "/aws/faults", None);
    }

    // Inactive keys need a person; what is held is served on.
    let id = sandbox.aws_fixture(&["users", "ada", "access_key_id"]);
    sandbox.control(
        "POST",
        &format!("/aws/keys/{id}"),
        Some(json!({ "active": false })),
    );
    let run = refused(&home, "next");
    assert!(run.code == 7 || run.code == 5, "{run:?}");
    let run = home.rolekeeper(&["refresh", "dev"]);
    assert!([5, 7].contains(&run.code), "{run:?}");
    assert_eq!(lease(&home, "dev")["AccessKeyId"], first["AccessKeyId"]);
}

#[test]
fn role_without_trust_is_refused() {
    let (sandbox, home) = world_of("ben", "", &[("dev", "reader", "")]);
    let _daemon = home.daemon(&[]);

    let run = refused(&home, "dev");
    assert!(
        run.code == 8 && run.stderr.contains("trust_denied"),
        "{run:?}"
    );
    assert_eq!(sandbox.aws_calls("AssumeRole"), 1);
}

fn mfa(sandbox: &SandboxProcess, code: &str) -> String {
    let serial = sandbox.aws_fixture(&["mfa", "serial"]);
    format!("mfa = {{ serial = \"{serial}\", {code} }}")
}

#[test]
fn one_code_serves_all_roles() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let keys = keys_file(&sandbox, &home, "ada");
    let profiles = [
        ("admin", "admin", ""),
        ("dev", "reader", ""),
        ("third", "short", ""),
    ];
    configure(
        &sandbox,
        &home,
        &keys,
        &mfa(&sandbox, "code = \"ask\""),
        &profiles,
    );
    let _daemon = home.daemon(&[]);

    let run = refused(&home, "admin");
    assert!(
        run.code == 5
            && run
                .stderr
                .contains("run rolekeeper login aws, and enter a code"),
        "{run:?}"
    );
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 0);

    // What is no code is never sent.
    let run = with_input(&home, &["login"], "12345\n");
    assert!(
        run.code == 5 && run.stderr.contains("six digits"),
        "{run:?}"
    );
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 0);

    let code = sandbox.mfa_code();
    let run = with_input(&home, &["login"], format!("{code}\n"));
    assert!(
        run.code == 0 && run.stdout.contains("the MFA session lasts until"),
        "{run:?}"
    );
    for (profile, _, _) in profiles {
        lease(&home, profile);
    }
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 1);
    assert_eq!(sandbox.aws_calls("AssumeRole"), 3);

    // Keys that are not accepted any more are asked for again, and not a code.
    let id = sandbox.aws_fixture(&["users", "ada", "access_key_id"]);
    let path = format!("/aws/keys/{id}");
    sandbox.control("POST", &path, Some(json!({ "active": false })));
    let run = with_input(&home, &["login"], format!("{code}\n"));
    assert!(
        run.code == 2 && run.stderr.contains("cannot be written by rolekeeper"),
        "{run:?}"
    );
    sandbox.control("POST", &path, Some(json!({ "active": true })));

    // The same code again is refused here.
    let run = with_input(&home, &["login"], format!("{code}\n"));
    assert!(
        run.code == 5 && run.stderr.contains("used already"),
        "{run:?}"
    );
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 1);
}

/// One question, however many programs wait, and the session outlives a reload.
#[test]
fn waiting_programs_get_their_roles_once_a_person_enters_a_code() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let keys = keys_file(&sandbox, &home, "ada");
    let profiles = [("admin", "admin", ""), ("dev", "reader", "")];
    configure(
        &sandbox,
        &home,
        &keys,
        &mfa(&sandbox, "code = \"ask\""),
        &profiles,
    );
    let daemon = home.daemon(&[]);

    let waiting: Vec<_> = ["admin", "dev"]
        .iter()
        .flat_map(|profile| [profile; 10])
        .map(|profile| {
            let mut command = home.client();
            command.args(["credential-process", profile]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    eventually("a code is asked for", || {
        let log = daemon.log();
        log.contains("a code of the MFA device is needed")
            .then_some(())
    });
    let status = home.rolekeeper(&["status"]).stdout;
    assert!(
        status.contains("programs wait for an MFA code: run rolekeeper login aws"),
        "{status}"
    );
    let code = sandbox.mfa_code();
    assert_eq!(with_input(&home, &["login"], format!("{code}\n")).code, 0);
    for child in waiting {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(
        daemon
            .log()
            .matches("a code of the MFA device is needed")
            .count(),
        1
    );
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 1);
    assert_eq!(sandbox.aws_calls("AssumeRole"), 2);

    daemon.reload();
    assert_eq!(home.rolekeeper(&["refresh", "dev"]).code, 0);
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 1);
}

/// With the keys of `ada`, and the seed of her device.
fn world_with_seed() -> (SandboxProcess, Home, String, String) {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let seed = sandbox.aws_fixture(&["mfa", "seed"]);
    home.secret(seed);
    let seed = home.private_file("seed", seed);
    let keys = keys_file(&sandbox, &home, "ada");
    let source = mfa(&sandbox, &format!("totp = {{ file = {seed:?} }}"));

    (sandbox, home, keys, source)
}

#[test]
fn seed_needs_no_person() {
    let (sandbox, home, keys, source) = world_with_seed();
    configure(
        &sandbox,
        &home,
        &keys,
        &source,
        &[("admin", "admin", ""), ("dev", "reader", "")],
    );
    let _daemon = home.daemon(&[]);

    lease(&home, "admin");
    lease(&home, "dev");
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 1);
}

/// Without an MFA session, a role may last longer than an hour. Its next code is awaited.
#[test]
fn each_role_has_a_code_of_its_own_without_an_mfa_session() {
    let (sandbox, home, keys, source) = world_with_seed();
    let more = format!("{source}\nmfa_session = \"none\"");
    let profiles = [("dev", "reader", "duration = \"2h\"")];
    configure(&sandbox, &home, &keys, &more, &profiles);
    let _daemon = home.daemon(&[]);

    lease(&home, "dev");
    let status = home.rolekeeper(&["status", "--json"]).json();
    let left = status["profiles"][0]["session"]["expires_in_seconds"].as_u64();
    assert!(left > Some(7000), "{status}");
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 0);
}

#[test]
fn chained_role_is_assumed_with_the_session_of_its_base() {
    let (sandbox, home) = world_of(
        "ada",
        "",
        &[("dev", "reader", ""), ("far", "target", "from = \"dev\"")],
    );
    let _daemon = home.daemon(&[]);

    lease(&home, "far");
    let calls = sandbox.control("GET", "/aws/calls?action=AssumeRole", None);
    let callers: Vec<_> = calls["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["caller_arn"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        callers.len() == 2
            && callers[0].ends_with("user/ada")
            && callers[1].contains("assumed-role/reader/"),
        "{callers:?}"
    );

    // A held base holds what is assumed from it.
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);
    let run = refused(&home, "far");
    assert!(
        run.code == 6 && run.stderr.contains("rolekeeper resume dev"),
        "{run:?}"
    );
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
    lease(&home, "far");
}

#[test]
fn rotated_keys_are_stored_before_the_old_ones_are_deleted() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    configure(&sandbox, &home, AGE, "", &[("dev", "reader", "")]);
    let _daemon = home.daemon(&[]);
    let text = keys(&sandbox, &home);
    assert_eq!(with_input(&home, &["login"], format!("{text}\n")).code, 0);
    sandbox.control("POST", "/aws/propagation", Some(json!({ "seconds": 3 })));

    let run = home.rolekeeper(&["login", "--rotate"]);
    let old = text.split_once(':').unwrap().0;
    assert!(
        run.code == 0 && run.stdout.contains(&format!("deleted: {old}")),
        "{run:?}"
    );
    lease(&home, "dev");
    let stored = fs::read_to_string(home.path().join("config/rolekeeper/keys.age")).unwrap();
    assert!(!stored.contains(old));
}

#[test]
fn refused_role_is_explained_as_far_as_the_keys_may_know() {
    let stranger = ("stranger", "partner", "external_id = \"x-2\"");
    let (_sandbox, home) = world_of("ada", "", &[("dev", "reader", ""), stranger]);
    let _daemon = home.daemon(&[]);

    let run = refused(&home, "stranger");
    assert!(
        run.stderr.contains("run rolekeeper explain stranger"),
        "{run:?}"
    );
    let run = home.rolekeeper(&["explain", "stranger"]);
    for words in [
        "user/ada may be able to",
        "access key",
        "own policies",
        "sts:ExternalId",
    ] {
        assert!(run.stdout.contains(words), "{words}: {run:?}");
    }

    lease(&home, "dev");
    let run = home.rolekeeper(&["explain", "dev"]);
    assert!(
        run.stdout.contains("user/ada can assume role reader"),
        "{run:?}"
    );
}

#[test]
fn what_aws_cannot_do_is_said() {
    let (_sandbox, home) = world_of("ada", "", &[("dev", "reader", "")]);
    let _daemon = home.daemon(&[]);
    lease(&home, "dev");

    // One session cannot be revoked, so a logout that promises it fails.
    let run = home.rolekeeper(&["logout", "dev", "--revoke"]);
    assert!(
        run.code == 8
            && run
                .stdout
                .contains("which cannot revoke one session, until it expires"),
        "{run:?}"
    );
    assert_eq!(home.rolekeeper(&["logout", "dev"]).code, 0);

    for command in ["sessions", "iam listRoles"] {
        let words: Vec<_> = command.split(' ').collect();
        let run = home.rolekeeper(&words);
        assert!(
            run.code == 2 && run.stderr.contains("upstream aws (aws) does not support"),
            "{command}: {run:?}"
        );
    }
    assert_eq!(home.rolekeeper(&["resume", "dev"]).code, 0);
    lease(&home, "dev");
    let status = home.rolekeeper(&["status", "--json"]).json();
    assert_eq!(
        status["profiles"][0]["session"]["view_age_seconds"],
        Value::Null
    );
}
