//! A mock HTTP server. The test gives the responses, and the server records the requests.

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
        let mut values = self
            .headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name));

        values.next().map(|(_, value)| value.as_str())
    }

    /// The access key and the session token that signed the request.
    pub(crate) fn signer(&self) -> Option<(String, String)> {
        let key = self
            .header("authorization")?
            .split_once("Credential=")?
            .1
            .split('/')
            .next()?;
        let token = self.header("x-amz-security-token").unwrap_or_default();

        Some((key.into(), token.into()))
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    /// The status, such as `200 OK`. More headers may follow, each on a line.
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

pub(crate) struct MockServer {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl MockServer {
    pub(crate) fn start(respond: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::default();
        let respond = Arc::new(respond);

        let recorded = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let recorded = Arc::clone(&recorded);
                let respond = Arc::clone(&respond);
                std::thread::spawn(
                    move || while serve_request(&stream, &recorded, &*respond).is_some() {},
                );
            }
        });

        Self { url, requests }
    }

    /// A mock STS. It answers every `GetCallerIdentity` with this account.
    pub(crate) fn sts(account: &str) -> Self {
        let body = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn</Arn><UserId>user</UserId><Account>{account}</Account></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
        );

        Self::start(move |_| Reply::new("200 OK\r\nContent-Type: text/xml", body.clone()))
    }

    /// Takes the requests since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().expect("not poisoned"))
    }

    /// Takes the signers of the requests since the last call.
    pub(crate) fn signers(&self) -> Vec<(String, String)> {
        self.take_requests()
            .iter()
            .map(|request| request.signer().expect("a signature"))
            .collect()
    }
}

/// Serves one request. Returns `None` at the end of the connection.
fn serve_request(
    mut stream: &TcpStream,
    requests: &Mutex<Vec<Request>>,
    respond: &impl Fn(&Request) -> Reply,
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

    let Reply { head, body } = respond(&request);
    // Record the request first: after the response the client and the test continue.
    requests.lock().expect("not poisoned").push(request);

    // Write the response in one piece: the SDK for Go closes its request once it has the head.
    let text = format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).ok()
}
