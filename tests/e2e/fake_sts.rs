//! STS without checks, for tests of what the daemon sends, and of what it makes of a session.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// An STS that takes every signature. It remembers who has signed, and for which role.
pub(crate) struct Sts {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Sts {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&calls);

        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = request(&mut stream);
                let body = reply(&request);
                noted.lock().unwrap().push(request);

                let date = jiff::fmt::rfc2822::DateTimePrinter::new()
                    .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
                    .unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nDate: {date}\r\nx-amzn-RequestId: 1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });

        Self { address, calls }
    }

    #[allow(dead_code, reason = "only the consumers' tests use it")]
    pub(crate) fn last_call(&self) -> String {
        self.calls
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    /// The requests for a role, each with headers and body.
    pub(crate) fn calls(&self, role: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap().clone();
        calls
            .into_iter()
            .filter(|call| call.contains(&format!("role%2F{role}")))
            .collect()
    }
}

/// Up to the end of the body.
fn request(stream: &mut impl Read) -> String {
    let mut text = String::new();
    let mut part = [0; 4096];
    loop {
        let length = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let head = head.to_lowercase();
            let (_, length) = head.split_once("content-length: ")?;
            let length: usize = length.lines().next()?.parse().ok()?;
            Some(body.len() >= length)
        });
        if length == Some(true) {
            return text;
        }
        match stream.read(&mut part).unwrap_or(0) {
            0 => return text,
            count => text += &String::from_utf8_lossy(&part[..count]),
        }
    }
}

fn reply(request: &str) -> String {
    if request.contains("GetCallerIdentity") {
        return "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/ada</Arn>\
            <UserId>AIDA1</UserId><Account>111122223333</Account></GetCallerIdentityResult>\
            <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
            .into();
    }

    let expires = jiff::Timestamp::now() + std::time::Duration::from_secs(3600);
    format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>\
        <SecretAccessKey>canary-secret-of-a-session</SecretAccessKey><SessionToken>canary-token</SessionToken>\
        <Expiration>{expires:.0}</Expiration></Credentials></AssumeRoleResult>\
        <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"
    )
}
