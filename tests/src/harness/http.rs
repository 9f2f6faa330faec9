//! An endpoint of the daemon's, asked as SDKs do it, and as nobody should: byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::Home;

/// Where a profile's credentials are to be had over HTTP.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `127.0.0.1:PORT`
    pub host: String,
    pub path: String,
    /// The file with the token, if there is one.
    pub token_file: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    /// As it stands, without the status.
    pub head: String,
    pub body: String,
}

impl Said {
    /// # Panics
    /// When the body is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Endpoint {
    /// # Panics
    /// When there is none.
    pub fn of(home: &Home, profile: &str, mode: &str) -> Self {
        let set = home
            .rolekeeper(&["env", profile, "--mode", mode, "--format", "json"])
            .json();
        let text = |name: &str| set[name].as_str().map(str::to_owned);
        let url = text("AWS_CONTAINER_CREDENTIALS_FULL_URI")
            .or(text("AWS_EC2_METADATA_SERVICE_ENDPOINT"));
        let url = url.unwrap_or_else(|| panic!("no address in {set}"));
        let (host, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .expect("an address");
        let token_file = text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        Self {
            host: host.into(),
            path: format!("/{path}"),
            token_file,
        }
    }

    /// # Panics
    /// When there is none.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.token_file.as_ref().expect("a file")).expect("a token")
    }

    /// The credentials, with the token as it is now.
    pub fn credentials(&self) -> Said {
        self.ask("GET", &self.path, &[("Authorization", &self.token())])
    }

    pub fn ask(&self, verb: &str, path: &str, headers: &[(&str, &str)]) -> Said {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        self.raw(&format!(
            "{verb} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
            self.host
        ))
    }

    /// Sends this, and reads until the other end closes.
    ///
    /// # Panics
    /// When nobody listens, or there is no answer.
    pub fn raw(&self, request: &str) -> Said {
        let text = self.try_raw(request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{request:?} was answered with {text:?}"));
        Said {
            status,
            head: head.into(),
            body: body.into(),
        }
    }

    /// Whatever is answered, which may be nothing.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn try_raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a deadline");
        let mut said = Vec::new();
        // Either may be cut off: then what came until then is all there is.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    }
}
