//! The sandbox as a process, and a client of its control interface.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use reqwest::blocking::{Client, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Home, programs};

/// Killed when it is dropped.
#[derive(Debug)]
pub struct SandboxProcess {
    child: Child,
    /// The ready line of the program.
    pub ready: Value,
    http: Client,
}

impl SandboxProcess {
    /// # Panics
    /// If it does not start.
    pub fn start(args: &[&str]) -> Self {
        let http = http_client().expect("a client");
        let mut child = Command::new(&programs().sandbox)
            .arg("serve")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");

        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a ready line");
        let ready = serde_json::from_str(&line).expect("the ready line is JSON");

        Self { child, ready, http }
    }

    /// URL of the IAM API.
    pub fn endpoint(&self) -> &str {
        self.text(&["endpoint"])
    }

    /// URL of S3 and STS, for AWS clients.
    pub fn s3(&self) -> &str {
        self.text(&["s3"])
    }

    /// URL of AWS's STS and IAM.
    pub fn aws(&self) -> &str {
        self.text(&["aws"])
    }

    /// A text of the AWS accounts, such as `["roles", "reader"]`.
    pub fn aws_fixture(&self, path: &[&str]) -> &str {
        self.text(&[&["aws_fixture"], path].concat())
    }

    /// The token of a user or a service account, by name.
    pub fn token(&self, principal: &str) -> &str {
        self.text(&["tokens", principal])
    }

    /// The id of a role, by name.
    pub fn role(&self, name: &str) -> &str {
        self.text(&["roles", name])
    }

    fn text(&self, path: &[&str]) -> &str {
        let value = path.iter().fold(&self.ready, |value, key| &value[*key]);
        value
            .as_str()
            .unwrap_or_else(|| panic!("no {path:?} in {}", self.ready))
    }

    /// Calls the control interface.
    ///
    /// # Panics
    /// If the call fails.
    pub fn control(&self, verb: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.text(&["control"]));
        let mut request = self.request(verb, url);
        if let Some(body) = body {
            request = request.json(&body);
        }

        let response = request.send().expect("the control interface answers");
        let status = response.status();
        let text = response.text().expect("a body");

        assert!(status.is_success(), "{verb} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Calls the API as a principal, and returns the status and the body.
    ///
    /// # Panics
    /// If the sandbox does not answer.
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
        let mut request = self.request(verb, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }

        let response = request.send()?;
        let status = response.status().as_u16();
        let text = response.text()?;

        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    fn request(&self, verb: &str, url: String) -> RequestBuilder {
        self.http
            .request(verb.parse().expect("an HTTP method"), url)
    }

    /// Runs only on otherwise idle cores, because a real upstream does not use this machine's.
    ///
    /// # Panics
    /// Without `chrt`.
    pub fn lower_priority(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("chrt")
            .args(["--idle", "--all-tasks", "--pid", "0", &pid])
            .status();

        assert!(status.expect("chrt starts").success());
    }

    /// Sends SIGKILL; another thread may call it.
    pub fn kill(&self) {
        kill_process(Pid::from_child(&self.child), Signal::KILL).expect("the sandbox runs");
    }

    /// Makes every later `assumeRole` fail.
    pub fn fault(&self, fault: &Value) {
        let rule = json!({ "method": "assumeRole", "fault": fault });
        self.control("POST", "/faults", Some(rule));
    }

    pub fn clear_faults(&self) {
        self.control("DELETE", "/faults", None);
    }

    /// How many calls of a method have arrived.
    pub fn calls(&self, method: &str) -> u64 {
        let calls = self.control("GET", "/calls", None);
        calls["counts"][method].as_u64().unwrap_or(0)
    }

    /// How many calls of an AWS action have arrived.
    pub fn aws_calls(&self, action: &str) -> u64 {
        let path = format!("/aws/calls?action={action}");
        let calls = self.control("GET", &path, None);
        calls["counts"][action].as_u64().unwrap_or(0)
    }

    /// The current MFA code of `ada`, by AWS's clock. It may be used already.
    ///
    /// # Panics
    /// If the control interface does not answer.
    pub fn mfa_code(&self) -> String {
        let codes = self.control("GET", "/aws/users/ada/mfa-code", None);
        let code = codes[self.aws_fixture(&["mfa", "serial"])].as_str();

        code.expect("a code").to_owned()
    }

    /// Writes the access key of an AWS user as `KEYID:SECRET` into a private file of a home.
    pub fn aws_key_file(&self, home: &Home, user: &str) -> PathBuf {
        let id = self.aws_fixture(&["users", user, "access_key_id"]);
        let secret = self.aws_fixture(&["users", user, "secret_access_key"]);
        home.secret(secret);

        home.private_file(&format!("{user}.key"), &format!("{id}:{secret}"))
    }

    /// Writes a principal's token into a private file of a home.
    pub fn token_file(&self, home: &Home, principal: &str) -> PathBuf {
        let token = self.token(principal);
        home.secret(token);
        home.private_file(&format!("{principal}.token"), token)
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client for loopback. Workspace builds give reqwest TLS, which needs a provider even for plain
/// HTTP.
fn http_client() -> Result<Client, reqwest::Error> {
    // An error means that the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();

    Client::builder().no_proxy().tls_certs_only([]).build()
}
