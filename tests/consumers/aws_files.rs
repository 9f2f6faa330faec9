//! The files of AWS, as rolekeeper and botocore read them: the same sections and values, and errors in the same files.

use std::path::Path;
use std::process::Command;

use rolekeeper::aws_file::{Ini, Section, Value};
use rolekeeper_tests::harness::{Home, SandboxProcess};
use serde_json::{Map, Value as Json, json};

use super::installed;

/// Prints for each file what botocore reads as a configuration file, and as a credentials file.
const ORACLE: &str = r#"
import json, os, sys
from botocore.configloader import load_config, raw_config_parse
from botocore.exceptions import ConfigParseError

def read(load, path):
    try:
        return load(path)
    except ConfigParseError:
        return None

folder = sys.argv[1]
json.dump([
    {"config": read(load_config, path), "credentials": read(raw_config_parse, path)}
    for path in (os.path.join(folder, str(number)) for number in range(len(os.listdir(folder))))
], sys.stdout)
"#;

/// One file for each rule.
const WRITTEN: &[&str] = &[
    "",
    "\n# only a comment\n",
    "[default]\nregion = eu-central-1\n",
    "[default]\nregion=eu-central-1\noutput : json\n",
    "[profile dev]\nrole_arn = arn:aws:iam::1:role/a=b\n",
    "[profile dev]\nRegion = A\n",
    "[profile dev]\nregion = a\nREGION = b\n",
    "[profile dev]\n[profile dev]\n",
    "[profile dev]\na = 1\n[profile \"dev\"]\nb = 2\n",
    "[profile \"my dev\"]\na = 1\n",
    "[profile 'my dev']\na = 1\n",
    "[profile my\\ dev]\na = 1\n",
    "[profile \"a\\\"b\\c\"]\na = 1\n",
    "[profile \"dev]\na = 1\n",
    "[profile dev\\]\na = 1\n",
    "[profile a b]\nx = 1\n",
    "[profile]\nx = 1\n",
    "[profile ]\nx = 1\n",
    "[ profile dev ]\nx = 1\n",
    "[profile\tdev]\nx = 1\n",
    "[profile  dev]\nx = 1\n",
    "[profilex dev]\nx = 1\n",
    "[profile default]\na = 1\n[default]\nb = 2\n",
    "[default]\na = 1\n[profile default]\nb = 2\n",
    "[DEFAULT]\na = 1\n[profile dev]\nb = 2\n",
    "[DEFAULT]\na = 1\n[profile dev]\na = 2\n[DEFAULT]\nc = 3\n",
    "[DEFAULT]\na = 1\n[DEFAULT]\na = 2\n",
    "[DEFAULT]\ns3 =\n  x = 1\n[profile dev]\n",
    "[Default]\na = 1\n",
    "[dev]\na = 1\n[sso-session s]\nsso_region = r\n[services v]\nsts =\n  endpoint_url = http://x\n[preview]\nx = true\n",
    "[sso-session \"a b\"]\nx = 1\n[sso-sessions c]\nx = 2\n",
    "[profile dev]\ns3 =\n  a = 1\n  b=2\n",
    "[profile dev]\ns3 =\n  a = 1\n\n  b = 2\n  a = 3\n",
    "[profile dev]\ns3 =\n  a\n",
    "[profile dev]\ns3 =\n  = a\n",
    "[profile dev]\ns3 =\n  a = \n",
    "[profile dev]\ns3 = x\n  a = 1\n",
    "[profile dev]\ns3 =\n  # c\n  a = 1\n  ; d\n",
    "[profile dev]\ns3 =\n  a = 1 # c\n",
    "[profile dev]\ns3 =\n\ta = 1\n\t\tb = 2\n",
    "[profile dev]\na = 1 # no comment\nb = 2 ; none\nc = # x\n",
    "[profile dev]\n  # comment\na = 1\n ; comment\nb = 2\n",
    "[profile dev]\na = 1\n  more\n\n  end\n\n\nb = 2\n",
    "[profile dev]\na = 1\n\n\n  # x\n\n  end\n",
    "[profile dev]\na = 1\n  [b]\n",
    "[profile dev]\n  a = 1\n  b = 2\n   c = 3\n b = 4\n",
    "[profile dev]\n  a = 1\nb = 2\n  c\n",
    "  [profile dev]\n  a = 1\n    b\n",
    "[profile dev] trailing\na = 1\n",
    "[profile dev]]\na = 1\n",
    "[[profile dev]\na = 1\n",
    "[]\na = 1\n",
    "[]=1\n",
    "[a]\n[]=1\n",
    "[profile dev\na = 1\n",
    "a = 1\n[profile dev]\n",
    "[profile dev]\nnothing\n",
    "[profile dev]\n= 1\n",
    "[profile dev]\n: 1\n",
    "[profile dev]\na\n  = 1\n",
    "[profile dev]\na =\n",
    "[profile dev]\na =\n\n  \n",
    "[profile dev]\na b c = 1\na:b=c\n",
    "[profile dev]\r\na = 1\r\n  b\r\n",
    "[profile dev]\ra = 1\r",
    "[profile dev]\na = 1\rb = 2\n",
    "\u{feff}[profile dev]\na = 1\n",
    "[profile é]\nÄ = ß\n",
    "[profile dev]\na = \u{a0}x\u{a0}\n\u{a0}b = 1\n",
    "[profile dev]\na = 1\x0b2\x0c3\x1c4\u{85}5\u{2028}6\n",
    "[profile dev]\na =\n  x = 1\x0by = 2\u{2028}z = 3\n",
    "[profile dev]\na = 1\x00b\n",
    "[profile dev]\na = %(b)s ${c}\n",
    "[profile dev]\na = \"quoted\"\n",
    "[profile dev]\na = 1\n#b = 2\n#  c\n  d\n",
    "[profile dev]\nrem a = 1\n",
    "[profile \"\"]\na = 1\n",
    "[profile # x]\na = 1\n",
    "[profile a#b]\na = 1\n",
    "[profile dev]#x\n",
    "[profile \u{a0}dev]\na = 1\n",
    "[profile dev\u{a0}]\na = 1\n",
    "[profile a\u{2003}b]\na = 1\n",
];

const GENERATED: usize = 2_000;

const PIECES: &[&str] = &[
    "[profile dev]",
    "[profile \"a b\"]",
    "[profile 'c']",
    "[default]",
    "[DEFAULT]",
    "[dev]",
    "[sso-session s]",
    "[services v]",
    "[profile dev",
    "]",
    "[",
    "a",
    "region",
    "Region",
    "s3",
    "role_arn",
    "source_profile",
    "=",
    " = ",
    ":",
    " : ",
    "\n",
    "\n",
    "\n",
    "\n",
    "\n\n",
    "\r\n",
    "\n ",
    "\n  ",
    "\n    ",
    "\n\t",
    " ",
    "#",
    " # ",
    ";",
    " ; x",
    "\"",
    "'",
    "\\",
    "x",
    "eu-central-1",
    "arn:aws:iam::111122223333:role/r",
    "\u{a0}",
    "\u{85}",
    "\x1c",
    "é",
    "İ",
    "a = 1\n",
    "b = 2\n",
    "  c = 3\n",
    "s3 =\n",
    "  x = 1\n",
    "[profile p]\n",
    "[profile q]\nsource_profile = p\n",
];

#[test]
fn files_are_read_as_botocore_reads_them() {
    let mut random = fastrand::Rng::with_seed(20);
    let generated = (0..GENERATED).map(|number| {
        let pieces = 1 + random.usize(..4 + number % 40);
        let text: String = (0..pieces)
            .map(|_| PIECES[random.usize(..PIECES.len())])
            .collect();
        // A file that begins with a header gets further.
        if random.bool() {
            format!("[profile z]\n{text}")
        } else {
            text
        }
    });
    let files: Vec<String> = WRITTEN
        .iter()
        .map(ToString::to_string)
        .chain(generated)
        .collect();

    let folder = tempfile::tempdir().unwrap();
    for (number, text) in files.iter().enumerate() {
        std::fs::write(folder.path().join(number.to_string()), text).unwrap();
    }

    let read_by_botocore = oracle(folder.path());
    let mut valid = 0;
    for (text, want) in files.iter().zip(&read_by_botocore) {
        let read = Ini::parse(text).ok();
        let config = read.as_ref().map(config);
        let credentials = read.as_ref().map(credentials);
        assert_eq!(json!(config), want["config"], "{text:?}");
        assert_eq!(json!(credentials), want["credentials"], "{text:?}");
        valid += usize::from(read.is_some());
    }

    assert_eq!(read_by_botocore.len(), files.len());
    assert!(
        (200..files.len() - 200).contains(&valid),
        "{valid} files are valid"
    );
}

fn oracle(folder: &Path) -> Vec<Json> {
    let output = Command::new(installed("python"))
        .args(["-X", "utf8", "-c", ORACLE])
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    serde_json::from_slice(&output.stdout).unwrap()
}

/// In the form of botocore's `load_config`.
fn config(ini: &Ini<'_>) -> Json {
    let named = |kind| {
        let sections = ini.named(kind).into_iter();
        sections
            .map(|(name, section)| (name, values(ini, section)))
            .collect::<Map<_, _>>()
    };
    let others = ini.plain_sections().filter(|section| {
        let header = &section.header;
        header != "default"
            && !["profile", "sso-session", "services"]
                .iter()
                .any(|kind| header.starts_with(kind))
    });

    let mut config: Map<_, _> = others
        .map(|section| (section.header.clone(), values(ini, section)))
        .collect();
    config.insert("profiles".into(), named("profile").into());
    config.insert("sso_sessions".into(), named("sso-session").into());
    config.insert("services".into(), named("services").into());

    config.into()
}

/// In the form of botocore's `raw_config_parse`.
fn credentials(ini: &Ini<'_>) -> Json {
    ini.plain_sections()
        .map(|section| (section.header.clone(), values(ini, section)))
        .collect()
}

fn values(ini: &Ini<'_>, section: &Section) -> Json {
    let values = ini.values(section).into_iter();
    values
        .map(|(key, value)| {
            let value = match value {
                Value::Text(text) => json!(text),
                Value::Nested(settings) => settings
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), json!(value)))
                    .collect(),
            };
            (key.to_owned(), value)
        })
        .collect()
}

/// The file of `setup aws --all`, with the one variable that it prints, in the AWS CLI.
#[test]
fn aws_cli_uses_the_file_of_setup_for_all_sections() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let arn = sandbox.aws_fixture(&["roles", "reader"]);
    let role = format!("role_arn = {arn}\nsource_profile = default\n");
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    home.private_file(
        ".aws/config",
        &format!(
            "[default]\n{role}region = eu-west-1\noutput = text\n[profile dev]\n{role}\
            [profile \"my dev\"]\n{role}region = eu-central-1\nservices = v\n\
            [services v]\nsts =\n  endpoint_url = http://127.0.0.1:1\n[profile sso]\nsso_session = s\n"
        ),
    );
    let keys = std::fs::read_to_string(sandbox.aws_key_file(&home, "ada")).unwrap();
    let (id, secret) = keys.split_once(':').unwrap();
    home.private_file(
        ".aws/credentials",
        &format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
    );
    home.configure(&format!(
        "[aws]\nconfig = \"~/.aws/config\"\nendpoint = \"{}\"\n",
        sandbox.aws()
    ));
    let _daemon = home.daemon(&[]);

    let setup = home.rolekeeper(&["setup", "aws", "--all", "--write"]);
    assert_eq!(setup.code, 0, "{setup:?}");
    let export = setup.stdout.trim_end().lines().next_back().unwrap();
    assert!(export.starts_with("export AWS_CONFIG_FILE="), "{setup:?}");

    let shell = |script: String| {
        let mut command = home.command(Path::new("sh"));
        command.args(["-c", &format!("{export}\n{script}")]);
        home.run(command)
    };
    let aws = installed("aws").display().to_string();
    for profile in ["default", "dev", "my dev"] {
        let run = shell(format!(
            "{aws} sts get-caller-identity --region eu-west-1 --endpoint-url {} --profile \"{profile}\" --output json",
            sandbox.aws()
        ));
        let arn = run.json()["Arn"].as_str().unwrap().to_owned();
        assert!(arn.contains("assumed-role/reader/"), "{profile}: {arn}");
    }
    for (name, want) in [("output", "text"), ("region", "eu-west-1")] {
        let run = shell(format!("{aws} configure get {name} --profile default"));
        assert_eq!(run.stdout.trim_end(), want, "{run:?}");
    }
}
