//! A daemon without an upstream. It has the profile `dev` and the held profile `held`, and one
//! reply for every call.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rolekeeper::frame;
use rolekeeper::protocol::{
    Code, DaemonStatus, Failure, LaunchStatus, Lease, Part, ProfileState, ProfileStatus, Reply,
    ReplyFrame, Request, RequestFrame, StatusPage, VERSION,
};
use tempfile::TempDir;

/// How long the reply takes to a request for the profile `slow`.
const SLOW: Duration = Duration::from_millis(1500);

/// A thread that serves the socket until this is dropped.
pub(super) struct FakeDaemon {
    home: TempDir,
    requests: Arc<AtomicUsize>,
    region: Arc<Mutex<Option<String>>>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDaemon {
    /// Replies to calls with `answer`; its profile is of this upstream.
    pub(super) fn new(answer: &str, upstream: &str) -> Self {
        let only_mine = std::fs::Permissions::from_mode(0o700);
        let home = tempfile::Builder::new()
            .permissions(only_mine)
            .tempdir()
            .unwrap();
        let listener = UnixListener::bind(home.path().join("socket")).unwrap();
        let (stop, stopped) = mpsc::channel();
        let requests = Arc::new(AtomicUsize::new(0));
        let answer = answer.to_owned();
        let upstream = upstream.to_owned();
        let counter = Arc::clone(&requests);
        let region = Arc::new(Mutex::new(None));
        let current_region = Arc::clone(&region);

        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.try_recv() != Err(mpsc::TryRecvError::Empty) {
                    return;
                }

                let region = current_region.lock().unwrap().clone();
                serve(
                    stream.unwrap(),
                    &answer,
                    &upstream,
                    region.as_deref(),
                    &counter,
                );
            }
        });

        Self {
            home,
            requests,
            region,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(super) fn answering(answer: &str) -> Self {
        Self::new(answer, "up")
    }

    /// `rolekeeper`, connected to this daemon and without autostart.
    pub(super) fn client(&self, words: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_rolekeeper"));
        command.args(words);

        command
    }

    /// A program with the environment of [`Self::client`].
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("ROLEKEEPER_SOCKET", self.home.path().join("socket"))
            .env("ROLEKEEPER_AUTOSTART", "0");

        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Output {
        self.client(words).output().unwrap()
    }

    pub(super) fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    /// Gives the profile a region, for connections from now on.
    pub(super) fn set_region(&self, region: &str) {
        *self.region.lock().unwrap() = Some(region.into());
    }

    /// The number of requests so far.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        drop(self.stop.take());

        // The thread checks for its end at each connection.
        let _ = UnixStream::connect(self.home.path().join("socket"));
        let ended = self.thread.take().unwrap().join();
        assert!(
            ended.is_ok() || std::thread::panicking(),
            "the fake daemon panicked"
        );
    }
}

fn serve(
    mut stream: UnixStream,
    answer: &str,
    upstream: &str,
    region: Option<&str>,
    requests: &AtomicUsize,
) {
    use std::io::Write;

    while let Ok(text) = frame::read(&mut stream) {
        requests.fetch_add(1, Ordering::SeqCst);
        let RequestFrame { request, .. } = serde_json::from_slice(&text).unwrap();

        if matches!(&request, Request::Lease { profile } if profile == "slow") {
            std::thread::sleep(SLOW);
        }

        let reply = match request {
            Request::Lease { profile } if profile == "held" => Reply::Error(Failure::new(
                Code::Held,
                "profile held is held",
                "rolekeeper resume held",
            )),
            Request::Lease { .. } => Reply::Lease(Lease {
                access_key_id: answer.into(),
                secret_access_key: "secret".into(),
                session_token: "token".into(),
                expires_at: "2026-01-01T00:00:00Z".into(),
                session_id: "s-1".into(),
                session_expires_at: "2026-01-01T00:30:00Z".into(),
                generation: 0,
                view_age_seconds: None,
                region: region.map(Into::into),
                account_id: None,
            }),
            Request::Status { .. } => Reply::Status(status(upstream, region)),
            _ => Reply::Part(Part {
                text: answer.into(),
                more: false,
            }),
        };

        stream
            .write_all(&frame::encode(&ReplyFrame { v: VERSION, reply }).unwrap())
            .unwrap();
    }
}

fn status(upstream: &str, region: Option<&str>) -> StatusPage {
    let profile = ProfileStatus {
        profile: "dev".into(),
        upstream: upstream.into(),
        role_id: "r-1".into(),
        region: region.map(Into::into),
        state: ProfileState::Idle,
        session: None,
        failure: None,
        held: None,
    };

    let daemon = DaemonStatus {
        launch: LaunchStatus::default(),
        version: "0.1.0".into(),
        pid: 7,
        uptime_seconds: 1,
        connections: 1,
        endpoints: BTreeMap::new(),
        protection: None,
        clocks: Vec::new(),
        failed_reload: None,
        awaiting_mfa: Vec::new(),
        aws_files: None,
    };

    StatusPage {
        daemon,
        profiles: vec![profile],
        next: None,
    }
}
