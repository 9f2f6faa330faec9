//! The demo's story, a step a function: a role assumed, cached, handed to real tools, refreshed, kept through an
//! outage, revoked, and a clean stop.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::screen::{Screen, Style};
use crate::harness::{Daemon, Home, Run, SandboxProcess, eventually, programs};

/// Sessions this short let a refresh be watched: 31 s of life are 16 s of service, the last 15 s being a reserve.
const SESSION_SECONDS: &str = "31";

#[derive(Debug, Default)]
pub struct Options {
    /// Where to draw a picture of the terminal.
    pub picture: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Panics
/// When something does not do what the demo says it does.
pub fn tell(options: &Options) {
    let mut screen = Screen::new();
    screen.flash(
        Style::Dim,
        "building the programs, and installing the AWS CLI and boto3 below target/ ...",
    );
    programs();
    let consumers = consumers();
    screen.clear_flash();

    let sandbox = SandboxProcess::start(&["--max-session", SESSION_SECONDS]);
    let home = Home::default();
    introduce(&mut screen, &sandbox, &home);
    let daemon = home.daemon(&[]);
    let started = Instant::now();
    assume(&mut screen, &sandbox, &home);
    match &consumers {
        Some(folder) => use_real_tools(&mut screen, &sandbox, &home, folder),
        None => screen.say(
            Style::Dim,
            "  python3 could not be used here, so the AWS CLI and boto3 are left out\n",
        ),
    }
    watch_refresh(&mut screen, &sandbox, &home, started);
    survive_outage(&mut screen, &sandbox, &home);
    explain_and_audit(&mut screen, &sandbox, &home);
    notice_revocation(&mut screen, &sandbox, &home);
    stop(&mut screen, &home, daemon);
    if let Some(path) = &options.picture {
        std::fs::write(path, screen.picture()).expect("the picture can be written");
    }
}

/// Where the consumers are installed; they need Python and a package index, which a machine may not have.
fn consumers() -> Option<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let setup = Command::new(tests.join("consumers/setup"))
        .arg("python")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    setup
        .is_ok_and(|status| status.success())
        .then(|| tests.join("../target/consumers/bin"))
}

fn introduce(screen: &mut Screen, sandbox: &SandboxProcess, home: &Home) {
    screen.say(
        Style::Title,
        "1. A cloud on loopback, a configuration, a daemon",
    );
    screen.say(
        Style::Plain,
        format!(
            "  ByCloud IAM (sandbox) at {}: users, roles, policies, sessions",
            sandbox.endpoint()
        ),
    );
    home.configure_for(
        sandbox,
        "dev",
        &[
            ("dev", "S3ReadOnly"),
            ("locked", "NoTrust"),
            ("prod", "S3BucketAccess"),
        ],
    );
    home.configure_more("check_every = \"1s\"", "");
    let config = std::fs::read_to_string(home.config_path()).expect("it was written");
    let config = config.replace(&home.path().display().to_string(), "~");
    for line in config.lines() {
        screen.say(Style::Dim, format!("    {line}"));
    }
}

fn assume(screen: &mut Screen, sandbox: &SandboxProcess, home: &Home) {
    screen.gap();
    screen.say(
        Style::Title,
        "2. The first request assumes the role, the second comes from the cache",
    );
    for _ in 0..2 {
        screen.say(Style::Command, "  $ rolekeeper credential-process dev");
        let asked = Instant::now();
        let lease = home.rolekeeper(&["credential-process", "dev"]).json();
        let took = asked.elapsed();
        screen.say(Style::Plain, format!("  {}", abridged(&lease)));
        screen.say(
            Style::Good,
            format!("  {:.1} ms, {}", took.as_secs_f64() * 1e3, so_far(sandbox)),
        );
    }
    assert_eq!(sandbox.calls("assumeRole"), 1);
}

/// A lease fit to be shown to whoever stands behind.
fn abridged(lease: &Value) -> Value {
    let mut lease = lease.clone();
    for field in ["SecretAccessKey", "SessionToken"] {
        let start: String = lease[field]
            .as_str()
            .unwrap_or_default()
            .chars()
            .take(4)
            .collect();
        lease[field] = json!(format!("{start}..."));
    }
    lease
}

fn so_far(sandbox: &SandboxProcess) -> String {
    match sandbox.calls("assumeRole") {
        1 => "1 assumeRole so far".into(),
        calls => format!("{calls} assumeRole so far"),
    }
}

fn use_real_tools(screen: &mut Screen, sandbox: &SandboxProcess, home: &Home, folder: &Path) {
    screen.gap();
    screen.say(
        Style::Title,
        "3. Real tools, with one line of configuration",
    );
    std::fs::create_dir(home.path().join(".aws")).expect("a folder");
    let client = programs().rolekeeper.canonicalize().expect("it was built");
    let line = format!(
        "credential_process = {} credential-process dev",
        client.display()
    );
    home.private_file(
        ".aws/config",
        &format!("[profile dev]\nregion = eu-central-1\n{line}\n"),
    );
    screen.say(
        Style::Dim,
        "    ~/.aws/config: [profile dev] credential_process = /path/to/rolekeeper credential-process dev",
    );
    screen.say(Style::Command, "  $ aws configure list --profile dev");
    let mut aws = home.command(&folder.join("aws"));
    aws.args(["configure", "list", "--profile", "dev"]);
    for line in lines_with(&home.finish(aws), &["access_key", "secret_key"]) {
        screen.say(Style::Plain, format!("  {}", line.trim_end()));
    }
    screen.say(
        Style::Command,
        "  $ python -c \"boto3.Session(profile_name='dev').get_credentials() ...\"",
    );
    let mut python = home.command(&folder.join("python"));
    python.args([
        "-c",
        "import boto3\n\
         credentials = boto3.Session(profile_name='dev').get_credentials()\n\
         print('boto3 has', credentials.get_frozen_credentials().access_key, 'by', credentials.method)",
    ]);
    let run = home.finish(python);
    assert_eq!(run.code, 0, "{run:?}");
    screen.say(Style::Plain, format!("  {}", run.stdout.trim()));
    screen.say(
        Style::Command,
        "  $ rolekeeper exec --mode http dev -- aws configure list",
    );
    let aws = folder.join("aws");
    let mut exec = home.client();
    exec.args(["exec", "--mode", "http", "dev", "--"])
        .arg(aws)
        .args(["configure", "list"]);
    for line in lines_with(&home.finish(exec), &["access_key"]) {
        screen.say(Style::Plain, format!("  {}", line.trim_end()));
    }
    screen.say(Style::Good, format!("  {}", so_far(sandbox)));
}

fn lines_with<'a>(run: &'a Run, words: &[&str]) -> Vec<&'a str> {
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
        .lines()
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .collect()
}

fn watch_refresh(screen: &mut Screen, sandbox: &SandboxProcess, home: &Home, started: Instant) {
    screen.gap();
    screen.say(
        Style::Title,
        format!("4. A refresh before expiry: this cloud grants {SESSION_SECONDS} s, and nobody is asking"),
    );
    let calls = sandbox.calls("assumeRole");
    while sandbox.calls("assumeRole") == calls {
        let status = status(home);
        let left = status["session"]["left_seconds"].as_u64().unwrap_or(0);
        let bar = "#".repeat(usize::try_from(left).unwrap_or(0));
        screen.flash(
            Style::Plain,
            &format!(
                "  {bar:31} {left:2} s left, {}",
                status["state"].as_str().unwrap_or("")
            ),
        );
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no refresh: {status}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    screen.clear_flash();
    let fresh = eventually("the new session is there", || {
        let status = status(home);
        (status["session"]["age_seconds"].as_u64() <= Some(1)).then_some(status)
    });
    let left = fresh["session"]["left_seconds"].as_u64().unwrap_or(0);
    screen.say(
        Style::Plain,
        format!(
            "  after {:.1} s: a new session with {left} s left",
            started.elapsed().as_secs_f64()
        ),
    );
    screen.say(Style::Good, format!("  {}", so_far(sandbox)));
}

fn status(home: &Home) -> Value {
    home.rolekeeper(&["status", "--json"]).json()["profiles"][0].clone()
}

fn survive_outage(screen: &mut Screen, sandbox: &SandboxProcess, home: &Home) {
    screen.gap();
    screen.say(
        Style::Title,
        "5. The cloud goes down: what is held is served, what is not is refused with a reason",
    );
    sandbox.fault(&json!({ "kind": "status", "status": 503, "message": "maintenance" }));
    screen.say(Style::Bad, "  the sandbox now answers assumeRole with 503");
    screen.say(Style::Command, "  $ rolekeeper credential-process dev");
    let lease = home.rolekeeper(&["credential-process", "dev"]).json();
    screen.say(Style::Plain, format!("  {}", abridged(&lease)));
    screen.say(Style::Command, "  $ rolekeeper credential-process prod");
    let refused = home.rolekeeper(&["credential-process", "prod"]);
    screen.say(
        Style::Bad,
        format!("  {}", refused.stderr.trim_end().replace('\n', "\n  ")),
    );
    screen.say(Style::Dim, format!("  exit code {}", refused.code));
}

fn explain_and_audit(screen: &mut Screen, sandbox: &SandboxProcess, home: &Home) {
    screen.gap();
    screen.say(
        Style::Title,
        "6. Why a role cannot be assumed, and who had the credentials of another",
    );
    sandbox.heal();
    screen.say(Style::Command, "  $ rolekeeper explain locked");
    let explained = home.rolekeeper(&["explain", "locked"]);
    assert!(
        explained.code == 0 && explained.stdout.contains("cannot assume role NoTrust"),
        "{explained:?}"
    );
    // The statements themselves are too wide for a demo.
    for line in explained
        .stdout
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(' '))
    {
        let style = if line.starts_with("no ") {
            Style::Bad
        } else {
            Style::Plain
        };
        screen.say(style, format!("  {line}"));
    }
    screen.say(Style::Command, "  $ rolekeeper iam listRoles --profile dev");
    let roles = home
        .rolekeeper(&["iam", "listRoles", "--profile", "dev"])
        .json();
    let names: Vec<_> = roles["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|role| role["name"].as_str())
        .collect();
    screen.say(Style::Plain, format!("  {}", names.join(", ")));
    screen.say(Style::Command, "  $ rolekeeper audit dev");
    let audit = home.rolekeeper(&["audit", "dev", "--json"]).json();
    let call = &audit["calls"][0];
    let index = call["holders"][0]
        .as_u64()
        .and_then(|index| usize::try_from(index).ok())
        .expect("somebody made it");
    let programs: Vec<_> = audit["holders"][index]["processes"]
        .as_array()
        .into_iter()
        .flatten()
        .take(2)
        .map(program)
        .collect();
    let action = call["action"].as_str().unwrap_or_default();
    screen.say(
        Style::Good,
        format!(
            "  {action}, {}, by {}",
            call["status"].as_str().unwrap_or_default(),
            programs.join(" < ")
        ),
    );
}

/// A process by the name of its program: whole paths are nobody's business in a picture.
fn program(process: &Value) -> String {
    let path = process["program"].as_str().unwrap_or_default();
    format!(
        "{} ({})",
        path.rsplit('/').next().unwrap_or_default(),
        process["pid"]
    )
}

fn notice_revocation(screen: &mut Screen, sandbox: &SandboxProcess, home: &Home) {
    screen.gap();
    screen.say(
        Style::Title,
        "7. An administrator revokes the session: what runs with it ends, and nobody is given it again",
    );
    screen.say(
        Style::Command,
        "  $ rolekeeper exec --on-revoke term dev -- ./server",
    );
    let mut server = home.client();
    server.args([
        "exec",
        "--on-revoke",
        "term",
        "dev",
        "--",
        "sh",
        "-c",
        "echo up; exec sleep 60",
    ]);
    let mut server = server
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("it runs");
    let id = status(home)["session"]["id"]
        .as_str()
        .expect("there is one")
        .to_owned();
    let path = format!("/sts/sessions/{id}?reason=lost%20laptop");
    assert_eq!(
        sandbox.api(sandbox.token("admin"), "DELETE", &path, None).0,
        204
    );
    let revoked = Instant::now();
    screen.say(
        Style::Bad,
        "  the session is revoked at the sandbox, because: lost laptop",
    );
    let code = server.wait().expect("it ends").code();
    assert_eq!(code, Some(6));
    let took = revoked.elapsed().as_secs_f64();
    screen.say(
        Style::Good,
        format!("  {took:.1} s later the server is gone, exit code 6; here the cloud is asked every second"),
    );
    screen.say(Style::Command, "  $ rolekeeper credential-process dev");
    let refused = eventually("it is known who did it", || {
        Some(home.rolekeeper(&["credential-process", "dev"]))
            .filter(|run| run.stderr.contains("admin@"))
    });
    let words = refused
        .stderr
        .trim_end()
        .replace(&id, &format!("{}...", &id[..8]));
    screen.say(Style::Bad, format!("  {}", words.replace('\n', "\n  ")));
}

fn stop(screen: &mut Screen, home: &Home, daemon: Daemon<'_>) {
    screen.gap();
    screen.say(Style::Title, "8. A clean stop");
    screen.say(Style::Command, format!("  $ kill {}", daemon.pid()));
    let code = daemon.stop();
    assert!(code == 0 && !home.socket().exists());
    screen.say(
        Style::Good,
        "  exit code 0, requests under way answered, socket removed, no credential ever written to disk",
    );
}
