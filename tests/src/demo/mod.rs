//! The demo: real programs against the sandbox, one numbered step a function.

mod access;
mod aws;
mod leases;
mod screen;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Home, Run, SandboxProcess, programs};
use screen::{Screen, Style};

/// A session of 31 s is refreshed after 16 s at the latest, because the daemon reserves the last 15
/// s. So the demo can wait for a refresh.
const SESSION_SECONDS: &str = "31";

#[derive(Debug, Default)]
pub struct Options {
    /// File for an SVG picture of the output.
    pub picture: Option<PathBuf>,
}

/// Runs the demo and prints it.
///
/// # Panics
/// If a program does not do what the demo prints, or the picture cannot be written.
pub fn run(options: &Options) {
    let screen = Screen::new();
    screen.show_progress(
        Style::Dim,
        "building the programs; installing the AWS CLI and boto3 into target/ ...",
    );
    programs();
    let tools = install_tools();
    screen.clear_progress();

    let sandbox = SandboxProcess::start(&["--max-session", SESSION_SECONDS]);
    let home = Home::default();
    let mut demo = Demo {
        screen,
        sandbox: &sandbox,
        home: &home,
    };

    demo.configure();

    let daemon = home.daemon(&[]);
    let started = Instant::now();

    demo.assume_role();
    demo.use_tools(tools.as_deref());
    demo.use_aws(tools.as_deref());
    demo.chain_roles_with_a_wrong_clock();
    demo.wait_for_refresh(started);
    demo.survive_outage();
    demo.explain_denial();
    demo.audit_calls();
    demo.revoke_session();
    demo.stop(daemon);

    if let Some(path) = &options.picture {
        std::fs::write(path, demo.screen.to_svg()).expect("the picture is written");
    }
}

/// Installs the AWS CLI and boto3, and returns the folder of their programs. `None` without Python
/// or a package index.
fn install_tools() -> Option<PathBuf> {
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

/// What every step uses.
struct Demo<'a> {
    screen: Screen,
    sandbox: &'a SandboxProcess,
    home: &'a Home,
}

impl Demo<'_> {
    fn title(&mut self, text: &str) {
        self.screen.print(Style::Title, text);
    }

    /// An empty line, then the title.
    fn next_title(&mut self, text: &str) {
        self.screen.print_empty_line();
        self.title(text);
    }

    fn print(&mut self, style: Style, text: &str) {
        self.screen
            .print(style, &format!("  {}", text.replace('\n', "\n  ")));
    }

    /// Prints a `rolekeeper` command line and runs it.
    fn rolekeeper(&mut self, args: &[&str]) -> Run {
        self.print(Style::Command, &format!("$ rolekeeper {}", args.join(" ")));
        self.home.rolekeeper(args)
    }

    fn print_lease(&mut self, run: &Run) {
        let lease = shorten_secrets(run.json());
        self.print(Style::Plain, &lease.to_string());
    }

    /// Status of the first profile, `dev`.
    fn status(&self) -> Value {
        self.home.rolekeeper(&["status", "--json"]).json()["profiles"][0].clone()
    }

    fn count_of_assume_role(&self) -> String {
        format!(
            "assumeRole calls so far: {}",
            self.sandbox.calls("assumeRole")
        )
    }
}

/// Shortens the secrets, because the output may become a public picture.
fn shorten_secrets(mut lease: Value) -> Value {
    for field in ["SecretAccessKey", "SessionToken"] {
        let secret = lease[field].as_str().unwrap_or_default();
        let start: String = secret.chars().take(4).collect();

        lease[field] = json!(format!("{start}..."));
    }
    lease
}
