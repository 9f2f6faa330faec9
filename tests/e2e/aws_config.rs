//! Profiles of the sections in `~/.aws/config`: they are served, follow the files without a reload by hand, and an error in
//! the files stops nothing.

use rolekeeper_tests::harness::{Home, SandboxProcess, eventually, programs};
use serde_json::{Value, json};

use crate::login::with_input;

/// A home with files of AWS, which the configuration names. The keys are those of `ada`.
fn home(sandbox: &SandboxProcess, aws_config: &str) -> Home {
    let home = Home::default();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    home.private_file(".aws/config", aws_config);

    let keys = std::fs::read_to_string(sandbox.aws_key_file(&home, "ada")).unwrap();
    let (id, secret) = keys.split_once(':').unwrap();
    home.private_file(
        ".aws/credentials",
        &format!("[keys]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
    );
    home.configure(&format!(
        "[aws]\nconfig = \"~/.aws/config\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"\n",
        sandbox.aws()
    ));

    home
}

/// A section with a role of the sandbox.
fn section(sandbox: &SandboxProcess, name: &str, role: &str, source: &str) -> String {
    let arn = sandbox.aws_fixture(&["roles", role]);
    format!("[profile {name}]\nrole_arn = {arn}\nsource_profile = {source}\nregion = eu-west-1\n")
}

/// A section with a role that the keys may assume.
fn reader(sandbox: &SandboxProcess, name: &str) -> String {
    section(sandbox, name, "reader", "keys")
}

fn status(home: &Home) -> Value {
    home.rolekeeper(&["status", "--json"]).json()
}

fn profiles(home: &Home) -> Vec<String> {
    let status = status(home);
    let profiles = status["profiles"].as_array().unwrap().iter();
    profiles
        .map(|each| each["profile"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn section_is_served_with_keys_of_the_credentials_file() {
    let sandbox = SandboxProcess::start(&[]);
    let partner = section(&sandbox, "dev", "partner", "keys");
    let home = home(
        &sandbox,
        &(partner + "external_id = x-1\nrole_session_name = work\n"),
    );
    let daemon = home.daemon(&[]);

    let lease = home.rolekeeper(&["credential-process", "aws.dev"]).json();
    let arn = sandbox.aws_fixture(&["roles", "partner"]);
    let account = lease["AccountId"].as_str().unwrap();
    assert!(arn.contains(account), "{lease}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn chain_of_sections_is_assumed_in_its_order() {
    let sandbox = SandboxProcess::start(&[]);
    let far = section(&sandbox, "far", "target", "dev");
    let home = home(&sandbox, &(far + &reader(&sandbox, "dev")));
    let _daemon = home.daemon(&[]);

    let run = home.rolekeeper(&["credential-process", "aws.far"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(sandbox.aws_calls("AssumeRole"), 2);
}

#[test]
fn one_code_serves_all_sections_with_the_device() {
    let sandbox = SandboxProcess::start(&[]);
    let serial = sandbox.aws_fixture(&["mfa", "serial"]);
    let sections = [("admin", "admin"), ("dev", "reader")].map(|(name, role)| {
        section(&sandbox, name, role, "keys") + &format!("mfa_serial = {serial}\n")
    });
    let home = home(&sandbox, &sections.concat());
    let _daemon = home.daemon(&[]);

    let login = with_input(&home, &["login"], format!("{}\n", sandbox.mfa_code()));
    assert_eq!(login.code, 0, "{login:?}");
    for profile in ["aws.admin", "aws.dev"] {
        let run = home.rolekeeper(&["credential-process", profile]);
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert_eq!(sandbox.aws_calls("GetSessionToken"), 1);
}

#[test]
fn changes_of_the_files_apply_without_a_reload_by_hand() {
    let sandbox = SandboxProcess::start(&[]);
    let home = home(&sandbox, &reader(&sandbox, "dev"));
    let _daemon = home.daemon(&[]);
    assert_eq!(home.rolekeeper(&["credential-process", "aws.dev"]).code, 0);

    // In parts, as a slow editor writes: the first part alone is not valid.
    let more = reader(&sandbox, "dev") + &reader(&sandbox, "other");
    home.private_file(".aws/config", &more[..more.len() - 60]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    home.private_file(".aws/config", &more);
    eventually("the new section is a profile", || {
        (profiles(&home) == ["aws.dev", "aws.other"]).then_some(())
    });
    assert_eq!(home.rolekeeper(&["credential-process", "aws.dev"]).code, 0);
    assert_eq!(sandbox.aws_calls("AssumeRole"), 1, "the session stays");

    // As another program replaces it.
    let new = home.private_file(".aws/new", &reader(&sandbox, "other"));
    std::fs::rename(new, home.path().join(".aws/config")).unwrap();
    eventually("the section is gone", || {
        (profiles(&home) == ["aws.other"]).then_some(())
    });

    // Keys of another section.
    let keys = std::fs::read_to_string(home.path().join(".aws/credentials")).unwrap();
    home.private_file(".aws/credentials", &keys.replace("[keys]", "[other]"));
    eventually("there are no keys", || {
        profiles(&home).is_empty().then_some(())
    });
}

#[test]
fn broken_file_keeps_profiles_until_it_is_correct() {
    let sandbox = SandboxProcess::start(&[]);
    let home = home(&sandbox, &reader(&sandbox, "dev"));
    let daemon = home.daemon(&[]);

    home.private_file(".aws/config", "[profile dev]\nnothing\n");
    eventually("the reload is refused", || {
        let status = status(&home);
        let reason = status["daemon"]["failed_reload"]["reason"]
            .as_str()?
            .to_owned();
        reason.contains("line 2").then_some(())
    });
    assert_eq!(profiles(&home), ["aws.dev"]);
    assert_eq!(home.rolekeeper(&["credential-process", "aws.dev"]).code, 0);

    home.private_file(".aws/config", &reader(&sandbox, "good"));
    eventually("the correct file applies", || {
        (profiles(&home) == ["aws.good"]).then_some(())
    });

    // A start needs no correct file.
    assert_eq!(daemon.stop(), 0);
    home.private_file(".aws/config", "[profile dev]\nnothing\n");
    let check = home.rolekeeperd(&["--check"]);
    assert_eq!(check.code, 2, "{check:?}");
    assert!(check.stderr.contains("line 2"), "{check:?}");
    let daemon = home.daemon(&[]);
    assert!(profiles(&home).is_empty());
    assert!(daemon.log().contains("line 2"), "{}", daemon.log());
}

#[test]
fn section_that_is_not_served_is_listed() {
    let sandbox = SandboxProcess::start(&[]);
    let text = reader(&sandbox, "dev") + "[profile corp]\nsso_session = corp\n";
    let home = home(&sandbox, &text);
    let place = format!(
        "{}:5: [corp] is not served",
        home.path().join(".aws/config").display()
    );

    let check = home.rolekeeperd(&["--check"]);
    assert_eq!(check.code, 0, "{check:?}");
    assert!(check.stdout.contains(&place), "{check:?}");

    let daemon = home.daemon(&[]);
    assert!(daemon.log().contains(&place), "{}", daemon.log());
    let files = &status(&home)["daemon"]["aws_files"];
    assert_eq!(files["not_served_count"], 2, "{files}");
    assert_eq!(files["not_served"][0]["section"], "corp");
    let prose = home.rolekeeper(&["status"]).stdout;
    assert!(prose.contains("2 sections of"), "{prose}");
}

#[test]
fn own_client_in_credential_process_is_no_source() {
    let sandbox = SandboxProcess::start(&[]);
    let home = home(&sandbox, "");
    let link = home.path().join("another-name");
    std::os::unix::fs::symlink(programs().rolekeeper.canonicalize().unwrap(), &link).unwrap();
    let text = format!(
        "[profile dev]\ncredential_process = {} credential-process aws.dev\n",
        link.display()
    );
    home.private_file(".aws/config", &text);

    let check = home.rolekeeperd(&["--check"]);
    assert!(
        check
            .stdout
            .contains("profile aws.dev of rolekeeper already"),
        "{check:?}"
    );
}

#[test]
fn setup_writes_another_file_for_all_sections() {
    let sandbox = SandboxProcess::start(&[]);
    let own = reader(&sandbox, "dev")
        + "output = json\ns3 =\n  addressing_style = path\n"
        + &reader(&sandbox, "\"my dev\"")
        + "[profile corp]\nsso_session = corp\n";
    let home = home(&sandbox, &own);
    let _daemon = home.daemon(&[]);
    let file = home.path().join("config/rolekeeper/aws-config");
    let export = format!("export AWS_CONFIG_FILE={}", file.display());

    let shown = home.rolekeeper(&["setup", "aws", "--all"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(!file.exists());
    assert!(shown.stdout.contains("Not served: [corp]"), "{shown:?}");
    assert!(
        shown.stdout.ends_with(&(export.clone() + "\n")),
        "{shown:?}"
    );

    let written = home
        .rolekeeper(&["setup", "aws", "--all", "--write", "--json"])
        .json();
    assert_eq!(written["export"], json!(export));
    let text = std::fs::read_to_string(&file).unwrap();
    let client = programs().rolekeeper.canonicalize().unwrap();
    for part in [
        "\n[profile dev]\nregion = eu-west-1\n",
        "\n[profile \"my dev\"]\n",
        &format!(
            "credential_process = {} credential-process aws.my-dev\n",
            client.display()
        ),
        "output = json\ns3 =\n  addressing_style = path\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(
        !text.contains("role_arn") && !text.contains("corp"),
        "{text}"
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        std::fs::read_to_string(home.path().join(".aws/config")).unwrap(),
        own
    );

    let again = home.rolekeeper(&["setup", "aws", "--all", "--write"]);
    assert!(again.stdout.contains("already up to date"), "{again:?}");

    let undone = home.rolekeeper(&["setup", "aws", "--all", "--undo", "--write"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    assert!(!file.exists());

    // A file of another user.
    home.private_file("config/rolekeeper/aws-config", "[default]\n");
    let refused = home.rolekeeper(&["setup", "aws", "--all", "--write"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("not a file of"),
        "{refused:?}"
    );
}

#[test]
fn imported_keys_serve_the_sections_that_used_the_file() {
    let sandbox = SandboxProcess::start(&[]);
    let home = home(&sandbox, &reader(&sandbox, "dev"));
    let daemon = home.daemon(&[]);
    let import = ["import", "aws", "--profile", "keys"];

    let refused = home.rolekeeper(&import);
    assert!(
        refused.code == 2 && refused.stderr.contains("[upstream.\"aws.keys\"]"),
        "{refused:?}"
    );

    let text = std::fs::read_to_string(home.config_path()).unwrap();
    let upstream = format!(
        "[upstream.\"aws.keys\"]\nkind = \"aws\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"\n\
        keys = {{ age = \"keys.age\", identity = \"key\" }}\n",
        sandbox.aws()
    );
    home.configure(&(text + &upstream));
    // A new place for keys needs a restart.
    assert_eq!(daemon.stop(), 0);
    let _daemon = home.daemon(&[]);
    let imported = home.rolekeeper(&import);
    assert_eq!(imported.code, 0, "{imported:?}");
    let credentials = home.path().join(".aws/credentials");
    let line = format!("{}:3: aws_secret_access_key", credentials.display());
    assert!(imported.stdout.contains(&line), "{imported:?}");

    std::fs::remove_file(credentials).unwrap();
    let run = home.rolekeeper(&["refresh", "aws.dev"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(profiles(&home), ["aws.dev"]);
}
