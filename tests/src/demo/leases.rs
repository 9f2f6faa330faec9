//! Steps 1, 2, 6 and 7: configuration, cached leases, a refresh and an outage.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::screen::Style;
use super::{Demo, SESSION_SECONDS};
use crate::harness::eventually;

/// More than a session of [`SESSION_SECONDS`] lives.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(60);

impl Demo<'_> {
    pub(super) fn configure(&mut self) {
        self.title("1. A fake cloud, a configuration and the daemon");
        let endpoint = self.sandbox.endpoint();
        let line =
            format!("ByCloud IAM sandbox at {endpoint}, and AWS: users, roles, policies, sessions");
        self.print(Style::Plain, &line);

        let profiles = [
            ("dev", "S3ReadOnly"),
            ("locked", "NoTrust"),
            ("prod", "S3BucketAccess"),
        ];
        self.home.configure_for(self.sandbox, "dev", &profiles);
        self.home.configure_more("check_every = \"1s\"", "");
        let text = std::fs::read_to_string(self.home.config_path()).expect("a configuration");
        self.home.configure(&(text + &self.aws_configuration()));

        let text = std::fs::read_to_string(self.home.config_path()).expect("a configuration");
        let text = text.replace(&self.home.path().display().to_string(), "~");
        for line in text.lines().filter(|line| !line.is_empty()) {
            self.print(Style::Dim, &format!("  {line}"));
        }
    }

    pub(super) fn assume_role(&mut self) {
        self.next_title(
            "2. The first request assumes the role; the second is served from the cache",
        );

        for _ in 0..2 {
            let started = Instant::now();
            let run = self.rolekeeper(&["credential-process", "dev"]);
            let milliseconds = started.elapsed().as_secs_f64() * 1e3;

            self.print_lease(&run);
            let line = format!("{milliseconds:.1} ms; {}", self.count_of_assume_role());
            self.print(Style::Good, &line);
        }

        assert_eq!(self.sandbox.calls("assumeRole"), 1);
    }

    pub(super) fn wait_for_refresh(&mut self, started: Instant) {
        self.next_title(&format!(
            "6. The daemon refreshes the session before it expires; here sessions last {SESSION_SECONDS} s"
        ));

        let calls = self.sandbox.calls("assumeRole");
        while self.sandbox.calls("assumeRole") == calls {
            assert!(
                started.elapsed() < REFRESH_TIMEOUT,
                "no refresh: {}",
                self.status()
            );
            self.show_time_left();
            sleep(Duration::from_millis(100));
        }
        self.screen.clear_progress();

        let fresh = eventually("the daemon has installed the new session", || {
            let status = self.status();
            (status["session"]["age_seconds"].as_u64() <= Some(1)).then_some(status)
        });
        let left = fresh["session"]["expires_in_seconds"].as_u64().unwrap_or(0);
        let seconds = started.elapsed().as_secs_f64();

        self.print(
            Style::Plain,
            &format!("after {seconds:.1} s: a new session, {left} s left"),
        );
        self.print(Style::Good, &self.count_of_assume_role());
    }

    fn show_time_left(&self) {
        let status = self.status();
        let left = status["session"]["expires_in_seconds"]
            .as_u64()
            .unwrap_or(0);
        let bar = "#".repeat(usize::try_from(left).unwrap_or(0));
        let state = status["state"].as_str().unwrap_or("");

        self.screen.show_progress(
            Style::Plain,
            &format!("  {bar:31} {left:2} s left, {state}"),
        );
    }

    pub(super) fn survive_outage(&mut self) {
        self.next_title(
            "7. The cloud is down: cached sessions are served, others fail with a reason",
        );

        let outage = json!({ "kind": "status", "status": 503, "message": "maintenance" });
        self.sandbox.fault(&outage);
        self.print(Style::Bad, "the sandbox now answers assumeRole with 503");

        let cached = self.rolekeeper(&["credential-process", "dev"]);
        self.print_lease(&cached);

        let refused = self.rolekeeper(&["credential-process", "prod"]);
        self.print(Style::Bad, refused.stderr.trim_end());
        self.print(Style::Dim, &format!("exit code {}", refused.code));

        self.sandbox.clear_faults();
    }
}
