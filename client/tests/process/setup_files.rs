//! How `rolekeeper setup` changes files: what it refuses, what it keeps, and what happens if others change them, too.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::fake_daemon::FakeDaemon;
use super::setup::{Home, PROGRAM};

/// `setup` with the socket of this daemon.
fn run_with_daemon(home: &Home, daemon: &FakeDaemon, line: &str) -> Output {
    let mut command = home.command(Path::new(PROGRAM));
    command
        .env("ROLEKEEPER_SOCKET", daemon.home().join("socket"))
        .arg("setup")
        .args(line.split(' '));
    command.output().unwrap()
}

fn read(home: &Home, name: &str) -> String {
    fs::read_to_string(home.path(name)).unwrap()
}

const AWS: &str = ".aws/config";

#[test]
fn aws_region_of_the_option_or_the_section_or_the_daemon() {
    let home = Home::new();
    let daemon = FakeDaemon::answering("BYIA1");

    let first = home.done("aws dev --write");
    assert!(
        first.contains("Note: the AWS profile has no region"),
        "{first}"
    );
    let other = home.done("aws dev --name work");
    let hint = "try: repeat the command with --region and a region of your cloud\n";
    assert!(other.contains(hint), "{other}");
    assert!(!read(&home, AWS).contains("region"));

    daemon.set_region("eu-north-1");
    let run = run_with_daemon(&home, &daemon, "aws dev --write");
    assert!(run.status.success(), "{run:?}");
    assert!(read(&home, AWS).contains("\nregion = eu-north-1\n"));
    assert!(!String::from_utf8(run.stdout).unwrap().contains("Note"));

    home.done("aws dev --region eu-central-1 --write");
    for line in ["aws dev --write", "aws dev --socket /run/x --write"] {
        let run = run_with_daemon(&home, &daemon, line);
        assert!(run.status.success(), "{run:?}");
        let text = read(&home, AWS);
        assert!(text.contains("\nregion = eu-central-1\n"), "{text}");
        assert_eq!(text.matches("region").count(), 1, "{text}");
    }
}

#[test]
fn concurrent_setups_lose_no_profile() {
    let home = Home::new();
    let start = |line: String| {
        let mut command = home.command(Path::new(PROGRAM));
        command.arg("setup").args(line.split(' '));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let tools = |n: usize| {
        [
            format!("aws dev --name p{n} --region r{n} --write"),
            format!("docker dev --host h{n} --write"),
            format!("git dev --host h{n} --write"),
        ]
    };

    let children: Vec<_> = (0..12).flat_map(tools).map(start).collect();
    for child in children {
        let run = child.wait_with_output().unwrap();
        assert!(run.status.success(), "{run:?}");
    }

    let aws = read(&home, AWS);
    let docker = read(&home, ".docker/config.json");
    let git = read(&home, ".gitconfig");
    for n in 0..12 {
        let section = format!("[profile p{n}]\nregion = r{n}\n");
        assert_eq!(aws.matches(&section).count(), 1, "{aws}");
        assert!(docker.contains(&format!("\"h{n}\": \"rolekeeper-dev\"")));
        assert!(git.contains(&format!("--host h{n}\n")), "{git}");
    }

    let files = fs::read_dir(home.path(".aws")).unwrap();
    assert_eq!(files.count(), 2, "the configuration and one backup");
}

/// A program without rolekeeper's lock, which replaces the file as often as it can.
#[test]
fn changes_of_other_programs_are_kept() {
    let home = Home::new();
    home.write(AWS, "[default]\nn = 0\n");
    let script = "n=0; while [ ! -e ../stop ]; do n=$((n + 1)); { cat config; \
        printf '[profile other%s]\\nn = 1\\n' $n; } >new; \
        [ \"$(grep -c 'profile other' new)\" = $n ] || { echo lost >&2; exit 1; }; \
        mv new config; sleep 0.03; done; echo $n";
    let mut others = Command::new("sh");
    others.args(["-c", script]).current_dir(home.path(".aws"));
    let others = others
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    let mut done = 0;
    for n in 0..30 {
        let run = home.run(&format!("aws dev --name p{n} --write"));
        done += usize::from(run.status.success());
    }

    fs::write(home.path("stop"), "").unwrap();
    let others = others.wait_with_output().unwrap();
    assert!(others.status.success(), "a change was lost: {others:?}");
    assert!(done > 0);
    let text = read(&home, AWS);
    let count: usize = String::from_utf8(others.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(text.matches("[profile other").count(), count, "{text}");
}

/// A program that empties the file before it writes it, as the AWS CLI does.
#[test]
fn a_file_that_is_being_written_is_not_replaced() {
    let home = Home::new();
    home.write(AWS, "[default]\nn = 0\n");
    let script = "for n in 1 2 3 4 5 6 7 8; do old=$(cat config); \
        { sleep 0.02; printf '%s\\n[profile other%s]\\nn = 1\\n' \"$old\" $n; } >config; sleep 0.06; done";
    let mut others = Command::new("sh");
    others.args(["-c", script]).current_dir(home.path(".aws"));
    let mut others = others.spawn().unwrap();

    let mut n = 0;
    while others.try_wait().unwrap().is_none() {
        home.run(&format!("aws dev --name p{n} --write"));
        n += 1;
    }

    let text = read(&home, AWS);
    assert_eq!(text.matches("[profile other").count(), 8, "{text}");
    assert!(text.starts_with("[default]\nn = 0\n"), "{text}");
    assert!(n > 1);
}

#[test]
fn a_backup_has_the_first_state_and_is_not_in_a_repository() {
    for repository in ["", ".aws", "dotfiles"] {
        let home = Home::new();
        home.write(AWS, "# mine\n");
        if repository == "dotfiles" {
            fs::create_dir(home.path(repository)).unwrap();
            fs::rename(home.path(AWS), home.path("dotfiles/aws")).unwrap();
            symlink("../dotfiles/aws", home.path(AWS)).unwrap();
        }
        if !repository.is_empty() {
            fs::create_dir(home.path(repository).join(".git")).unwrap();
        }

        let report = home.done("aws dev --write");
        home.done("aws dev --region eu-1 --write");
        home.done("aws dev --region eu-2 --write");

        let beside = home.path(".aws/config.rolekeeper-backup");
        let (_, rest) = report.split_once("\nBackup: ").unwrap();
        let backup = Path::new(rest.lines().next().unwrap());
        assert_eq!(fs::read_to_string(backup).unwrap(), "# mine\n");
        if repository.is_empty() {
            assert_eq!(backup, beside);
            continue;
        }
        let machine = rolekeeper::places::machine();
        let folder = home.path(&format!(".local/state/rolekeeper/{machine}/setup-backups"));
        assert_eq!(backup.parent(), Some(&*folder));
        assert!(!beside.exists());
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
        let mode = fs::metadata(home.path(".local/state"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
    }
}

#[test]
fn a_backup_in_a_home_that_is_a_repository_is_ignored() {
    let home = Home::new();
    home.write(AWS, "# mine\n");
    let git = |words: &[&str]| {
        let mut command = home.command(Path::new("git"));
        command.args(words).current_dir(home.path(""));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    git(&["init"]);

    home.done("aws dev --write");

    let untracked = git(&["status", "--porcelain", "--untracked-files=all"]);
    assert_eq!(untracked, "?? .aws/config\n");
}

/// Runs a command as root in a mount namespace of its own.
fn in_mount_namespace(home: &Home, script: &str, line: &str) -> Output {
    let mut command = home.command(Path::new("unshare"));
    command
        .args(["--mount", "sh", "-c", &format!("{script} && exec \"$@\"")])
        .arg("sh")
        .arg(PROGRAM)
        .arg("setup")
        .args(line.split(' '))
        .current_dir(home.path(".aws"));
    command.output().unwrap()
}

/// The arguments of `setup` for each tool whose file is an option.
const WITH_FILE: [&str; 4] = [
    "aws dev",
    "git dev --host h.test",
    "kube dev",
    "docker dev --host h.test",
];

/// The kernel refuses links of others in sticky folders, but not everything that others decide.
#[test]
fn a_file_in_a_folder_of_everybody_is_refused() {
    let home = Home::new();
    home.write("shared/config", "");
    home.write("private", "");
    let shared = home.path("shared");
    let mode = |mode| fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
    symlink(home.path("private"), shared.join("link")).unwrap();

    for open in [0o1777, 0o777] {
        mode(open);
        for tool in WITH_FILE {
            let file = shared.join("config");
            let run = home.run(&format!("{tool} --file {} --write", file.display()));
            let error = String::from_utf8(run.stderr).unwrap();
            assert_eq!(run.status.code(), Some(4), "{error}");
            let words = format!("other users can write {}", shared.display());
            assert!(error.contains(&words), "{error}");
        }
    }

    // A link of one's own leads to a file of one's own.
    mode(0o1777);
    let link = shared.join("link");
    home.done(&format!("aws dev --file {} --write", link.display()));
    assert!(
        fs::read_to_string(home.path("private"))
            .unwrap()
            .contains("credential_process")
    );
}

/// Only root can make a link of another user.
#[test]
#[ignore = "needs root"]
fn a_link_of_another_user_is_not_followed() {
    const OTHER: u32 = 65_534;
    let home = Home::new();
    home.write("victim", "untouched");
    home.write("own/config", "");
    for folder in ["shared", "theirs"] {
        fs::create_dir(home.path(folder)).unwrap();
    }
    fs::set_permissions(home.path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    for (link, target) in [
        ("shared/link", "../victim"),
        ("shared/folder", "../own"),
        ("theirs/link", "../victim"),
    ] {
        symlink(target, home.path(link)).unwrap();
        lchown(home.path(link), Some(OTHER), Some(OTHER)).unwrap();
    }
    lchown(home.path("theirs"), Some(OTHER), Some(OTHER)).unwrap();

    for path in ["shared/link", "shared/folder/config", "theirs/link"] {
        for tool in WITH_FILE {
            let file = home.path(path);
            let run = home.run(&format!("{tool} --file {} --write", file.display()));
            let error = String::from_utf8(run.stderr).unwrap();
            assert_eq!(run.status.code(), Some(4), "{tool} {path}: {error}");
            assert!(error.contains("belongs to user 65534"), "{error}");
        }
    }
    assert_eq!(read(&home, "victim"), "untouched");
    assert_eq!(read(&home, "own/config"), "");
}

#[test]
#[ignore = "needs root"]
fn a_file_that_cannot_be_replaced_is_refused_before_anything_is_done() {
    for (script, start, reason, hint) in [
        (
            "cp config ../c && mount --bind ../c config",
            "",
            "it is a mount of its own",
            "mount the folder",
        ),
        (
            "mount --bind . . && mount -o remount,bind,ro . && cd .",
            "",
            "is not writable: Read-only file system",
            "name another file with --file",
        ),
        (
            "chattr +i config",
            "run ",
            "config is immutable",
            "run chattr -i ",
        ),
        (
            "chattr +a config",
            "run ",
            "config is append-only",
            "run chattr -a ",
        ),
        ("chattr +i .", "run ", ".aws is immutable", "run chattr -i "),
    ] {
        let home = Home::new();
        home.write(AWS, "[default]\n");

        let preview = in_mount_namespace(&home, script, "aws dev");
        let note = String::from_utf8(preview.stdout).unwrap();

        let script = format!("{{ {script} || true; }}");
        let run = in_mount_namespace(&home, &script, "aws dev --write");
        let error = String::from_utf8(run.stderr).unwrap();
        if !start.is_empty() {
            // The hint works as printed.
            let (_, undo) = error.split_once(start).unwrap();
            let (undo, _) = undo.split_once(" as root").unwrap();
            let undone = Command::new("sh").args(["-c", undo]).status();
            assert!(undone.unwrap().success(), "{undo}");
        }

        assert!(note.contains("Note: ") && note.contains(reason), "{note}");
        assert_eq!(run.status.code(), Some(2), "{script}: {error}");
        assert!(error.contains(reason) && error.contains(hint), "{error}");
        assert_eq!(read(&home, AWS), "[default]\n");
        let files = fs::read_dir(home.path(".aws")).unwrap();
        assert_eq!(files.count(), 1, "{script}");
    }
}

#[test]
#[ignore = "needs root"]
fn new_files_of_root_belong_to_the_owner_of_the_folder() {
    let home = Home::new();
    std::os::unix::fs::chown(home.path(""), Some(65534), Some(65534)).unwrap();

    home.done("aws dev --write");

    for path in ["", ".aws", AWS] {
        let metadata = fs::metadata(home.path(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534), "{path}");
    }
}

#[test]
fn changes_at_once_without_a_lock_lose_no_profile() {
    let home = Home::new();
    let start = |n: usize| {
        let mut command = home.command(Path::new(PROGRAM));
        command.args(["setup", "aws", "dev", "--write", "--name", &format!("p{n}")]);
        command.args(["--file", home.path("config").to_str().unwrap()]);
        command.env("HOME", home.path(&format!("home{n}")));
        command.stderr(Stdio::piped()).stdout(Stdio::null());
        command.spawn().unwrap()
    };

    let children: Vec<_> = (0..8).map(start).collect();
    for child in children {
        let run = child.wait_with_output().unwrap();
        assert!(run.status.success(), "{run:?}");
    }

    let text = read(&home, "config");
    assert_eq!(text.matches("[profile p").count(), 8, "{text}");
}

#[test]
fn a_lock_of_git_is_waited_for() {
    let home = Home::new();
    home.write(".gitconfig.lock", "");
    let lock = home.path(".gitconfig.lock");
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        fs::remove_file(lock).unwrap();
    });

    home.done("git dev --host h --write");
    release.join().unwrap();
    assert!(read(&home, ".gitconfig").contains("--host h"));

    home.write(".gitconfig.lock", "");
    let error = home.refused("git dev --host i --write");
    assert!(
        error.contains("could not lock config file") && error.contains("remove its .lock file"),
        "{error}"
    );
}

/// Runs git with the daemon's socket, in this folder. Returns its exit code and what it prints.
fn git(home: &Home, daemon: &FakeDaemon, words: &[&str], input: &str) -> (Option<i32>, String) {
    let mut command = home.command(Path::new("git"));
    command
        .args(words)
        .current_dir(home.path("repository"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("ROLEKEEPER_SOCKET", daemon.home().join("socket"))
        .env("ROLEKEEPER_AUTOSTART", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let run = child.wait_with_output().unwrap();
    let text = [run.stdout, run.stderr].concat();
    (run.status.code(), String::from_utf8(text).unwrap())
}

/// The argument of a hint.
fn hint(text: &str) -> Vec<&str> {
    let (_, hint) = text.split_once("  try: run ").unwrap();
    hint.lines().next().unwrap().split(' ').skip(1).collect()
}

#[test]
fn git_stores_no_token_with_a_later_helper() {
    const REQUEST: &str = "protocol=https\nhost=h.test\n\n";
    let daemon = FakeDaemon::answering("BYIA1");
    let home = Home::new();
    let git = |words: &[&str], input: &str| git(&home, &daemon, words, input);
    let fill_and_approve = || {
        let (code, text) = git(&["credential", "fill"], REQUEST);
        if code == Some(0) {
            git(&["credential", "approve"], &text);
        }
        assert!(!home.path(".git-credentials").exists(), "git stored it");
        text
    };

    fs::create_dir(home.path("repository")).unwrap();
    git(&["init"], "");
    home.done("git dev --host h.test --write");
    assert!(fill_and_approve().contains("password=token"));

    let included = home.path("included");
    let include = [
        "config",
        "--global",
        "include.path",
        included.to_str().unwrap(),
    ];
    for scope in ["included", "--global", "--local"] {
        if scope == "included" {
            home.write(scope, "[credential]\n\thelper = store\n");
            git(&include, "");
        } else {
            git(&["config", scope, "credential.helper", "store"], "");
        }
        let text = fill_and_approve();
        assert!(
            !text.contains("password=token") && text.contains("which would store the token"),
            "{text}"
        );

        let hint = hint(&text);
        if scope != "--local" {
            let run = home.run(&hint[1..].join(" "));
            assert!(run.status.success(), "{run:?}");
        } else {
            let mut setup = home.command(Path::new(PROGRAM));
            setup.args(["setup", "git", "dev", "--host", "h.test"]);
            let setup = setup.current_dir(home.path("repository")).output().unwrap();
            let report = String::from_utf8(setup.stdout).unwrap();
            assert!(report.contains("Note: in this repository git gets no token"));
            assert_eq!(git(&hint, "").0, Some(0));
        }
        assert!(fill_and_approve().contains("password=token"), "{scope}");
    }

    let word = "credential.helper=store";
    let (code, text) = git(&["-c", word, "credential", "fill"], REQUEST);
    assert_ne!(code, Some(0));
    assert!(text.contains("run git without the option -c credential.helper"));

    // Another helper stays on for other hosts.
    let (_, others) = git(&["config", "--get-all", "credential.helper"], "");
    assert_eq!(others, "store\nstore\n");
}

#[test]
fn git_section_before_another_helper_is_refused() {
    let home = Home::new();
    let text = "[credential \"https://h\"]\n\tusername = canary\n[credential]\n\thelper = canary\n";
    home.write(".gitconfig", text);

    let error = home.refused("git dev --host h --write");

    assert!(
        error.contains("is before another credential helper"),
        "{error}"
    );
    assert!(
        error.contains("run git config --global --edit, and move"),
        "{error}"
    );
    assert!(!error.contains("canary"), "{error}");
}
