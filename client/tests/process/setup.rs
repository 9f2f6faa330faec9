//! `rolekeeper setup` in a home of its own: preview, write and undo. Only the last test has a daemon. The tests with kubectl
//! are in `tests/consumers/plugins.rs`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::fake_daemon::FakeDaemon;

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_rolekeeper");

/// A user's folder, with `~/.local/bin` on `PATH`.
pub(super) struct Home(TempDir);

impl Home {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".local/bin")).unwrap();
        Self(home)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let others = std::env::var("PATH").unwrap();
        let path = format!("{}:{others}", self.path(".local/bin").display());
        command
            .env_clear()
            .env("HOME", self.path(""))
            .env("PATH", path);
        command
    }

    pub(super) fn run(&self, line: &str) -> Output {
        let mut command = self.command(Path::new(PROGRAM));
        command.arg("setup").args(line.split(' ')).output().unwrap()
    }

    /// What it prints if it succeeds.
    pub(super) fn done(&self, line: &str) -> String {
        let run = self.run(line);
        assert!(
            run.status.success() && run.stderr.is_empty(),
            "{line}: {run:?}"
        );
        String::from_utf8(run.stdout).unwrap()
    }

    /// The error of a command that must change no file.
    pub(super) fn refused(&self, line: &str) -> String {
        let before = self.everything();
        let run = self.run(line);
        assert!(
            run.status.code() == Some(2) && run.stdout.is_empty(),
            "{line}: {run:?}"
        );
        assert_eq!(self.everything(), before, "{line}");
        String::from_utf8(run.stderr).unwrap()
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Every file with its bytes, its inode and its time of change.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>, u64, i64, i64)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.path("")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                if meta.is_dir() {
                    folders.push(path);
                } else if meta.is_file() {
                    found.push((
                        path.clone(),
                        fs::read(&path).unwrap(),
                        meta.ino(),
                        meta.mtime(),
                        meta.mtime_nsec(),
                    ));
                }
            }
        }
        found.sort();
        found
    }
}

/// Each tool's command, its file, and contents that the file may have before.
const TOOLS: [(&str, &str, &[&str]); 3] = [
    (
        "aws dev --region eu-1",
        ".aws/config",
        &[
            "",
            "[default]\nregion = a\naws_secret_access_key = canary\n",
            "[profile x]\r\ns3 =\r\n  a = canary\r\n",
            "# canary\n\n[services é]\n",
        ],
    ),
    (
        "docker dev --host r.example.test --host s.example.test:5000",
        ".docker/config.json",
        &[
            "{}",
            "{\n\t\"auths\": {\n\t\t\"r\": {\n\t\t\t\"auth\": \"canary\"\n\t\t}\n\t},\n\t\"a\": 1.5\n}",
            "{\n\t\"z\": \"é\\u0007\",\n\t\"credHelpers\": {\n\t\t\"x\": \"canary\"\n\t},\n\t\"a\": null\n}",
        ],
    ),
    (
        "git dev --host git.example.test --host g.example.test:8443",
        ".gitconfig",
        &[
            "",
            "[user]\n\tname = canary\n",
            "[alias]\r\n\ta = \"canary \\\r\n b\"\r\n",
            "[credential]\n\thelper = canary\n[credential \"https://x\"]\n\thelper = canary\n",
        ],
    ),
];

/// The command without the options that only a write needs.
fn undo(line: &str) -> String {
    let words: Vec<_> = line.split(' ').take(2).collect();
    format!("{} --undo", words.join(" "))
}

#[test]
fn only_write_changes_files_and_undo_restores_them() {
    for (line, file, originals) in TOOLS {
        for original in originals {
            let home = Home::new();
            home.write(file, original);
            fs::set_permissions(home.path(file), fs::Permissions::from_mode(0o640)).unwrap();
            let before = home.everything();

            let preview = home.done(line);
            assert_eq!(home.everything(), before);
            assert!(
                preview.contains("Run the command again with --write"),
                "{preview}"
            );

            let report = home.done(&format!("{line} --write"));
            assert!(report.contains("\nExample: "), "{report}");
            assert_ne!(fs::read_to_string(home.path(file)).unwrap(), *original);
            let written = home.everything();
            let again = home.done(&format!("{line} --write"));
            assert!(
                again.starts_with("Profile dev is already set up.\n"),
                "{again}"
            );
            assert_eq!(home.everything(), written);

            let undo_preview = home.done(&undo(line));
            assert_eq!(home.everything(), written);
            let undo_report = home.done(&format!("{} --write", undo(line)));
            assert_eq!(
                fs::read_to_string(home.path(file)).unwrap(),
                *original,
                "{line}"
            );
            let again = home.done(&format!("{} --write", undo(line)));
            assert_eq!(again, "Profile dev is not set up.\n");

            let mode = fs::metadata(home.path(file)).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o640);
            for text in [preview, report, undo_preview, undo_report] {
                assert!(!text.contains("canary"), "{text}");
            }
        }
    }
}

#[test]
fn a_preview_has_the_commands_and_lines_that_write_uses() {
    let home = Home::new();
    let program = Path::new(PROGRAM).canonicalize().unwrap();
    let program = program.display();
    let folder = home.path("").display().to_string();
    let aws = format!(
        "{folder}.aws/config\n  + [profile dev]\n  + region = eu-1\n  + credential_process = {program} \
         credential-process dev\n"
    );
    let docker = format!(
        "{folder}.docker/config.json\n  + \"credHelpers\": {{ \"r.example.test\": \"rolekeeper-dev\" }}\n"
    );
    let git = format!(
        "git config --global --add credential.https://g.example.test.helper ''\n  \
         git config --global --add credential.https://g.example.test.helper '{program} git-credential dev --host \
         g.example.test'\n"
    );
    for (line, want) in [
        ("aws dev --region eu-1", aws),
        ("docker dev --host r.example.test", docker),
        ("git dev --host g.example.test", git),
    ] {
        let preview = home.done(line);
        assert!(preview.contains(&want), "{preview}");
        let report = home.done(&format!("{line} --write"));
        assert!(report.contains(&want), "{report}");
    }
}

#[test]
fn a_backup_has_the_content_before_the_change() {
    for (line, file, originals) in &TOOLS[..2] {
        let home = Home::new();
        home.write(file, originals[1]);
        let report = home.done(&format!("{line} --write"));
        let backup = format!("{}.rolekeeper-backup", home.path(file).display());
        assert!(
            report.contains(&format!("\nBackup: {backup}\n")),
            "{report}"
        );
        assert_eq!(fs::read_to_string(&backup).unwrap(), originals[1]);
    }
}

#[test]
fn a_new_file_is_private() {
    for (line, file, _) in &TOOLS[..2] {
        let home = Home::new();
        home.done(&format!("{line} --write"));
        let mode = fs::metadata(home.path(file)).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{file}");
    }
}

#[test]
fn a_changed_option_changes_only_its_line() {
    for (line, file, from, to) in [
        ("aws dev --region eu-1", ".aws/config", "eu-1", "eu-2"),
        (
            "git dev --host g --username octo-1",
            ".gitconfig",
            "octo-1",
            "octo-2",
        ),
    ] {
        let home = Home::new();
        home.done(&format!("{line} --write"));
        let other = line
            .replace(" dev ", " prod ")
            .replace("--host g", "--host h");
        home.done(&format!("{other} --write"));
        let before = fs::read_to_string(home.path(file)).unwrap();
        home.done(&format!("{} --write", line.replace(from, to)));
        let after = fs::read_to_string(home.path(file)).unwrap();
        assert_eq!(after, before.replacen(from, to, 1));
    }
}

#[test]
fn undo_keeps_settings_that_others_have_added() {
    let home = Home::new();
    home.done("aws dev --region eu-1 --write");
    let aws = home.path(".aws/config");
    let section = fs::read_to_string(&aws).unwrap();
    fs::write(
        &aws,
        format!("[default]\n{section}output = json\n# end\n[profile x]\n"),
    )
    .unwrap();
    home.done("aws dev --undo --write");
    assert!(home.path(".aws/config.rolekeeper-backup").exists());
    let want = "[default]\n[profile dev]\nregion = eu-1\noutput = json\n# end\n[profile x]\n";
    assert_eq!(fs::read_to_string(&aws).unwrap(), want);

    home.done("git dev --host g --host h --write");
    let add = [
        "config",
        "--global",
        "--add",
        "credential.https://g.helper",
        "other",
    ];
    let mut git = home.command(Path::new("git"));
    assert!(git.args(add).status().unwrap().success());
    home.done("git dev --undo --write");
    let want = "[credential \"https://g\"]\n\thelper = \n\thelper = other\n";
    assert_eq!(fs::read_to_string(home.path(".gitconfig")).unwrap(), want);

    home.done("docker dev --host a --host b --write");
    home.done("docker dev --host a --undo --write");
    let config = fs::read_to_string(home.path(".docker/config.json")).unwrap();
    assert_eq!(
        config,
        "{\n\t\"credHelpers\": {\n\t\t\"b\": \"rolekeeper-dev\"\n\t}\n}"
    );
}

#[test]
fn json_lists_the_changes() {
    let home = Home::new();
    home.write(
        ".docker/config.json",
        "{\"auths\":{\"r\":{\"auth\":\"canary\"}}}",
    );
    let config = home.path(".docker/config.json");
    let script = home.path(".local/bin/docker-credential-rolekeeper-dev");
    let line = "docker dev --host r.example.test --json";
    for (option, written) in [("", false), (" --write", true)] {
        let text = home.done(&format!("{line}{option}"));
        assert!(!text.contains("canary"), "{text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let [first, second] = &report["changes"].as_array().unwrap()[..] else {
            panic!("{report}")
        };
        assert_eq!(report["written"], written);
        assert_eq!(first["file"], script.to_str().unwrap());
        assert_eq!(second["file"], config.to_str().unwrap());
        assert_eq!(
            second["backup"],
            format!("{}.rolekeeper-backup", config.display())
        );
        let added = "\"credHelpers\": { \"r.example.test\": \"rolekeeper-dev\" }";
        assert_eq!(second["added"], serde_json::json!([added]));
    }
    let report: Value = serde_json::from_str(&home.done(line)).unwrap();
    assert_eq!(report["changes"], serde_json::json!([]));

    let report: Value = serde_json::from_str(&home.done("git dev --host g --json")).unwrap();
    let add = [
        "git",
        "config",
        "--global",
        "--add",
        "credential.https://g.helper",
        "",
    ];
    assert_eq!(report["changes"][0]["command"], serde_json::json!(add));
}

#[test]
fn entries_and_files_of_others_are_refused() {
    for (line, file, text, reason, hint) in [
        (
            "aws dev",
            ".aws/config",
            "\n[profile \"dev\"]\nkey = canary\n",
            "already has another profile of this name",
            "choose another name with --name",
        ),
        (
            "aws default",
            ".aws/config",
            "[default]\nkey = canary\n",
            "already has another profile of this name",
            "choose another name with --name",
        ),
        (
            "aws dev --name work",
            ".aws/credentials",
            "[a]\n[ work ]\nkey = canary\n",
            "has access keys for it",
            "choose another name with --name",
        ),
        (
            "aws dev",
            ".aws/config",
            "[a]\n[profile dev]\nk = 1\n[profile 'dev']\n",
            "has several sections for it, the second in line 4",
            "choose another name with --name",
        ),
        (
            "aws dev",
            ".aws/config",
            "[a]\nk = canary\nK = canary\n",
            "line 3: a second setting with the same key",
            "fix line 3 of ",
        ),
        (
            "aws dev",
            ".aws/config",
            "\u{feff}[a]\n",
            "line 1: a byte order mark",
            "fix line 1 of ",
        ),
        (
            "aws dev --undo",
            ".aws/config",
            "[a]\nk = 1\n[a]\n",
            "line 3: a second section with the same header",
            "fix line 3 of ",
        ),
        (
            "aws dev",
            ".aws/credentials",
            "[a]\ncanary\n",
            "line 2: a line that is neither a header nor KEY = VALUE",
            "fix line 2 of ",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\n\"canary\": }",
            "is not valid JSON: expected value at line 2 column 11",
            "fix the file",
        ),
        (
            "aws dev",
            ".aws/config",
            "[profile dev] # [x]\nk = canary\n",
            "with a header that tools read differently",
            "choose another name with --name",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"auths\": {\"canary\": {}},\n\"auths\": {}}",
            "an object has the same key twice at line 2 column 7",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"a\": {\"canary\": {}, \"canary\": {}}}",
            "an object has the same key twice at line 1",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"credhelpers\": {\"h\": \"canary\"}}",
            "a key is credHelpers in other letters",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"credHelpers\": {\"x\": [\"canary\"]}}",
            "a value in credHelpers is not text",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"auths\": {\"x\": \"canary\"}}",
            "a value in auths is not an object",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"auths\": {}} canary",
            "is not valid JSON: trailing characters at line 1",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "[\"canary\"]",
            "is not a JSON object",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"credHelpers\": \"canary\"}",
            "credHelpers is not a JSON object",
            "fix the file",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"credHelpers\": {\n\"h\": \"canary\"}}",
            "h already has another helper in ",
            "remove \"h\" from \"credHelpers\" in that file",
        ),
        (
            "git dev --host h",
            ".gitconfig",
            "[user]\nname = canary\n[x\n",
            "failed: fatal: bad config line 3 in file ",
            "fix this and run the command again",
        ),
        (
            "git dev --host h",
            ".gitconfig",
            "[credential \"https://h\"]\n\thelper = canary\n",
            "git already has another credential helper for https://h",
            "run git config --global --unset-all credential.https://h.helper",
        ),
    ] {
        let home = Home::new();
        home.write(file, text);
        for line in [line.to_owned(), format!("{line} --write")] {
            let error = home.refused(&line);
            assert!(
                error.contains(reason) && !error.contains("canary"),
                "{error}"
            );
            assert!(
                error.split_once("\n  try: ").unwrap().1.contains(hint),
                "{error}"
            );
        }
    }
}

#[test]
fn a_missing_program_is_named() {
    let home = Home::new();
    for (line, program) in [("git dev --host h", "git"), ("kube dev", "kubectl")] {
        let mut command = home.command(Path::new(PROGRAM));
        command
            .arg("setup")
            .args(line.split(' '))
            .env("PATH", home.path(".local/bin"));
        let run = command.output().unwrap();
        let error = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2));
        assert!(
            error.contains(&format!("{program} is not installed")),
            "{error}"
        );
        assert!(
            error.contains(&format!("\n  try: install {program}")),
            "{error}"
        );
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let home = Home::new();
    for (line, reason) in [
        ("aws ../x", "a name has 1 to 64 letters"),
        ("aws dev --name a]", "a name has 1 to 64 letters"),
        ("aws dev --region a;b", "a region is a name such as"),
        ("git dev --host https://x", "expected a host"),
        ("git dev", "--host <HOST>"),
        ("docker dev", "--host <HOST>"),
        ("kube dev --server k.example.test", "scheme, host and port"),
        ("kube dev --name=-x", "does not start with `-`"),
        ("aws dev --socket /a,b", "the path has special characters"),
    ] {
        let error = home.refused(line);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn aws_gets_a_plain_path_which_may_be_a_link() {
    let home = Home::new();
    let spaced = home.path("a b");
    fs::create_dir(&spaced).unwrap();
    // Another process copies it: a program that this one has open for writing cannot be started.
    assert!(
        Command::new("cp")
            .arg(PROGRAM)
            .arg(&spaced)
            .status()
            .unwrap()
            .success()
    );
    let program = spaced.join("rolekeeper");
    let run = |words: &[&str]| {
        home.command(&program)
            .arg("setup")
            .args(words)
            .output()
            .unwrap()
    };
    let error = String::from_utf8(run(&["aws", "dev"]).stderr).unwrap();
    assert!(
        error.contains("/a b/rolekeeper has special characters")
            && error.contains("try: put a link to rolekeeper on PATH"),
        "{error}"
    );
    let link = home.path(".local/bin/rolekeeper");
    symlink(&program, &link).unwrap();
    let preview = String::from_utf8(run(&["aws", "dev", "--socket", "/run/x"]).stdout).unwrap();
    let want = format!(
        "+ credential_process = {} credential-process dev --socket /run/x\n",
        link.display()
    );
    assert!(preview.contains(&want), "{preview}");
}

#[test]
fn the_file_is_the_one_that_the_tool_uses() {
    for (line, variable, value, file) in [
        ("aws dev", "AWS_CONFIG_FILE", "~/other/aws", "other/aws"),
        (
            "docker dev --host h",
            "DOCKER_CONFIG",
            "HOME/d",
            "d/config.json",
        ),
        ("git dev --host h", "GIT_CONFIG_GLOBAL", "HOME/g", "g"),
        (
            "git dev --host h",
            "XDG_CONFIG_HOME",
            "HOME/x",
            "x/git/config",
        ),
    ] {
        let home = Home::new();
        if variable == "XDG_CONFIG_HOME" {
            home.write(file, "[user]\n");
        }
        let value = value.replace(
            "HOME",
            home.path("").to_str().unwrap().trim_end_matches('/'),
        );
        let mut command = home.command(Path::new(PROGRAM));
        command
            .arg("setup")
            .args(line.split(' '))
            .arg("--write")
            .env(variable, value);
        let run = command.output().unwrap();
        assert!(
            run.status.success() && home.path(file).is_file(),
            "{variable}: {run:?}"
        );
    }
    let home = Home::new();
    home.write(".config/git/config", "[user]\n");
    home.done("git dev --host h --write");
    assert!(!home.path(".gitconfig").exists());
    home.done(
        "git dev --host h --file HERE --write"
            .replace("HERE", home.path("named").to_str().unwrap())
            .as_str(),
    );
    assert!(home.path("named").is_file());
}

#[test]
fn docker_gets_a_script_on_path() {
    let home = Home::new();
    let script = home.path(".local/bin/docker-credential-rolekeeper-dev");
    home.done("docker dev --host b.example.test --write");
    home.done("docker dev --host a.example.test --username it's --write");
    let want = format!(
        "#!/bin/sh\nexec {} docker-credential dev --username 'it'\\''s' \"$@\"\n",
        Path::new(PROGRAM).canonicalize().unwrap().display()
    );
    assert_eq!(fs::read_to_string(&script).unwrap(), want);
    assert_eq!(fs::metadata(&script).unwrap().mode() & 0o7777, 0o755);

    home.done("docker dev --host b.example.test --undo --write");
    assert_eq!(fs::read_to_string(&script).unwrap(), want);
    home.done("docker dev --undo --write");
    assert!(!script.exists());
}

#[test]
fn git_gets_the_token_from_the_helper_and_tells_no_other_helper() {
    let daemon = FakeDaemon::answering("BYIA1");
    let home = Home::new();
    // Each of these characters is special to git, to a shell, or to both.
    let folder = home.path("it's \"a\" $b; #c");
    fs::create_dir(&folder).unwrap();
    assert!(
        Command::new("cp")
            .arg(PROGRAM)
            .arg(&folder)
            .status()
            .unwrap()
            .success()
    );
    let note = format!(
        "[credential]\n\thelper = \"!f() {{ echo $1 >>{}; }}; f\"\n",
        home.path("others").display()
    );
    home.write(".gitconfig", &note);
    let mut command = home.command(&folder.join("rolekeeper"));
    let line = [
        "setup",
        "git",
        "dev",
        "--host",
        "git.example.test",
        "--username",
        "it's me",
        "--write",
    ];
    assert!(command.args(line).output().unwrap().status.success());
    let git = |words: &[&str], input: &str| {
        let mut command = home.command(Path::new("git"));
        command
            .args(words)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0");
        command
            .env("ROLEKEEPER_SOCKET", daemon.home().join("socket"))
            .env("ROLEKEEPER_AUTOSTART", "0");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let helpers = git(
        &[
            "config",
            "--get-urlmatch",
            "credential.helper",
            "https://git.example.test/x",
        ],
        "",
    );
    assert!(
        helpers.ends_with(" git-credential dev --host git.example.test --username 'it'\\''s me'\n"),
        "{helpers}"
    );
    let filled = git(
        &["credential", "fill"],
        "protocol=https\nhost=git.example.test\n\n",
    );
    assert!(
        filled.contains("username=it's me\n") && filled.contains("password=token\n"),
        "{filled}"
    );
    git(&["credential", "approve"], &filled);
    assert!(!home.path("others").exists(), "git ran another helper");
    git(
        &["credential", "fill"],
        "protocol=https\nhost=other.example.test\nusername=u\n\n",
    );
    assert_eq!(fs::read_to_string(home.path("others")).unwrap(), "get\n");
}
