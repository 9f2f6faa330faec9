use super::*;
use crate::config::TokenLocation;
use crate::config::callers::{CallerRule, Confirm};

const GOOD: &str = r#"
[upstream.bycloud]
kind = "bycloud"
endpoint = "https://iam.example.test"
token = { file = "token" }
check_every = "10s"

[upstream.local]
kind = "bycloud"
endpoint = "http://127.0.0.1:8080"
token = { env = "LOCAL_TOKEN" }

[profile.dev]
upstream = "bycloud"
role_id = "550e8400-e29b-41d4-a716-446655440000"
duration = "1h30m"
lease = "strict"
on_revoke = "reassume"
revoke_on = ["stop", "sleep"]
max_view_age = "1m"
region = "eu-central-1"
account_id = "012345678901"

[endpoint]
port = 9911

[profile.ci]
upstream = "bycloud"
role_id = "r-1"
lease = "20m"
"#;

/// Every error of a text as `line:column: what`.
fn faults(text: &str) -> Vec<String> {
    let faults = validate(text, Path::new("/conf")).unwrap_err().0;
    let place = |fault: crate::config::raw::Fault| {
        let placed = super::place(Path::new("c"), text, fault.at, fault.what);
        format!("{}:{}: {}", placed.line, placed.column, placed.what)
    };
    faults.into_iter().map(place).collect()
}

/// The good text with one piece of it replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old));
    GOOD.replacen(old, new, 1)
}

#[test]
fn a_good_file_becomes_upstreams_with_their_profiles() {
    let config = validate(GOOD, Path::new("/conf")).unwrap();
    let [bycloud, local] = config.upstreams.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(bycloud.token, TokenLocation::File("/conf/token".into()));
    assert_eq!(local.token, TokenLocation::Env("LOCAL_TOKEN".into()));
    assert!(local.profiles.is_empty());
    let [ci, dev] = bycloud.profiles.as_slice() else {
        panic!("{bycloud:?}")
    };
    assert_eq!(
        (dev.role.duration, dev.lease),
        (Duration::from_secs(5400), LeaseLimit::Strict)
    );
    assert_eq!(
        (dev.on_revoke, dev.max_view_age),
        (OnRevoke::Reassume, Duration::from_secs(60))
    );
    assert_eq!(config.endpoint_port, Some(9911));
    assert_eq!(
        dev.region.as_ref().map(Region::as_str),
        Some("eu-central-1")
    );
    assert_eq!(
        dev.account_id.as_ref().map(AccountId::as_str),
        Some("012345678901")
    );
    assert_eq!((&ci.region, &ci.account_id), (&None, &None));
    assert_eq!(
        dev.revoke_on,
        RevokeOn {
            stop: true,
            lock: false,
            sleep: true
        }
    );
    assert_eq!(
        (ci.on_revoke, ci.revoke_on),
        (OnRevoke::Hold, RevokeOn::default())
    );
    assert_eq!(
        (bycloud.check_every, local.check_every),
        (Duration::from_secs(10), DEFAULT_CHECK)
    );
    assert_eq!(
        (ci.role.duration, ci.lease),
        (
            DEFAULT_SESSION,
            LeaseLimit::Limit(Duration::from_secs(1200))
        )
    );
}

#[test]
fn where_a_token_lives_and_who_may_have_a_profile_is_read() {
    let token = |text: &str| {
        let config = validate(
            &with("token = { file = \"token\" }", &format!("token = {text}")),
            Path::new("/conf"),
        );
        config.unwrap().upstreams.remove(0).token
    };
    assert_eq!(
        token("{ keyring = \"work\" }"),
        TokenLocation::Keyring("work".into())
    );
    assert_eq!(
        token("{ systemd_credential = \"t\" }"),
        TokenLocation::SystemdCredential("t".into())
    );
    let sealed = |identity: Option<&str>| TokenLocation::Age {
        file: "/conf/t.age".into(),
        identity: identity.map(Into::into),
    };
    assert_eq!(token("{ age = \"t.age\" }"), sealed(None));
    assert_eq!(
        token("{ age = \"t.age\", identity = \"/k\" }"),
        sealed(Some("/k"))
    );
    let run = |keep| TokenLocation::Command {
        words: vec!["op".into(), "read".into()],
        keep: Duration::from_secs(keep),
    };
    assert_eq!(token("{ command = [\"op\", \"read\"] }"), run(900));
    assert_eq!(
        token("{ command = [\"op\", \"read\"], keep = \"0s\" }"),
        run(0)
    );
    let text = with(
        "lease = \"20m\"",
        "users = [\"root\", 0o2322]\ngroups = [0]\nconfirm = \"15m\"\n\
         callers = [{ exe = \"/usr/bin/x\", terminal = true }, { under = \"y\", unit = \"ci.service\" }]",
    );
    let mut config = validate(&text, Path::new("/conf")).unwrap();
    let callers = config.upstreams.remove(0).profiles.remove(0).callers;
    assert_eq!((callers.users, callers.groups), (vec![0, 1234], vec![0]));
    assert_eq!(callers.confirm, Confirm::For(Duration::from_secs(900)));
    let first = CallerRule {
        exe: Some("/usr/bin/x".into()),
        terminal: Some(true),
        ..CallerRule::default()
    };
    let unit = Some("ci.service".into());
    assert_eq!(
        callers.rules,
        [
            first,
            CallerRule {
                under: Some("/conf/y".into()),
                unit,
                ..CallerRule::default()
            }
        ]
    );
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_file() {
    let text = "[upstream.a]\nkind = \"bycloudd\"\nendpoint = \"http://iam.example.test\"\ntoken = {}\nregion = 1\n\n[profile.\"x y\"]\nupstream = \"b\"\nduration = \"13h\"\n";
    insta::assert_snapshot!(faults(text).join("\n"), @r#"
    2:8: `upstream.a.kind`: `bycloudd` is no kind of upstream; this version knows `bycloud`
    3:12: `upstream.a.endpoint`: `http://iam.example.test` would send the token in clear; use https (http is for loopback addresses only)
    4:9: `upstream.a.token` has no source; write { keyring = "NAME" }, { file = "PATH" } or { command = ["PROGRAM", …] }
    5:1: unknown key `upstream.a.region`; the keys here are kind, endpoint, token, check_every, ca, proxy
    7:10: `profile.x y`: a name has 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit
    7:10: `profile.x y.role_id` is missing; write, for example, role_id = "550e8400-e29b-41d4-a716-446655440000"
    8:12: `profile.x y.upstream`: `b` is no [upstream] of this file
    9:12: `profile.x y.duration`: `13h` is out of range; a session lasts from 15m to 12h
    "#);
}

#[test]
fn each_value_out_of_range_or_kind_has_its_own_message() {
    let cases = [
        (
            "duration = \"1h30m\"",
            "duration = \"14m\"",
            "`profile.dev.duration`: `14m` is out of range",
        ),
        (
            "duration = \"1h30m\"",
            "duration = \"12h1s\"",
            "is out of range; a session lasts from 15m to 12h",
        ),
        (
            "duration = \"1h30m\"",
            "duration = 3600",
            "`profile.dev.duration` must be a text in quotes, not integer",
        ),
        (
            "duration = \"1h30m\"",
            "duration = \"3600\"",
            "is no time; write a number and a unit",
        ),
        ("duration = \"1h30m\"", "duration = \"-1h\"", "is no time"),
        (
            "duration = \"1h30m\"",
            "durration = \"1h\"",
            "unknown key `profile.dev.durration`; did you mean `duration`?",
        ),
        (
            "on_revoke = \"reassume\"",
            "on_revoke = \"ignore\"",
            "`ignore` is none of \"hold\" and \"reassume\"",
        ),
        (
            "revoke_on = [\"stop\", \"sleep\"]",
            "revoke_on = \"stop\"",
            "`profile.dev.revoke_on` must be a list of texts in quotes, not string",
        ),
        (
            "revoke_on = [\"stop\", \"sleep\"]",
            "revoke_on = [\"stop\", \"lid\"]",
            "`lid` is none of \"stop\", \"lock\" and \"sleep\"",
        ),
        (
            "revoke_on = [\"stop\", \"sleep\"]",
            "revoke_on = [7]",
            "`profile.dev.revoke_on` lists texts, not integer",
        ),
        (
            "max_view_age = \"1m\"",
            "max_view_age = \"5s\"",
            "`5s` is out of range; what is known of revocations may be",
        ),
        (
            "check_every = \"10s\"",
            "check_every = \"151s\"",
            "`151s` is out of range; an upstream is asked every 1s to 2m30s",
        ),
        (
            "check_every = \"10s\"",
            "check_every = \"31s\"",
            "`profile.dev.max_view_age` is less than twice",
        ),
        (
            "lease = \"strict\"",
            "lease = \"lax\"",
            "`profile.dev.lease`: `lax` is no lease",
        ),
        (
            "lease = \"strict\"",
            "lease = \"5s\"",
            "is out of range; a lease lasts from 15s to 12h",
        ),
        (
            "role_id = \"r-1\"",
            "role_id = \"a/b\"",
            "`profile.ci.role_id`: `a/b` is no role id",
        ),
        ("role_id = \"r-1\"", "", "`profile.ci.role_id` is missing"),
        (
            "upstream = \"bycloud\"",
            "upstream = \"byclod\"",
            "did you mean `bycloud`?",
        ),
        (
            "token = { file = \"token\" }",
            "token = \"t\"",
            "`upstream.bycloud.token` must be a table, not string",
        ),
        (
            "token = { file = \"token\" }",
            "token = { file = \"a\", env = \"B\" }",
            "more than one source",
        ),
        (
            "token = { file = \"token\" }",
            "token = { keyrings = \"a\" }",
            "did you mean `keyring`?",
        ),
        (
            "token = { file = \"token\" }",
            "token = { keyring = \"a b\" }",
            "`a b` is no name: an entry's name has 1 to 64",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = [] }",
            "`upstream.bycloud.token.command` names no program",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = \"op read\" }",
            "must be a list of texts in quotes",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = [\"op\"], keep = \"13h\" }",
            "is kept for 0s to 12h",
        ),
        (
            "token = { file = \"token\" }",
            "token = { file = \"a\", keep = \"1h\" }",
            "`upstream.bycloud.token.keep` belongs to",
        ),
        (
            "token = { file = \"token\" }",
            "token = { env = \"A\", identity = \"k\" }",
            "identity` belongs to `age`",
        ),
        (
            "token = { file = \"token\" }",
            "token = { file = \"a\" }\nproxy = \"socks\"",
            "is no proxy; write \"http://",
        ),
        (
            "lease = \"20m\"",
            "users = [\"no such user\"]",
            "`profile.ci.users`: `no such user` is no user of this machine",
        ),
        (
            "lease = \"20m\"",
            "groups = [true]",
            "`profile.ci.groups` lists names and numbers, not boolean",
        ),
        (
            "lease = \"20m\"",
            "confirm = \"often\"",
            "is none of \"always\", \"first\", \"never\" and a time",
        ),
        (
            "lease = \"20m\"",
            "confirm = \"13h\"",
            "a person's word is good for 1s to 12h",
        ),
        (
            "lease = \"20m\"",
            "callers = [{}]",
            "`profile.ci.callers` names nothing that a caller has to be",
        ),
        (
            "lease = \"20m\"",
            "callers = [7]",
            "`profile.ci.callers` lists tables",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ exe = \"/\" }]",
            "`/` is a folder, not a program",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ sha256 = \"00\" }]",
            "is no SHA-256: 64 hexadecimal digits",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ unit = \"ci\" }]",
            "is no unit; write one such as",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ path = \"/x\" }]",
            "unknown key `profile.ci.callers.path`",
        ),
        (
            "region = \"eu-central-1\"",
            "region = \"\"",
            "`profile.dev.region`: `` is no region",
        ),
        (
            "account_id = \"012345678901\"",
            "account_id = \"12345678901\"",
            "is no account; its number has 12 digits",
        ),
        (
            "port = 9911",
            "port = 80",
            "`endpoint.port`: 80 is out of range; a port of a user's own is from 1024 to 65535",
        ),
        (
            "port = 9911",
            "port = \"9911\"",
            "`endpoint.port` must be a whole number, not string",
        ),
        (
            "port = 9911",
            "prot = 9911",
            "unknown key `endpoint.prot`; did you mean `port`?",
        ),
        (
            "[profile.ci]",
            "[profil.ci]",
            "unknown key `profil`; did you mean `profile`?",
        ),
        (
            "[profile.ci]",
            "[profile.ci",
            "27:12: unclosed table, expected `]`",
        ),
    ];
    for (old, new, want) in cases {
        let found = faults(&with(old, new));
        assert!(
            found.iter().any(|fault| fault.contains(want)),
            "{new}: {found:?}"
        );
    }
}

#[test]
fn a_column_counts_characters_not_bytes() {
    let text = "[upstream.bycloud]\nkind = \"ü\" # é\n";
    assert!(
        faults(text)
            .contains(&"2:8: `upstream.bycloud.kind`: `ü` is no kind of upstream; this version knows `bycloud`".into())
    );
}

#[test]
fn a_missing_or_empty_file_is_answered_with_an_example() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("config.toml");
    assert!(load(&missing).unwrap_err().hint().contains("[profile.dev]"));
    for text in ["", " \n", "# nothing yet\n", "[upstream]\n"] {
        std::fs::write(&missing, text).unwrap();
        std::fs::set_permissions(
            &missing,
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let error = load(&missing).unwrap_err();
        assert!(
            matches!(error, ConfigError::Empty(_)) && error.hint().contains("[profile.dev]"),
            "{text:?}"
        );
    }
}

#[test]
fn no_text_however_broken_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..5_000 {
        let mut text: Vec<char> = GOOD.chars().collect();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..text.len().max(1));
            match random.u8(0..3) {
                0 if at < text.len() => drop(text.remove(at)),
                1 => text.insert(
                    at,
                    random
                        .choice([
                            '[', ']', '{', '}', '=', '"', '\'', '.', '#', '\n', '\\', 'é', '\0',
                        ])
                        .unwrap_or('x'),
                ),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = validate(&text, Path::new("/conf")) {
            let placed = faults
                .0
                .into_iter()
                .map(|fault| super::place(Path::new("c"), &text, fault.at, fault.what));
            assert!(
                placed
                    .into_iter()
                    .all(|fault| fault.line >= 1 && !fault.what.is_empty()),
                "{text}"
            );
        }
    }
}
