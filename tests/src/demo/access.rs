//! Steps 8 to 11: a denial explained, calls attributed, a session revoked, the daemon stopped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::Demo;
use super::screen::Style;
use crate::harness::{Daemon, eventually};

/// Exit code of `exec --on-revoke term` after a revocation.
const REVOKED: i32 = 6;

impl Demo<'_> {
    pub(super) fn explain_denial(&mut self) {
        self.next_title("8. Why a role cannot be assumed");

        let run = self.rolekeeper(&["explain", "locked"]);
        assert!(
            run.code == 0 && run.stdout.contains("cannot assume role NoTrust"),
            "{run:?}"
        );

        // The indented lines, policy statements, are too wide for a demo.
        for line in run
            .stdout
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(' '))
        {
            let style = if line.starts_with("no ") {
                Style::Bad
            } else {
                Style::Plain
            };
            self.print(style, line);
        }
    }

    pub(super) fn audit_calls(&mut self) {
        self.next_title("9. Which local program made a call to the cloud");

        let roles = self
            .rolekeeper(&["iam", "listRoles", "--profile", "dev"])
            .json();
        let names: Vec<_> = array(&roles["items"])
            .filter_map(|role| role["name"].as_str())
            .collect();
        self.print(Style::Plain, &names.join(", "));

        self.print(Style::Command, "$ rolekeeper audit dev");
        let audit = self.home.rolekeeper(&["audit", "dev", "--json"]).json();
        let call = &audit["calls"][0];
        let index = call["holders"][0].as_u64().expect("a call with a holder");
        let index = usize::try_from(index).expect("an index");
        let programs = array(&audit["holders"][index]["processes"])
            .take(2)
            .map(program_name);

        let line = format!(
            "{}, {}, by {}",
            call["action"].as_str().unwrap_or_default(),
            call["status"].as_str().unwrap_or_default(),
            programs.collect::<Vec<_>>().join(" < ")
        );
        self.print(Style::Good, &line);
    }

    pub(super) fn revoke_session(&mut self) {
        self.next_title(
            "10. An administrator revokes the session: the daemon notices and stops its use",
        );

        let mut server = self.start_server();
        let session = self.status()["session"]["id"]
            .as_str()
            .expect("a session")
            .to_owned();
        let path = format!("/sts/sessions/{session}?reason=lost%20laptop");
        let reply = self
            .sandbox
            .api(self.sandbox.token("admin"), "DELETE", &path, None);
        assert_eq!(reply.0, 204);
        let revoked = Instant::now();
        self.print(
            Style::Bad,
            "the administrator revokes the session, reason: lost laptop",
        );

        let code = server.wait().expect("the server ends").code();
        assert_eq!(code, Some(REVOKED));
        let seconds = revoked.elapsed().as_secs_f64();
        self.print(
            Style::Good,
            &format!("{seconds:.1} s later exec has stopped the server; exit code {REVOKED} (check_every = 1 s)"),
        );

        self.show_refusal(&session);
    }

    fn start_server(&mut self) -> Child {
        self.print(
            Style::Command,
            "$ rolekeeper exec --on-revoke term dev -- ./server",
        );
        let mut server = self.home.client();
        server
            .args(["exec", "--on-revoke", "term", "dev", "--"])
            .args(["sh", "-c", "echo up; exec sleep 60"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut server = server.spawn().expect("exec starts");

        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("the server prints a line");
        server
    }

    fn show_refusal(&mut self, session: &str) {
        let args = ["credential-process", "dev"];
        self.print(Style::Command, &format!("$ rolekeeper {}", args.join(" ")));

        // The daemon refuses at once, and learns a moment later who revoked the session.
        let refused = eventually("the refusal names the administrator", || {
            Some(self.home.rolekeeper(&args)).filter(|run| run.stderr.contains("admin@"))
        });
        let short = format!("{}...", &session[..8]);

        self.print(
            Style::Bad,
            refused.stderr.trim_end().replace(session, &short).as_str(),
        );
    }

    pub(super) fn stop(&mut self, daemon: Daemon<'_>) {
        self.next_title("11. The daemon stops");

        self.print(Style::Command, &format!("$ kill {}", daemon.pid()));
        let code = daemon.stop();
        assert!(code == 0 && !self.home.socket().exists());

        self.print(
            Style::Good,
            "exit code 0; open requests were answered, the socket is removed, no session credential was written to disk",
        );
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The file name alone: the picture must not show the paths of this machine.
fn program_name(process: &Value) -> String {
    let path = process["program"].as_str().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();

    format!("{name} ({})", process["pid"])
}
