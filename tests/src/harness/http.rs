//! A client of the daemon's HTTP endpoints, also for malformed requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::Home;

/// The HTTP endpoint of a profile.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `127.0.0.1:PORT`
    pub host: String,
    pub path: String,
    /// The file with the token; only container credentials have one.
    pub token_file: Option<String>,
}

#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    /// The status line and the headers as received.
    pub head: String,
    pub body: String,
}

impl HttpResponse {
    /// # Panics
    /// If the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Endpoint {
    /// The endpoint that `rolekeeper env --mode MODE` prints.
    ///
    /// # Panics
    /// If it prints none.
    pub fn of(home: &Home, profile: &str, mode: &str) -> Self {
        let args = ["env", profile, "--mode", mode, "--format", "json"];
        let variables = home.rolekeeper(&args).json();
        let url = variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
            .as_str()
            .or(variables["AWS_EC2_METADATA_SERVICE_ENDPOINT"].as_str())
            .unwrap_or_else(|| panic!("no endpoint in {variables}"));
        let (host, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .expect("a URL");
        let token_file = variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"].as_str();

        Self {
            host: host.into(),
            path: format!("/{path}"),
            token_file: token_file.map(str::to_owned),
        }
    }

    /// # Panics
    /// If there is none.
    pub fn token(&self) -> String {
        let file = self.token_file.as_ref().expect("a token file");
        std::fs::read_to_string(file).expect("a token")
    }

    /// Requests the credentials with the current token.
    pub fn credentials(&self) -> HttpResponse {
        self.ask("GET", &self.path, &[("Authorization", &self.token())])
    }

    pub fn ask(&self, verb: &str, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();

        self.raw(&format!(
            "{verb} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
            self.host
        ))
    }

    /// Sends bytes as they are and reads the response until the connection closes.
    ///
    /// # Panics
    /// Without a connection or a response.
    pub fn raw(&self, request: &str) -> HttpResponse {
        let text = self.try_raw(request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());

        HttpResponse {
            status: status.unwrap_or_else(|| panic!("{request:?}: no response in {text:?}")),
            head: head.into(),
            body: body.into(),
        }
    }

    /// Like [`Self::raw`]; the response may be empty or cut off.
    ///
    /// # Panics
    /// Without a connection.
    pub fn try_raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");

        let mut response = Vec::new();
        // The daemon may close the connection early. The response then ends there.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut response);

        String::from_utf8_lossy(&response).into_owned()
    }
}
