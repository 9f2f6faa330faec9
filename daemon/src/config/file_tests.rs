use std::time::Duration;

use super::*;
use crate::config::callers::{CallerRule, Confirm};
use crate::config::{
    AccountId, DEFAULT_CHECK, DEFAULT_SESSION, LeaseLimit, OnRevoke, Region, RevokeOn,
    TokenLocation,
};

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

/// Every error of a text as `line:column: message`.
fn errors(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for error in check(text, Path::new("/conf/config.toml")).unwrap_err() {
        lines.push(format!(
            "{}:{}: {}",
            error.line, error.column, error.message
        ));
    }
    lines
}

/// The good text with one part of it replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old));
    GOOD.replacen(old, new, 1)
}

#[test]
fn valid_file_is_read() {
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
fn token_location_and_callers_are_read() {
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
        words: vec!["/usr/bin/op".into(), "read".into()],
        keep: Duration::from_secs(keep),
    };
    assert_eq!(token("{ command = [\"/usr/bin/op\", \"read\"] }"), run(900));
    assert_eq!(
        token("{ command = [\"/usr/bin/op\", \"read\"], keep = \"0s\" }"),
        run(0)
    );
    let text = with(
        "lease = \"20m\"",
        "users = [\"root\", 0o2322]\ngroups = [0]\nconfirm = \"15m\"\n\
         callers = [{ exe = \"/usr/bin/x\", terminal = true }, { under = \"./y\", unit = \"ci.service\" }]",
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
fn all_errors_are_reported_in_file_order() {
    let text = "[upstream.a]\nkind = \"bycloudd\"\nendpoint = \"http://iam.example.test\"\ntoken = {}\nregion = 1\n\n[profile.\"x y\"]\nupstream = \"b\"\nduration = \"13h\"\n";
    insta::assert_snapshot!(errors(text).join("\n"), @r#"
    2:8: `upstream.a.kind`: `bycloudd` is not a kind of upstream; use "aws" or "bycloud"
    3:12: `upstream.a.endpoint`: `http://iam.example.test` would send the token in clear; use https, or http on a loopback address
    4:9: `upstream.a.token` has no location; set { keyring = "NAME" }, { file = "PATH" } or { command = ["PROGRAM", …] }
    5:1: unknown key `upstream.a.region`; the keys here are kind, endpoint, token, check_every, ca, proxy
    7:10: `profile.x y` is not a valid name: use 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit
    7:10: `profile.x y.role_id` is missing; set, for example, role_id = "550e8400-e29b-41d4-a716-446655440000"
    8:12: `profile.x y.upstream`: `b` is not an upstream; add [upstream.b]
    9:12: `profile.x y.duration`: `13h` is out of range; use 15m to 12h
    "#);
}

#[test]
fn invalid_value_has_its_own_message() {
    let cases = [
        (
            "duration = \"1h30m\"",
            "duration = \"14m\"",
            "`profile.dev.duration`: `14m` is out of range",
        ),
        (
            "duration = \"1h30m\"",
            "duration = \"12h1s\"",
            "is out of range; use 15m to 12h",
        ),
        (
            "duration = \"1h30m\"",
            "duration = 3600",
            "`profile.dev.duration` must be a string, not integer",
        ),
        (
            "duration = \"1h30m\"",
            "duration = \"3600\"",
            "is not a duration; use a number and a unit",
        ),
        (
            "duration = \"1h30m\"",
            "duration = \"-1h\"",
            "is not a duration",
        ),
        (
            "duration = \"1h30m\"",
            "durration = \"1h\"",
            "unknown key `profile.dev.durration`; did you mean `duration`?",
        ),
        (
            "on_revoke = \"reassume\"",
            "on_revoke = \"ignore\"",
            "`ignore` is not an option; use \"hold\" or \"reassume\"",
        ),
        (
            "revoke_on = [\"stop\", \"sleep\"]",
            "revoke_on = \"stop\"",
            "`profile.dev.revoke_on` must be an array of strings, not string",
        ),
        (
            "revoke_on = [\"stop\", \"sleep\"]",
            "revoke_on = [\"stop\", \"lid\"]",
            "`lid` is not an event; use \"stop\", \"lock\" or \"sleep\"",
        ),
        (
            "revoke_on = [\"stop\", \"sleep\"]",
            "revoke_on = [7]",
            "`profile.dev.revoke_on` must contain strings, not integer",
        ),
        (
            "max_view_age = \"1m\"",
            "max_view_age = \"5s\"",
            "`5s` is out of range; use 10s to 12h",
        ),
        (
            "check_every = \"10s\"",
            "check_every = \"151s\"",
            "`151s` is out of range; use 1s to 2m30s",
        ),
        (
            "check_every = \"10s\"",
            "check_every = \"31s\"",
            "`profile.dev.max_view_age` is less than twice",
        ),
        (
            "lease = \"strict\"",
            "lease = \"lax\"",
            "`profile.dev.lease`: `lax` is not a lease",
        ),
        (
            "lease = \"strict\"",
            "lease = \"5s\"",
            "is out of range; use 15s to 12h",
        ),
        (
            "role_id = \"r-1\"",
            "role_id = \"a/b\"",
            "`profile.ci.role_id`: `a/b` is not a role id",
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
            "more than one location",
        ),
        (
            "token = { file = \"token\" }",
            "token = { keyrings = \"a\" }",
            "did you mean `keyring`?",
        ),
        (
            "token = { file = \"token\" }",
            "token = { keyring = \"a b\" }",
            "`a b` is not a valid name: use 1 to 64",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = [] }",
            "`upstream.bycloud.token.command` names no program",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = [\"sh\", \"-c\"] }",
            "`upstream.bycloud.token.command`: `sh` is not a path; write \"/",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = [\"no-such-program\"] }",
            "`no-such-program` is not a path; write the one that `command -v no-such-program` prints",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ exe = \"sh\" }]",
            "`profile.ci.callers.exe`: `sh` is not a path; write \"/",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ under = \"sh\" }]",
            "`profile.ci.callers.under`: `sh` is not a path; write \"/",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = \"op read\" }",
            "must be an array of strings",
        ),
        (
            "token = { file = \"token\" }",
            "token = { command = [\"/usr/bin/op\"], keep = \"13h\" }",
            "`13h` is out of range; use 0s to 12h",
        ),
        (
            "token = { file = \"token\" }",
            "token = { file = \"a\", keep = \"1h\" }",
            "`upstream.bycloud.token.keep` needs `command`",
        ),
        (
            "token = { file = \"token\" }",
            "token = { env = \"A\", identity = \"k\" }",
            "identity` needs `age`",
        ),
        (
            "token = { file = \"token\" }",
            "token = { file = \"a\" }\nproxy = \"socks\"",
            "is not a proxy; use \"http://",
        ),
        (
            "lease = \"20m\"",
            "users = [\"no such user\"]",
            "`profile.ci.users`: `no such user` is not a user of this system",
        ),
        (
            "lease = \"20m\"",
            "groups = [true]",
            "`profile.ci.groups` must contain names and numbers, not boolean",
        ),
        (
            "lease = \"20m\"",
            "confirm = \"often\"",
            "is not an option; use \"always\", \"first\", \"never\" or a duration",
        ),
        (
            "lease = \"20m\"",
            "confirm = \"13h\"",
            "`13h` is out of range; use 1s to 12h",
        ),
        (
            "lease = \"20m\"",
            "callers = [{}]",
            "`profile.ci.callers` contains an empty rule",
        ),
        (
            "lease = \"20m\"",
            "callers = [7]",
            "`profile.ci.callers` must contain tables",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ exe = \"/\" }]",
            "`/` is a folder, not a program",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ sha256 = \"00\" }]",
            "is not a SHA-256; use the 64 hexadecimal digits",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ unit = \"ci\" }]",
            "is not a unit; use a name such as",
        ),
        (
            "lease = \"20m\"",
            "callers = [{ path = \"/x\" }]",
            "unknown key `profile.ci.callers.path`",
        ),
        (
            "region = \"eu-central-1\"",
            "region = \"\"",
            "`profile.dev.region`: `` is not a region",
        ),
        (
            "account_id = \"012345678901\"",
            "account_id = \"12345678901\"",
            "is not an account; use its 12 digits",
        ),
        (
            "port = 9911",
            "port = 80",
            "`endpoint.port`: 80 is out of range; use 1024 to 65535",
        ),
        (
            "port = 9911",
            "port = \"9911\"",
            "`endpoint.port` must be an integer, not string",
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
        let found = errors(&with(old, new));
        assert!(
            found.iter().any(|error| error.contains(want)),
            "{new}: {found:?}"
        );
    }
}

#[test]
fn columns_are_characters_not_bytes() {
    let text = "[upstream.bycloud]\nkind = \"ü\" # é\n";
    assert!(errors(text).contains(
        &"2:8: `upstream.bycloud.kind`: `ü` is not a kind of upstream; use \"aws\" or \"bycloud\"".into()
    ));
}

#[test]
fn missing_or_empty_file_gets_example() {
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
            matches!(error, ConfigError::NoUpstream(_)) && error.hint().contains("[profile.dev]"),
            "{text:?}"
        );
    }
}

#[test]
fn broken_text_never_panics() {
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
        if let Err(errors) = check(&text, Path::new("/conf/config.toml")) {
            let is_located = |error: &InvalidConfig| error.line >= 1 && !error.message.is_empty();
            assert!(errors.iter().all(is_located), "{text}");
        }
    }
}

const AWS: &str =
    "[upstream.aws]\nkind = \"aws\"\nregion = \"eu-central-1\"\nkeys = { file = \"k\" }\n";
const ROLE: &str = "role_arn = \"arn:aws:iam::111122223333:role/a\"\n";

#[test]
fn profile_of_aws_has_the_region_of_its_upstream_and_the_account_of_its_role() {
    let text = format!("{AWS}[profile.dev]\nupstream = \"aws\"\n{ROLE}");
    let config = validate(&text, Path::new("/conf")).unwrap();
    let profile = &config.upstreams[0].profiles[0];

    assert_eq!(profile.region.as_ref().unwrap().as_str(), "eu-central-1");
    assert_eq!(
        profile.account_id.as_ref().unwrap().as_str(),
        "111122223333"
    );
    assert_eq!(
        config.upstreams[0].endpoint.to_string(),
        "https://sts.eu-central-1.amazonaws.com"
    );
}

#[test]
fn what_aws_would_refuse_is_an_error_with_a_position() {
    let mfa = "mfa = { serial = \"arn:aws:iam::111122223333:mfa/ada\" }\n";
    let dev = format!("[profile.dev]\nupstream = \"aws\"\n{ROLE}");
    let cases = [
        (
            AWS.replace("eu-central-1", "aws-global"),
            "is not a region of AWS",
        ),
        (
            format!("{AWS}{}", dev.replace("arn:aws:", "arn:aws-cn:")),
            "is a role of the partition aws-cn",
        ),
        (
            format!("{AWS}{mfa}{dev}duration = \"2h\""),
            "the limit of AWS for a role that is assumed with an MFA session",
        ),
        (
            format!("{AWS}{mfa}mfa_session = \"none\""),
            "needs `command` or `totp` beside mfa_session",
        ),
        (
            format!("{AWS}mfa_session = \"2h\""),
            "needs `mfa` beside it",
        ),
        (
            format!("{AWS}{dev}[profile.b]\nfrom = \"dev\"\n{ROLE}duration = \"2h\""),
            "the limit of AWS for a role that a session assumes",
        ),
        (
            format!("{AWS}[profile.a]\nfrom = \"b\"\n{ROLE}[profile.b]\nfrom = \"a\"\n{ROLE}"),
            "leads in a circle: b from a from b",
        ),
        (
            format!("{AWS}[profile.a]\nfrom = \"c\"\n{ROLE}"),
            "is not a profile",
        ),
        (
            format!("{AWS}{dev}external_id = \"x\""),
            "is not an external id; use 2 to 1224",
        ),
        (
            format!("{AWS}{dev}transitive_tags = [\"team\"]"),
            "is not one of `tags`",
        ),
        (
            format!("{AWS}{dev}policy = \"no-such-file\""),
            "cannot be read",
        ),
    ];
    for (text, want) in cases {
        let all = errors(&text).join("\n");
        assert!(all.contains(want), "{text}\n{all}");
    }
}
