//! `rolekeeper setup` in a home of its own: what it shows, writes and takes out again. It asks no daemon; git does, at the
//! end.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::fake_daemon::FakeDaemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rolekeeper");

/// A user's folder, with `~/.local/bin` on `PATH`.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".local/bin")).unwrap();
        Self(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let others = std::env::var("PATH").unwrap();
        let path = format!("{}:{others}", self.path(".local/bin").display());
        command
            .env_clear()
            .env("HOME", self.path(""))
            .env("PATH", path);
        command
    }

    fn run(&self, line: &str) -> Output {
        let mut command = self.command(Path::new(PROGRAM));
        command.arg("setup").args(line.split(' ')).output().unwrap()
    }

    /// What it prints when it does as it is told.
    fn done(&self, line: &str) -> String {
        let run = self.run(line);
        assert!(
            run.status.success() && run.stderr.is_empty(),
            "{line}: {run:?}"
        );
        String::from_utf8(run.stdout).unwrap()
    }

    /// Why it does not.
    fn refused(&self, line: &str) -> String {
        let before = self.everything();
        let run = self.run(line);
        assert!(
            run.status.code() == Some(2) && run.stdout.is_empty(),
            "{line}: {run:?}"
        );
        assert_eq!(self.everything(), before, "{line}");
        String::from_utf8(run.stderr).unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Every file with its bytes, its inode and when it was written.
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

/// Each tool's command, its file, and what the file may hold before.
const TOOLS: [(&str, &str, &[&str]); 4] = [
    (
        "aws dev --region eu-1",
        ".aws/config",
        &[
            "",
            "[default]\nregion = a\naws_secret_access_key = canary",
            "\u{feff}[profile x]\r\ns3 =\r\n  a = canary\r\n",
        ],
    ),
    (
        "kube dev --server https://k.example.test:6443",
        ".kube/config",
        &[
            "",
            "# canary\n",
            "apiVersion: v1\nkind: Config\n",
            "apiVersion: v1\nusers: []\ntoken: canary",
            "users: null # none\r\ntoken: canary\r\n",
            "kind: Config\nusers:\n",
            "users:\n  # canary\n  - name: other\n    user: {token: canary}",
            "users:\n- name: other\n  user:\n    token: canary\ncontexts: []\n",
        ],
    ),
    (
        "docker dev --host r.example.test --host s.example.test:5000",
        ".docker/config.json",
        &[
            "",
            "{}",
            "{ }\n",
            "{\"auths\":{\"r\":{\"auth\":\"canary\"}}}",
            "{\n\t\"auths\": {\n\t\t\"r\": {\"auth\": \"canary\"}\n\t},\n\t\"credHelpers\": {}\n}",
            "{\r\n  \"credHelpers\": {\r\n    \"x\": \"canary\"\r\n  }\r\n}\r\n",
            "{\"auths\":{\"r\":{\"auth\":\"canary\"}},\"credHelpers\":{\"x\":\"canary\"}}",
        ],
    ),
    (
        "git dev --host git.example.test --host g.example.test:8443",
        ".gitconfig",
        &[
            "",
            "[user]\n\tname = canary",
            "[alias]\r\n\ta = \"canary \\\r\n b\"\r\n",
        ],
    ),
];

/// The command without what only writing needs.
fn undo(line: &str) -> String {
    let words: Vec<_> = line.split(' ').take(2).collect();
    format!("{} --undo", words.join(" "))
}

#[test]
fn nothing_is_written_before_it_is_asked_for_and_nothing_twice_and_undone_it_is_the_same_to_the_byte()
 {
    for (line, file, originals) in TOOLS {
        for original in originals {
            let home = Home::new();
            home.write(file, original);
            fs::set_permissions(home.path(file), fs::Permissions::from_mode(0o640)).unwrap();
            let before = home.everything();
            let shown = home.done(line);
            assert_eq!(home.everything(), before);
            assert!(
                shown.contains(&format!("\n+++ {}\n@@ ", home.path(file).display())),
                "{shown}"
            );
            assert!(
                shown.ends_with("Nothing is written yet: the same with --write does it.\n"),
                "{shown}"
            );
            let told = home.done(&format!("{line} --write"));
            let changes = |text: &str| -> Vec<String> {
                text.lines()
                    .filter(|line| line.starts_with(['+', '-', '@']))
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(changes(&told), changes(&shown));
            let copy = format!("{}.rolekeeper-backup", home.path(file).display());
            assert!(
                told.contains(&format!("; as it was: {copy}\n")) && told.contains("\nUse it: "),
                "{told}"
            );
            assert_eq!(fs::read_to_string(&copy).unwrap(), *original);
            for path in [&home.path(file), Path::new(&copy)] {
                assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o640);
            }
            let written = home.everything();
            assert!(
                home.done(&format!("{line} --write"))
                    .contains("there is nothing to change")
            );
            assert_eq!(home.everything(), written);
            let shown = home.done(&undo(line));
            assert_eq!(home.everything(), written);
            let undone = home.done(&format!("{} --write", undo(line)));
            assert_eq!(
                fs::read_to_string(home.path(file)).unwrap(),
                *original,
                "{line}"
            );
            assert_eq!(
                fs::metadata(home.path(file)).unwrap().mode() & 0o7777,
                0o640
            );
            assert!(
                home.done(&format!("{} --write", undo(line)))
                    .contains("there is nothing to take out")
            );
            for text in [told, shown, undone] {
                assert!(!text.contains("canary"), "{text}");
            }
        }
    }
}

#[test]
fn a_file_that_setup_made_is_private_and_goes_when_its_last_entry_does() {
    for (line, file, _) in TOOLS {
        let home = Home::new();
        let told = home.done(&format!("{line} --write"));
        assert!(
            told.contains(&format!("{}: made, lines 1 to ", home.path(file).display())),
            "{told}"
        );
        assert_eq!(
            fs::metadata(home.path(file)).unwrap().mode() & 0o7777,
            0o600
        );
        let second = line.replace(" dev ", " prod ").replace("example", "second");
        home.done(&format!("{second} --write"));
        home.done(&format!("{} --write", undo(line)));
        assert!(home.path(file).exists());
        home.done(&format!("{} --write", undo(&second)));
        assert!(!home.path(file).exists(), "{line}");
        let left: Vec<_> = home
            .everything()
            .into_iter()
            .map(|(path, ..)| path)
            .collect();
        assert!(
            left.iter()
                .all(|path| path.to_string_lossy().contains(".rolekeeper-backup")),
            "{left:?}"
        );
    }
}

#[test]
fn a_parameter_that_changes_changes_its_line_alone_and_where_it_is() {
    for (line, file, from, to) in [
        (
            "aws dev --region eu-1",
            ".aws/config",
            "--region eu-1",
            "--region eu-2",
        ),
        (
            "kube dev --server https://one:1",
            ".kube/config",
            "https://one:1",
            "https://two:2",
        ),
        (
            "git dev --host g --username octo-1",
            ".gitconfig",
            "--username octo-1",
            "--username octo-2",
        ),
    ] {
        let home = Home::new();
        home.done(&format!("{line} --write"));
        home.done(&format!(
            "{} --write",
            line.replace(" dev ", " prod ")
                .replace("--host g", "--host h")
        ));
        let before = fs::read_to_string(home.path(file)).unwrap();
        let told = home.done(&format!("{} --write", line.replace(from, to)));
        let (gone, come) = (
            from.split(' ').next_back().unwrap(),
            to.split(' ').next_back().unwrap(),
        );
        let changes: Vec<_> = told
            .lines()
            .filter(|line| line.starts_with(['+', '-', '@']))
            .skip(3)
            .collect();
        assert!(
            matches!(changes[..], [old, new] if old.replacen('-', "+", 1).replace(gone, come) == new),
            "{told}"
        );
        let after = fs::read_to_string(home.path(file)).unwrap();
        assert_eq!(
            (after.lines().count(), after.contains(come)),
            (before.lines().count(), true)
        );
    }
}

#[test]
fn json_says_the_same_for_programs() {
    let home = Home::new();
    home.write(
        ".docker/config.json",
        "{\"auths\":{\"r\":{\"auth\":\"canary\"}}}",
    );
    let line = "docker dev --host r.example.test --json";
    for (more, written) in [("", false), (" --write", true)] {
        let said: Value = serde_json::from_str(&home.done(&format!("{line}{more}"))).unwrap();
        assert_eq!(
            said["file"],
            home.path(".docker/config.json").to_str().unwrap()
        );
        assert_eq!(
            (&said["changed"], &said["written"]),
            (&true.into(), &written.into())
        );
        assert_eq!(said["backup"].is_string(), written);
        let diff = said["diff"].as_str().unwrap();
        assert!(
            diff.contains("\n+{\"credHelpers\": {\"r.example.test\": \"rolekeeper-dev\"}, \"…"),
            "{diff}"
        );
        assert_eq!(said["script"]["written"], written);
        assert!(!said.to_string().contains("canary"));
    }
    let said: Value = serde_json::from_str(&home.done(line)).unwrap();
    assert_eq!(
        (&said["changed"], &said["diff"], &said["backup"]),
        (&false.into(), &"".into(), &Value::Null)
    );
}

#[test]
fn what_is_somebody_elses_or_cannot_be_read_is_refused_with_its_line_and_left_alone() {
    for (line, file, text, place, hint) in [
        (
            "aws dev",
            ".aws/config",
            "\n[profile \"dev\"]\n",
            ":2: the AWS profile dev is there already",
            "--name",
        ),
        (
            "aws default",
            ".aws/config",
            "[default]\n",
            ":1: the AWS profile default is there already",
            "--name",
        ),
        (
            "aws dev --name work",
            ".aws/credentials",
            "[a]\n[ work ]\n",
            ":2: the AWS profile work has keys",
            "--name",
        ),
        (
            "aws dev",
            ".aws/config",
            "[default\n",
            ":1: the name of this section has no end",
            "mend",
        ),
        (
            "aws dev",
            ".aws/config",
            "[a]\nb\n",
            ":2: this is neither",
            "mend",
        ),
        (
            "kube dev",
            ".kube/config",
            "users:\n- name: dev\n",
            ":2: the user dev is there already",
            "--name",
        ),
        (
            "kube dev",
            ".kube/config",
            "a: b: c\n",
            ":1: this is no YAML",
            "mend",
        ),
        (
            "kube dev",
            ".kube/config",
            "{\"users\": []}",
            ":1: this is written as JSON is",
            "{\"name\":\"dev\",\"user\"",
        ),
        (
            "kube dev",
            ".kube/config",
            "users: &a []\n",
            ":1: the list of users is not",
            "users:\n- name: \"dev\"\n",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\n\"a\": }",
            ":2: this is no JSON",
            "mend",
        ),
        (
            "docker dev --host h",
            ".docker/config.json",
            "{\"credHelpers\": {\n\"h\": \"ecr-login\"}}",
            ":2: h has the helper ecr-login already",
            "take that entry out",
        ),
        (
            "git dev --host h",
            ".gitconfig",
            "[user]\n[x\n",
            ":2: the name of this section",
            "mend",
        ),
    ] {
        let home = Home::new();
        home.write(file, text);
        for line in [line.to_owned(), format!("{line} --write")] {
            let told = home.refused(&line);
            assert!(
                told.starts_with(&format!("rolekeeper: {}{place}", home.path(file).display())),
                "{told}"
            );
            assert!(
                told.split_once("\n  try: ").unwrap().1.contains(hint),
                "{told}"
            );
        }
    }
    let home = Home::new();
    for (line, why) in [
        ("aws ../x", "a profile's name has 1 to 64 letters"),
        ("aws dev --name a]", "a profile's name has 1 to 64 letters"),
        ("aws dev --region a;b", "a region is letters"),
        ("git dev --host https://x", "a host, and its port"),
        ("git dev", "--host <HOST>"),
        ("docker dev", "--host <HOST>"),
        ("kube dev --server k.example.test", "scheme, host and port"),
        (
            "aws dev --file /dev/null --write",
            "/dev/null is not a regular file",
        ),
        (
            "docker dev --host h --bin /nonexistent",
            "/nonexistent is no folder",
        ),
    ] {
        assert!(home.refused(line).contains(why), "{line}");
    }
}

#[test]
fn this_program_is_named_as_on_path_and_only_plainly_to_aws_sdks() {
    let home = Home::new();
    let spaced = home.path("a b");
    fs::create_dir(&spaced).unwrap();
    // Made by another process: a program that is open for writing in this one cannot be started.
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
    let told = String::from_utf8(run(&["aws", "dev"]).stderr).unwrap();
    assert!(
        told.contains("not every AWS SDK can start")
            && told.contains("try: put a link to it on PATH"),
        "{told}"
    );
    symlink(&program, home.path(".local/bin/rolekeeper")).unwrap();
    let shown = String::from_utf8(run(&["aws", "dev", "--socket", "/run/x"]).stdout).unwrap();
    let link = home.path(".local/bin/rolekeeper");
    let want = format!(
        "+credential_process = {} credential-process dev --socket /run/x\n",
        link.display()
    );
    assert!(shown.contains(&want), "{shown}");
    let told = String::from_utf8(run(&["aws", "dev", "--socket", "/run/a b"]).stderr).unwrap();
    assert!(told.contains("--socket: not every AWS SDK"), "{told}");
}

#[test]
fn files_are_found_where_each_tool_has_them() {
    for (line, variable, value, file) in [
        ("aws dev", "AWS_CONFIG_FILE", "~/other/aws", "other/aws"),
        ("kube dev", "KUBECONFIG", ":HOME/k1:HOME/k2", "k1"),
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
fn dockers_script_starts_this_program_for_all_hosts_of_the_profile_and_only_ours_is_touched() {
    let home = Home::new();
    let script = home.path(".local/bin/docker-credential-rolekeeper-dev");
    home.done("docker dev --host b.example.test --write");
    home.done("docker dev --host a.example.test --username me --write");
    let want = format!(
        "#!/bin/sh\nexec {} docker-credential dev --host b.example.test --host a.example.test --username me \"$@\"\n",
        Path::new(PROGRAM).canonicalize().unwrap().display()
    );
    assert_eq!(fs::read_to_string(&script).unwrap(), want);
    assert_eq!(fs::metadata(&script).unwrap().mode() & 0o7777, 0o755);
    home.done("docker dev --host b.example.test --undo --write");
    assert_eq!(
        fs::read_to_string(&script).unwrap(),
        want.replace(" --host b.example.test", "")
    );
    let before = home.everything();
    assert!(
        home.done("docker dev --host b.example.test --undo --write")
            .contains("nothing to take out")
    );
    assert_eq!(home.everything(), before);
    home.done("docker dev --undo --write");
    assert!(!script.exists());
    fs::write(&script, "#!/bin/sh\nexec something else\n").unwrap();
    assert!(
        home.refused("docker dev --host h --write")
            .contains("is there already, and not by rolekeeper")
    );
    fs::create_dir(home.path("bin")).unwrap();
    let told = home.done(&format!(
        "docker dev --host h --bin {} --write",
        home.path("bin").display()
    ));
    assert!(
        told.contains("Docker does not find the script: ")
            && home.path("bin").join(script.file_name().unwrap()).exists()
    );
}

#[test]
fn git_gets_the_token_from_the_helper_and_tells_no_other_helper() {
    let daemon = FakeDaemon::answering("BYIA1");
    let home = Home::new();
    // Each of these characters means something to git, to a shell, or to both.
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
        helpers.ends_with(" git-credential dev --host git.example.test --username it\\'s\\ me\n"),
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
    assert!(!home.path("others").exists(), "another helper was asked");
    git(
        &["credential", "fill"],
        "protocol=https\nhost=other.example.test\nusername=u\n\n",
    );
    assert_eq!(fs::read_to_string(home.path("others")).unwrap(), "get\n");
}
