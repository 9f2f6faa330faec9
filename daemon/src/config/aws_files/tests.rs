use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::file::check;
use crate::config::{Config, Role, TokenLocation};

const CREDENTIALS: &str = "
[keys]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = secret
[temporary]
aws_access_key_id = ASIAIOSFODNN7EXAMPLE
aws_secret_access_key = secret
aws_session_token = token
";

/// A role of the keys.
const DEV: &str =
    "[profile dev]\nrole_arn = arn:aws:iam::111122223333:role/dev\nsource_profile = keys\n";

/// The configuration with these files of AWS.
fn read(aws_config: &str, more: &str) -> Config {
    read_in(tempfile::tempdir().unwrap().path(), aws_config, more)
}

fn read_in(folder: &Path, aws_config: &str, more: &str) -> Config {
    for (name, text) in [("config", aws_config), ("credentials", CREDENTIALS)] {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    let text = format!("[aws]\nconfig = \"config\"\ncredentials = \"credentials\"\n{more}");
    check(&text, &folder.join("config.toml")).unwrap()
}

fn profiles(config: &Config) -> Vec<&str> {
    config
        .profiles()
        .map(|profile| profile.name.as_str())
        .collect()
}

/// Why this section is not served.
fn reason(aws_config: &str, section: &str) -> String {
    let config = read(aws_config, "");
    let files = config.aws_files.unwrap();
    assert_eq!(files.problems, [""; 0]);
    let found = files
        .not_served
        .into_iter()
        .find(|each| each.section == section);
    found.unwrap().reason
}

#[test]
fn role_of_keys_is_a_profile() {
    let more = format!(
        "{DEV}external_id = x-1\nrole_session_name = ada\nregion = eu-west-1\nduration_seconds = 7200\n"
    );
    let config = read(&more, "region = \"eu-central-1\"");
    let [upstream] = config.upstreams.as_slice() else {
        panic!("{config:?}")
    };
    let [profile] = upstream.profiles.as_slice() else {
        panic!("{config:?}")
    };
    let Role::Aws(role) = &profile.role.role else {
        panic!("{config:?}")
    };

    assert_eq!(&*upstream.name, "aws.keys");
    assert!(matches!(&upstream.token, TokenLocation::AwsFile { section, .. } if section == "keys"));
    assert_eq!(
        upstream.endpoint.to_string(),
        "https://sts.eu-west-1.amazonaws.com"
    );
    assert_eq!(profile.name.as_str(), "aws.dev");
    assert_eq!(profile.region.as_ref().unwrap().as_str(), "eu-west-1");
    assert_eq!(profile.role.duration.as_secs(), 7200);
    assert_eq!(role.arn, "arn:aws:iam::111122223333:role/dev");
    assert_eq!(
        (role.external_id.as_deref(), role.session_name.as_deref()),
        (Some("x-1"), Some("ada"))
    );
    assert!(!role.with_mfa && profile.base.is_none());
}

#[test]
fn role_with_a_device_has_the_mfa_session_of_the_keys() {
    let serial = "mfa_serial = arn:aws:iam::111122223333:mfa/ada\nduration_seconds = 43200\n";
    let config = read(&format!("{DEV}{serial}"), "mfa_session = \"2h\"");
    let profile = config.profiles().next().unwrap();
    let UpstreamKind::Aws(settings) = &config.upstreams[0].kind else {
        panic!("{config:?}")
    };
    let mfa = settings.mfa.as_ref().unwrap();
    assert_eq!(mfa.session, Some(Duration::from_secs(7200)));
    // A session is refreshed, and longer ones are refused.
    assert_eq!(profile.role.duration.as_secs(), 3600);
}

#[test]
fn role_of_a_role_has_that_as_its_base() {
    let chained = "[profile deploy]\nrole_arn = arn:aws:iam::111122223333:role/deploy\nsource_profile = dev\nduration_seconds = 7200\n";
    let config = read(&format!("{chained}{DEV}"), "");
    let deploy = config
        .profiles()
        .find(|profile| profile.name.as_str() == "aws.deploy");
    let deploy = deploy.unwrap();
    assert_eq!(deploy.base.as_ref().unwrap().as_str(), "aws.dev");
    assert_eq!(
        (&*deploy.upstream, deploy.role.duration.as_secs()),
        ("aws.keys", 3600)
    );
}

#[test]
fn section_may_be_its_own_source() {
    let own =
        "[profile keys]\nrole_arn = arn:aws:iam::111122223333:role/dev\nsource_profile = keys\n";
    assert_eq!(profiles(&read(own, "")), ["aws.keys"]);
}

#[test]
fn keys_may_be_in_the_configuration() {
    let upstream = "[upstream.\"aws.gone\"]\nkind = \"aws\"\nregion = \"eu-central-1\"\nkeys = { keyring = \"k\" }\n";
    let text = DEV.replace("source_profile = keys", "source_profile = gone");
    let config = read(&text, upstream);
    let [upstream] = config.upstreams.as_slice() else {
        panic!("{config:?}")
    };
    assert_eq!(upstream.token, TokenLocation::Keyring("k".into()));
    assert_eq!(profiles(&config), ["aws.dev"]);
}

#[test]
fn profile_whose_base_is_not_served_is_not_served() {
    let role = "role_arn = arn:aws:iam::111122223333:role/x";
    let text = format!(
        "[profile far]\n{role}\nsource_profile = mid\n[profile mid]\n{role}\nsource_profile = bad\n\
        [profile bad]\n{role}\nsource_profile = keys\nduration_seconds = 1\n"
    );
    assert!(profiles(&read(&text, "")).is_empty());
    for section in ["far", "mid"] {
        assert!(reason(&text, section).contains("is not served"));
    }
}

#[test]
fn file_that_others_can_write_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    read_in(folder.path(), DEV, "");
    let path = folder.path().join("config");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let text = "[aws]\nconfig = \"config\"\ncredentials = \"credentials\"\n";
    let config = check(text, &folder.path().join("config.toml")).unwrap();
    assert!(config.upstreams.is_empty());
    assert!(config.aws_files.unwrap().problems[0].contains("0666"));
}

#[test]
fn options_are_added_to_a_generated_profile() {
    let config = read(
        DEV,
        "[profile.\"aws.dev\"]\nlease = \"strict\"\nconfirm = \"always\"\n",
    );
    let profile = config.profiles().next().unwrap();
    assert_eq!(profile.lease, crate::config::LeaseLimit::Strict);
    assert!(profile.callers.is_guarded());

    let config = read("", "[profile.\"aws.gone\"]\nlease = \"strict\"\n");
    let files = config.aws_files.unwrap();
    assert_eq!(files.not_served.last().unwrap().section, "aws.gone");

    let text = "[aws]\nconfig = \"/none\"\n[profile.\"aws.dev\"]\nrole_arn = \"x\"\n";
    let errors = check(text, Path::new("/c/config.toml")).unwrap_err();
    assert!(errors[0].message.contains("unknown key"), "{errors:?}");
}

#[test]
fn section_that_cannot_be_served_has_a_reason() {
    let role = "role_arn = arn:aws:iam::111122223333:role/x";
    for (text, section, want) in [
        ("", "keys", "no `role_arn`"),
        ("", "temporary", "of a session"),
        (
            &format!("[profile x]\n{role}\nsource_profile = temporary"),
            "x",
            "of a session",
        ),
        ("[profile x]\nsso_session = s", "x", "Identity Center"),
        (
            &format!("[profile x]\n{role}\nweb_identity_token_file = t"),
            "x",
            "web_identity",
        ),
        ("[profile x]\nlogin_session = arn", "x", "login_session"),
        (
            &format!("[profile x]\n{role}\ncredential_source = Environment"),
            "x",
            "credential_source",
        ),
        (
            "[profile x]\ncredential_process = /bin/true",
            "x",
            "credential_process",
        ),
        ("[profile x]\nregion = eu-west-1", "x", "no credentials"),
        (&format!("[profile x]\n{role}"), "x", "no `source_profile`"),
        (
            &format!("[profile x]\n{role}\nsource_profile = gone"),
            "x",
            "no section",
        ),
        (
            &format!("[profile x]\n{role}\nsource_profile = x"),
            "x",
            "leads back",
        ),
        (
            &format!(
                "[profile x]\n{role}\nsource_profile = y\n[profile y]\n{role}\nsource_profile = x"
            ),
            "x",
            "leads back",
        ),
        (
            &format!("[profile x]\n{role}\nsource_profile = y\n[profile y]\nsso_session = s"),
            "x",
            "its source [y]: IAM",
        ),
        (
            "[profile x]\nrole_arn = nonsense\nsource_profile = keys",
            "x",
            "not the ARN",
        ),
        (
            &format!("[profile x]\n{role}\nsource_profile = keys\nduration_seconds = 60"),
            "x",
            "`duration_seconds`",
        ),
        (
            &format!("[profile x]\n{role}\nsource_profile = keys\nduration_seconds = 1h"),
            "x",
            "not a number",
        ),
        (
            &format!("[profile x]\n{role}\nsource_profile = keys\nrole_session_name = a b"),
            "x",
            "`role_session_name`",
        ),
        (
            &format!("[profile x]\n{role}\nsource_profile = keys\nregion = nowhere"),
            "x",
            "`region`",
        ),
        (
            &format!("[profile x]\n{role}\nsource_profile = keys\nmfa_serial = 1"),
            "x",
            "`mfa_serial`",
        ),
        (
            &format!(
                "{DEV}mfa_serial = 123456789\n[profile x]\n{role}\nsource_profile = keys\nmfa_serial = 987654321"
            ),
            "x",
            "differs from that of [dev]",
        ),
        (
            &format!(
                "[profile \"a b\"]\n{role}\nsource_profile = keys\n[profile a-b]\n{role}\nsource_profile = keys"
            ),
            "a-b",
            "[a b]",
        ),
        (
            &format!(
                "[profile {}]\n{role}\nsource_profile = keys",
                "x".repeat(61)
            ),
            &"x".repeat(61),
            "longer",
        ),
    ] {
        let reason = reason(text, section);
        assert!(reason.contains(want), "{text}: {reason}");
    }
}

#[test]
fn error_of_a_whole_file_stops_nothing() {
    let config = read("[profile x]\nnothing\n", "");
    let files = config.aws_files.unwrap();
    assert!(files.problems[0].contains("line 2"), "{files:?}");
    assert!(config.upstreams.is_empty());
}

#[test]
fn no_secret_is_remembered() {
    let config = read(DEV, "");
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn fingerprint_changes_with_what_is_made_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let fingerprint = |text: &str| {
        let files = read_in(folder.path(), text, "").aws_files;
        files.unwrap().fingerprint
    };
    let other = DEV.replace("role/dev", "role/other");
    assert_ne!(fingerprint(DEV), fingerprint(&other));
    assert_eq!(
        fingerprint(DEV),
        fingerprint(&format!("{DEV}output = json\n# x\n"))
    );
}
