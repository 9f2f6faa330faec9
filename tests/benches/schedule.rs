//! The costs of 100,000 scheduled sessions: their memory, and the wakeups of an idle process. `tests/bench` runs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rolekeeperd::access::NoInteraction;
use rolekeeperd::access::peer::Peer;
use rolekeeperd::access::policy::Policy;
use rolekeeperd::app::daemon::Daemon;
use rolekeeperd::app::stores::Stores;
use rolekeeperd::cache::session::{ListPresence, Session};
use rolekeeperd::cache::session_state::Generation;
use rolekeeperd::clock::{Clock, ServerClock, Timer};
use rolekeeperd::config::{DEFAULT_CHECK, Profile, ProfileName, RoleId, RoleRequest};
use rolekeeperd::journal::{Journal, UsedSession};
use rolekeeperd::model::UpstreamId;
use rolekeeperd::upstream::handle::UpstreamHandle;
use rolekeeperd::upstream::{
    IssuedSession, IssuedSessionStatus, SessionRegistry, Upstream, UpstreamError,
};

use report::row;

#[path = "report.rs"]
mod report;

const SESSIONS: usize = 100_000;
const THREADS: &str = "/proc/self/task";

/// Issues sessions without delay, with texts as long as the sandbox's.
#[derive(Debug, Default)]
struct InstantUpstream {
    server_clock: ServerClock,
    principal: std::sync::OnceLock<Arc<str>>,
}

impl Upstream for InstantUpstream {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn assume<'a>(
        &'a self,
        role: &'a RoleRequest,
        _base: Option<&'a IssuedSession>,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        let issued_at = Timestamp::now();
        let principal = self
            .principal
            .get_or_init(|| format!("user/{}", role.role.id()).into());
        let granted = IssuedSession {
            session_id: role.role.id().into(),
            principal: Arc::clone(principal),
            access_key_id: "BYIA0123456789ABCDEF".into(),
            secret_access_key: "s".repeat(40).into(),
            session_token: "t".repeat(52).into(),
            issued_at,
            expires_at: issued_at + role.duration,
        };
        async move { Ok(granted) }.boxed()
    }

    fn server_clock(&self) -> &ServerClock {
        &self.server_clock
    }

    fn identity(&self) -> String {
        "instant".into()
    }

    fn location(&self) -> String {
        "instant".into()
    }

    fn sync_clock(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        async { Ok(()) }.boxed()
    }

    fn session_registry(&self) -> Option<&dyn SessionRegistry> {
        Some(self)
    }
}

impl SessionRegistry for InstantUpstream {
    fn active_sessions<'a>(
        &'a self,
        _principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        async {
            Ok((0..SESSIONS)
                .map(|number| role(number).role.id().into())
                .collect())
        }
        .boxed()
    }

    fn session_status<'a>(
        &'a self,
        _session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        async { Ok(IssuedSessionStatus::Active) }.boxed()
    }

    fn revoke<'a>(
        &'a self,
        _session_id: &'a str,
        _reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        async { Ok(()) }.boxed()
    }
}

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(sessions());
}

async fn sessions() {
    let name: Arc<str> = "bycloud".into();
    let upstream = UpstreamHandle::new(
        Arc::clone(&name),
        UpstreamId::new(0),
        Box::new(InstantUpstream::default()),
        DEFAULT_CHECK,
    );
    let before = resident();
    let profiles = (0..SESSIONS).map(|number| {
        let profile_name = ProfileName::parse(&format!("p{number:05}")).expect("a name");
        let profile = Profile::new(profile_name, Arc::clone(&name), role(number));
        (profile, Arc::clone(&upstream))
    });
    let stores = Stores {
        journal: journal().await,
        ..Stores::in_memory()
    };
    let daemon = Daemon::new(
        Policy::of(1),
        profiles.collect(),
        vec![Arc::clone(&upstream)],
        stores,
        Clock::System,
    );
    daemon.start_scheduler(Timer::new(&daemon.clock).expect("a timer"));
    let configured = resident();
    for number in 0..SESSIONS {
        let peer = Peer::new(1, None);
        let profile = format!("p{number:05}");
        daemon
            .services
            .lease(&peer, &profile, &mut NoInteraction)
            .await
            .expect("a lease");
    }
    // Waits until the journal is written.
    daemon.journal.history_of("p00000").await;
    let cached = resident();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    row(
        "100,000 profiles configured, resident",
        mib(configured - before),
        "",
    );
    row(
        "100,000 sessions cached and scheduled, in addition",
        mib(cached - configured),
        "40 MiB",
    );
    let cpu = cpu();
    let switches = report::context_switches(THREADS);
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    row(
        "  CPU while idle for 20 s",
        format!("{:.1} ms", (self::cpu() - cpu).as_secs_f64() * 1e3),
        "0",
    );
    row(
        "  times woken in 20 s, this timer's included",
        report::context_switches(THREADS) - switches,
        "",
    );
    assert!(started.elapsed() >= Duration::from_secs(20));
}

/// A journal with the most records of issuances.
async fn journal() -> Journal {
    let journal = Journal::in_memory();
    let session = Session {
        issued: InstantUpstream::default()
            .assume(&role(0), None)
            .await
            .expect("a session"),
        obtained_at: Clock::System.now().boot,
        received_at: Clock::System.now().boot,
        refresh_left: Duration::ZERO,
        generation: Generation::default(),
        list_presence: ListPresence::default(),
    };
    // The journal limits similar records, so the users differ.
    for number in 0..10_000 {
        let used = UsedSession {
            profile: "p00000",
            session_id: &session.issued.session_id,
            principal: &session.issued.principal,
            at: session.issued.issued_at,
        };
        journal.record_issuance(Peer::new(number / 10, None).caller(), used);
    }
    // Waits for the writer thread.
    let uses = journal.history_of("p00000").await.uses;
    assert_eq!(uses.len(), 10_000);
    journal
}

fn role(number: usize) -> RoleRequest {
    let role_id = RoleId::parse(&format!("550e8400-e29b-41d4-a716-{number:012}")).expect("an id");
    RoleRequest::bycloud(role_id, Duration::from_secs(3600))
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("it can be read");
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    pages * rustix::param::page_size() as u64
}

/// The CPU time of all threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("it can be read");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..=12]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}
