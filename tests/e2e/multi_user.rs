//! One daemon for several users: each gets the profiles that are for them, and no others.
//!
//! Only root can start processes of several users; without it, the unit tests of the policy remain.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rolekeeper_tests::harness::{Daemon, Home, Run, SandboxProcess, eventually, programs};

use crate::attacker;

const NOBODY: u32 = 65_534;
const GROUP: u32 = 64_999;

struct Machine {
    sandbox: SandboxProcess,
    home: Home,
    client: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let sandbox = SandboxProcess::start(&[]);
        let home = Home::default();
        home.configure_for(
            &sandbox,
            "dev",
            &[("own", "S3ReadOnly"), ("team", "S3BucketAccess")],
        );

        let text = fs::read_to_string(home.config_path()).unwrap();
        let (others, team) = text.split_once("[profile.team]\n").unwrap();
        let text =
            format!("{others}[profile.team]\nusers = [{NOBODY}]\ngroups = [{GROUP}]\n{team}");
        home.configure(&text);
        let client = home.copy_of(&programs().rolekeeper);

        Self {
            sandbox,
            home,
            client,
        }
    }

    /// Permissions as a service manager sets them: every user can connect, only the owner can
    /// write.
    fn daemon(&self) -> Daemon<'_> {
        let daemon = self.home.daemon(&[]);

        open_to_others(&self.home);
        fs::set_permissions(&self.client, fs::Permissions::from_mode(0o755)).unwrap();

        daemon
    }

    fn run_as(&self, uid: u32, gid: u32, args: &[&str]) -> Run {
        self.run_program_as(&self.client, uid, gid, args)
    }

    fn run_program_as(&self, program: &Path, uid: u32, gid: u32, args: &[&str]) -> Run {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("ROLEKEEPER_SOCKET", self.home.socket())
            .env("HOME", "/nonexistent");
        command.args(args).uid(uid).gid(gid);

        self.home.run(command)
    }
}

#[test]
#[ignore = "needs root"]
fn users_get_only_their_profiles() {
    let machine = Machine::new();
    let daemon = machine.daemon();

    assert_eq!(
        machine
            .run_as(NOBODY, NOBODY, &["credential-process", "team"])
            .code,
        0
    );
    assert_eq!(
        machine
            .run_as(64_123, GROUP, &["credential-process", "team"])
            .code,
        0,
        "allowed by the group"
    );

    let stranger = machine.run_as(64_123, 64_123, &["credential-process", "team"]);
    assert!(
        stranger.code == 4 && stranger.stderr.contains("does not serve user 64123"),
        "{stranger:?}"
    );

    let other = machine.run_as(NOBODY, NOBODY, &["credential-process", "own"]);
    assert!(
        other.code == 2 && other.stderr.contains("there is no profile `own`"),
        "{other:?}"
    );

    let listed = machine.run_as(NOBODY, NOBODY, &["status", "--json"]).json();
    let names: Vec<_> = listed["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["profile"].clone())
        .collect();

    assert_eq!(names, ["team"], "profiles of others are hidden");

    for args in [
        &["logout", "team"][..],
        &["logout"],
        &["resume", "team"],
        &["sessions"],
        &["sessions", "revoke", "x"],
        &["audit", "team"],
        &["explain", "team"],
        &["iam", "listRoles"],
        &["login"],
        &["unlock"],
        &["approve"],
    ] {
        let run = machine.run_as(NOBODY, NOBODY, args);
        assert!(
            run.code == 4 && run.stderr.contains("only the daemon's owner may do this"),
            "{args:?}: {run:?}"
        );
    }

    let over_http = machine.run_as(
        NOBODY,
        NOBODY,
        &["exec", "team", "--mode", "http", "--", "true"],
    );

    assert!(
        over_http.code != 0
            && over_http
                .stderr
                .contains("only the daemon's owner may do this"),
        "{over_http:?}"
    );
    assert_eq!(
        machine
            .run_as(NOBODY, NOBODY, &["exec", "team", "--", "true"])
            .code,
        0
    );
    assert_eq!(
        machine
            .run_as(NOBODY, NOBODY, &["iam", "listRoles", "--profile", "team"])
            .code,
        8,
        "refused by the role's policies"
    );

    // The audit names both users.
    let audit = machine.run_as_owner(&["audit", "team", "--json"]).json();
    let users: Vec<_> = audit["holders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|holder| holder["uid"].clone())
        .collect();

    assert!(
        users.contains(&NOBODY.into()) && users.contains(&64_123.into()),
        "{audit}"
    );
    assert_eq!(machine.sandbox.calls("listRoles"), 1);

    drop(daemon);
    let none = machine.run_as(NOBODY, NOBODY, &["credential-process", "team"]);
    assert!(
        none.code == 3
            && none
                .stderr
                .contains("ask the administrator to run systemctl start rolekeeperd.socket"),
        "{none:?}"
    );
}

/// Every user can reach the socket.
fn open_to_others(home: &Home) {
    for path in home.socket_and_folders() {
        let mode = if path == home.socket() { 0o666 } else { 0o755 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Machine {
    /// Runs `rolekeeper` as the daemon's user, which refuses a folder that is open to others.
    fn run_as_owner(&self, args: &[&str]) -> Run {
        let folder = self.home.socket().parent().unwrap().to_owned();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let run = self.home.rolekeeper(args);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();

        run
    }
}

#[test]
#[ignore = "needs root"]
fn connections_of_one_user_do_not_block_others() {
    let machine = Machine::new();
    let mut command = machine.home.command(&PathBuf::from("prlimit"));
    command
        .args(["--nofile=512:512"])
        .arg(&programs().rolekeeperd);
    let _daemon = machine.home.daemon_from(command);
    open_to_others(&machine.home);

    let attacker = machine.home.copy_of(attacker());
    fs::set_permissions(&attacker, fs::Permissions::from_mode(0o755)).unwrap();
    let mut attack = Command::new(&attacker);
    attack
        .arg("exhaust-connections")
        .arg(machine.home.socket())
        .env_clear()
        .uid(NOBODY)
        .gid(NOBODY);

    let mut attack = attack
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    let open_connections = || {
        machine.run_as_owner(&["status", "--json"]).json()["daemon"]["connections"]
            .as_u64()
            .unwrap()
    };

    let mut lines = BufReader::new(attack.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("connected: ")));

    eventually("the limit of one user is reached", || {
        (open_connections() >= (512 - 64) / 4).then_some(())
    });

    assert!(
        open_connections() <= (512 - 64) / 4 + 1,
        "a quarter of the limit, and this connection: {}",
        open_connections()
    );
    assert_eq!(machine.run_as_owner(&["credential-process", "own"]).code, 0);

    let refused = machine.run_as(NOBODY, NOBODY, &["status"]);
    assert!(
        refused.code == 3 && refused.stderr.contains("(busy)"),
        "{refused:?}"
    );

    drop(attack.stdin.take());
    attack.wait().unwrap();
    eventually("connections are accepted again", || {
        (machine.run_as(NOBODY, NOBODY, &["status"]).code == 0).then_some(())
    });
}

/// The attack: another user tries names, and reads every reply.
#[test]
#[ignore = "needs root"]
fn replies_do_not_tell_what_others_have() {
    let machine = Machine::new();
    let text = fs::read_to_string(machine.home.config_path()).unwrap();
    let token = text.find("token = ").unwrap();
    let line_end = token + text[token..].find('\n').unwrap();
    let command = "token = { command = [\"/bin/false\", \"--vault\", \"secret-vault\"] }";
    machine
        .home
        .configure(&format!("{}{command}{}", &text[..token], &text[line_end..]));
    let _daemon = machine.daemon();
    let ask = |args: &[&str]| machine.run_as(NOBODY, NOBODY, args);

    let mut replies = Vec::new();
    for name in ["own", "owm"] {
        for args in [
            &["credential-process", name][..],
            &["watch", name],
            &["report-rejected", name],
            &["iam", "listRoles", "--profile", name],
            &["logout", name],
            &["resume", name],
            &["refresh", name],
            &["exec", name, "--mode", "http", "--", "true"],
        ] {
            let run = ask(args);
            replies.push((run.code, run.stderr.replace(&format!("`{name}`"), "NAME")));
        }
    }
    let unknown = replies.split_off(replies.len() / 2);
    assert_eq!(
        replies, unknown,
        "a profile of others is as one that is not there"
    );

    for args in [
        &["credential-process", "team"][..],
        &["status"],
        &["status", "--json"],
    ] {
        let run = ask(args);
        let output = format!("{}{}", run.stdout, run.stderr);
        for part in [
            "secret-vault",
            "/bin/false",
            "config.toml",
            "own\"",
            "failed_reload",
        ] {
            assert!(!output.contains(part), "{part}: {output}");
        }
        assert!(output.contains("the daemon has no valid token"), "{output}");
    }

    // The owner reads the reason, also in the journal.
    let status = machine.run_as_owner(&["status"]);
    assert!(status.stdout.contains("/bin/false"), "{status:?}");
    let journal = machine.run_as_owner(&["journal"]);
    assert!(
        journal
            .stdout
            .contains("profile own does not allow user 65534"),
        "{journal:?}"
    );
}

/// The attack: another user gets credentials by many programs of its own, hard links of one, so that the journal forgets
/// what the owner did.
#[test]
#[ignore = "needs root"]
fn flood_of_one_user_does_not_keep_sessions_alive() {
    const LINKS: usize = 300;
    let machine = Machine::new();
    let _daemon = machine.daemon();
    assert_eq!(machine.run_as_owner(&["credential-process", "own"]).code, 0);

    let links: Vec<_> = (0..LINKS)
        .map(|number| {
            let link = machine.home.path().join(format!("link-{number}"));
            fs::hard_link(&machine.client, &link).unwrap();
            link
        })
        .collect();
    thread::scope(|scope| {
        for links in links.chunks(LINKS / 6) {
            let machine = &machine;
            scope.spawn(move || {
                for link in links {
                    let args = &["credential-process", "team"];
                    let run = machine.run_program_as(link, NOBODY, NOBODY, args);
                    assert_eq!(run.code, 0, "{run:?}");
                }
            });
        }
    });

    let journal = machine.run_as_owner(&["journal", "--json"]).stdout;
    let written = journal.matches(&format!("\"uid\":{NOBODY}")).count();
    // A hundred a minute, and the last ones of a minute that has ended.
    assert!((100..=210).contains(&written), "{written}");
    assert!(journal.contains("\"profile\":\"own\""), "{journal}");

    let logout = machine.run_as_owner(&["logout", "--revoke"]);
    assert_eq!(logout.code, 0, "{logout:?}");
    let token = machine.sandbox.token("admin");
    let sessions = machine.sandbox.api(token, "GET", "/sts/sessions", None).1;
    let active: Vec<_> = sessions["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|session| session["status"] == "active")
        .collect();
    assert!(active.is_empty(), "{active:?}");
}
