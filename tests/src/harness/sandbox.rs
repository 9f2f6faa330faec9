//! The sandbox as a process of its own, and its control interface.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::programs;

#[derive(Debug)]
pub struct SandboxProcess {
    child: Child,
    /// The line it printed when it was ready.
    pub ready: Value,
    http: reqwest::blocking::Client,
}

impl SandboxProcess {
    /// # Panics
    /// When it does not start.
    pub fn start(args: &[&str]) -> Self {
        let http = http_client().expect("a client");
        let mut child = Command::new(&programs().sandbox)
            .arg("serve")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it prints a line");
        let ready = serde_json::from_str(&line).expect("the line is JSON");
        Self { child, ready, http }
    }

    pub fn endpoint(&self) -> &str {
        self.text(&["endpoint"])
    }

    /// Where S3 and STS answer, for AWS's clients.
    pub fn s3(&self) -> &str {
        self.text(&["s3"])
    }

    /// A principal's token: a user's by the part of the address before the `@`, a service account's by its name.
    pub fn token(&self, principal: &str) -> &str {
        self.text(&["tokens", principal])
    }

    pub fn role(&self, name: &str) -> &str {
        self.text(&["roles", name])
    }

    fn text(&self, path: &[&str]) -> &str {
        let value = path.iter().fold(&self.ready, |value, key| &value[*key]);
        value
            .as_str()
            .unwrap_or_else(|| panic!("the sandbox named no {path:?}: {}", self.ready))
    }

    /// A call on the control interface.
    ///
    /// # Panics
    /// When it is refused.
    pub fn control(&self, verb: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.text(&["control"]));
        let mut request = self.http.request(verb.parse().expect("a verb"), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().expect("the control interface answers");
        let (status, text) = (response.status(), response.text().expect("a body"));
        assert!(status.is_success(), "{verb} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// A call on the API itself, as a principal: its status and its body.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn api(&self, token: &str, verb: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.try_api(token, verb, path, body)
            .expect("the sandbox answers")
    }

    pub fn try_api(
        &self,
        token: &str,
        verb: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), reqwest::Error> {
        let url = format!("{}/iam/v1{path}", self.endpoint());
        let mut request = self
            .http
            .request(verb.parse().expect("a verb"), url)
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send()?;
        let (status, text) = (response.status().as_u16(), response.text()?);
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Leaves the machine's cores to everybody else, as an upstream that is elsewhere does.
    ///
    /// # Panics
    /// When it cannot.
    pub fn give_way(&self) {
        let pid = self.child.id().to_string();
        let done = Command::new("chrt")
            .args(["--idle", "--all-tasks", "--pid", "0", &pid])
            .status();
        assert!(done.expect("chrt starts").success());
    }

    /// SIGKILL, from wherever.
    pub fn kill(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
    }

    /// Makes every later `assumeRole` fail in this way.
    pub fn fault(&self, fault: &Value) {
        self.control(
            "POST",
            "/faults",
            Some(json!({ "method": "assumeRole", "fault": fault })),
        );
    }

    pub fn heal(&self) {
        self.control("DELETE", "/faults", None);
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.control("GET", "/calls", None)["counts"][method]
            .as_u64()
            .unwrap_or(0)
    }

    /// A file with a principal's token, as a configuration names it.
    pub fn token_file(&self, home: &super::Home, principal: &str) -> PathBuf {
        home.secret(self.token(principal));
        home.private_file(&format!("{principal}.token"), self.token(principal))
    }
}

/// A client for loopback, whatever this build made of reqwest.
fn http_client() -> Result<reqwest::blocking::Client, reqwest::Error> {
    // Somebody may have installed one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
