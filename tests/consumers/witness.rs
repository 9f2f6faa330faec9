//! A service that answers as a test wants, and notes what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GET /path HTTP/1.1`
    pub(crate) line: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut of = self
            .headers
            .iter()
            .filter(|(each, _)| each.eq_ignore_ascii_case(name));
        of.next().map(|(_, value)| value.as_str())
    }

    /// The access key and the session token that it was signed with.
    pub(crate) fn signer(&self) -> Option<(String, String)> {
        let key = self
            .header("authorization")?
            .split_once("Credential=")?
            .1
            .split('/')
            .next()?;
        Some((
            key.into(),
            self.header("x-amz-security-token")
                .unwrap_or_default()
                .into(),
        ))
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    /// `200 OK`, and more headers behind it, each on a line.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn new(head: &str, body: impl Into<String>) -> Self {
        Self {
            head: head.into(),
            body: body.into(),
        }
    }
}

pub(crate) struct Witness {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Witness {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::default();
        let (noted, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                std::thread::spawn(move || while once(&stream, &noted, &*answer).is_some() {});
            }
        });
        Self { url, seen }
    }

    /// An STS that takes everybody for somebody of this account.
    pub(crate) fn sts(account: &str) -> Self {
        let body = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn</Arn><UserId>user</UserId><Account>{account}</Account></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        );
        Self::start(move |_| Reply::new("200 OK\r\nContent-Type: text/xml", body.clone()))
    }

    /// What it was asked since the last time.
    pub(crate) fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut *self.seen.lock().expect("unpoisoned"))
    }

    /// Who signed what it was asked since the last time.
    pub(crate) fn signers(&self) -> Vec<(String, String)> {
        self.seen()
            .iter()
            .map(|request| request.signer().expect("a signature"))
            .collect()
    }
}

/// One request. `None` at the end of the connection.
fn once(
    mut stream: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &impl Fn(&Request) -> Reply,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader
        .by_ref()
        .lines()
        .map_while(|line| line.ok().filter(|line| !line.is_empty()));
    let line = lines.next()?;
    let headers = lines.filter_map(|line| {
        line.split_once(':')
            .map(|(name, value)| (name.into(), value.trim().into()))
    });
    let request = Request {
        line,
        headers: headers.collect(),
    };
    let length = request
        .header("content-length")
        .map_or(Some(0), |length| length.parse().ok())?;
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    let Reply { head, body } = answer(&request);
    // Before whoever asks can go on.
    seen.lock().expect("unpoisoned").push(request);
    // In one piece: the SDK for Go closes what it sends once a head has come.
    let text = format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).ok()
}
