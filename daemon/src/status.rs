//! What `rolekeeper status` prints, page by page: ids and times, never a credential.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rolekeeper::protocol::{
    AwsFilesStatus, ClockStatus, DaemonStatus, FailedReload, FailureStatus, LaunchStatus,
    NotServedSection, ProfileState, ProfileStatus, STATUS_PAGE, SessionStatus, StatusPage,
};

use crate::access::Access;
use crate::access::peer::Peer;
use crate::cache::freshness::Freshness;
use crate::cache::session::Session;
use crate::cache::{Cache, CacheEntry};
use crate::clock::{BootTime, Clock, Now};
use crate::config::AwsFiles;
use crate::error::NO_TOKEN;
use crate::model::to_rfc3339;
use crate::report;
use crate::revocation::RevocationService;
use crate::revocation::poller::is_stale;
use crate::sync::lock;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{UpstreamError, Upstreams};

/// The most of a failure's message, in characters. It keeps a page within a frame.
const MAX_MESSAGE: usize = 300;
/// Clocks that differ by at least this much are reported, in seconds.
const MIN_SKEW: i64 = 60;
/// The most clocks in a page, so that it fits a frame.
const MAX_CLOCKS: usize = 20;

/// The last reload of this process that failed. A reload that succeeds replaces the process.
static FAILED_RELOAD: Mutex<Option<FailedReload>> = Mutex::new(None);

/// Records why a reload was rejected.
pub(crate) fn record_failed_reload(reason: &str) {
    let words: Vec<_> = reason
        .trim_start_matches("rolekeeperd: ")
        .split_whitespace()
        .collect();
    *lock(&FAILED_RELOAD) = Some(FailedReload {
        at: to_rfc3339(Clock::System.now().wall),
        reason: shorten(crate::text::one_line(&words.join(" "))),
    });
}

/// The most sections in a page that are not served, so that it fits a frame.
const MAX_NOT_SERVED: usize = 100;

/// The files of AWS, which this process has read at its start.
static AWS_FILES: Mutex<Option<Box<AwsFilesStatus>>> = Mutex::new(None);

/// Records what profiles are made of.
pub(crate) fn record_aws_files(files: &AwsFiles) {
    let not_served = files.not_served.iter().take(MAX_NOT_SERVED);
    let status = AwsFilesStatus {
        config: files.config.to_string_lossy().into_owned(),
        credentials: files.credentials.to_string_lossy().into_owned(),
        not_served_count: files.not_served.len(),
        not_served: not_served
            .map(|each| NotServedSection {
                section: shorten(each.section.clone()),
                file: each.file.to_string_lossy().into_owned(),
                line: each.line,
                reason: shorten(crate::text::one_line(&each.reason)),
            })
            .collect(),
    };
    *lock(&AWS_FILES) = Some(Box::new(status));
}

#[derive(Debug)]
pub struct StatusService {
    access: Arc<Access>,
    cache: Arc<Cache>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    revocation: Arc<RevocationService>,
    started_at: BootTime,
}

impl StatusService {
    pub(crate) fn new(
        access: Arc<Access>,
        cache: Arc<Cache>,
        upstreams: Arc<Upstreams>,
        clock: Clock,
        revocation: Arc<RevocationService>,
    ) -> Arc<Self> {
        Arc::new(Self {
            started_at: clock.now().boot,
            access,
            cache,
            upstreams,
            clock,
            revocation,
        })
    }

    /// The profiles behind `after` that the peer's user may see, in order of name.
    pub fn page(&self, peer: &Peer, after: Option<&str>, connections: usize) -> StatusPage {
        let now = self.clock.now();
        let is_owner = self.access.is_owner(peer);
        let mut visible = self
            .cache
            .entries_after(after)
            .iter()
            .filter(|entry| self.access.can_view(peer, entry));

        let profiles: Vec<_> = visible
            .by_ref()
            .take(STATUS_PAGE)
            .map(|entry| self.profile(entry, is_owner, &now))
            .collect();
        let last = profiles.last().map(|last| last.profile.clone());

        StatusPage {
            daemon: self.daemon(peer, connections, &now),
            profiles,
            next: last.filter(|_| visible.next().is_some()),
        }
    }

    fn daemon(&self, peer: &Peer, connections: usize, now: &Now) -> DaemonStatus {
        // The reason repeats parts of the configuration.
        let failed_reload = lock(&FAILED_RELOAD).clone();
        let is_owner = self.access.is_owner(peer);
        let aws_files = lock(&AWS_FILES).clone();

        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: now.boot.since(self.started_at).as_secs(),
            connections,
            launch: LaunchStatus::default(),
            endpoints: BTreeMap::new(),
            protection: Some(crate::sandbox::protection()),
            clocks: self
                .upstreams
                .iter()
                .filter(|_| is_owner)
                .filter_map(|upstream| clock_status(upstream, now))
                .take(MAX_CLOCKS)
                .collect(),
            failed_reload: failed_reload.filter(|_| is_owner),
            awaiting_mfa: Vec::new(),
            aws_files: aws_files.filter(|_| is_owner),
        }
    }

    fn profile(&self, entry: &CacheEntry, is_owner: bool, now: &Now) -> ProfileStatus {
        ProfileStatus {
            profile: entry.profile.name.to_string(),
            upstream: entry.profile.upstream.to_string(),
            role_id: entry.profile.role.role.id().into(),
            region: entry
                .profile
                .region
                .as_ref()
                .map(|region| region.as_str().to_owned()),
            state: self.profile_state(entry, now),
            session: entry
                .session()
                .map(|session| self.session(entry, &session, is_owner, now)),
            failure: failure_status(entry, is_owner, now),
            held: entry.state.hold().map(|ended| {
                let mut ended = report::session_ended(&ended);
                ended.reason = ended.reason.map(shorten);
                ended
            }),
        }
    }

    fn profile_state(&self, entry: &CacheEntry, now: &Now) -> ProfileState {
        let freshness = entry.lookup(now.boot);
        if entry.state.hold().is_none() && self.access.is_waiting_for_approval(entry) {
            return ProfileState::WaitingForApproval;
        }

        match freshness {
            Freshness::Fresh(_) => ProfileState::Fresh,
            Freshness::Aging(_) => ProfileState::Aging,
            Freshness::Expired if entry.state.hold().is_some() => ProfileState::Held,
            Freshness::Expired if entry.flight.is_under_way() => ProfileState::Fetching,
            Freshness::Expired if is_failing(entry, now) => ProfileState::Failing,
            Freshness::Expired if entry.session().is_some() => ProfileState::Expired,
            Freshness::Expired => ProfileState::Idle,
        }
    }

    fn session(
        &self,
        entry: &CacheEntry,
        session: &Session,
        is_owner: bool,
        now: &Now,
    ) -> SessionStatus {
        let left = session.left(now.boot, entry.upstream.client.server_clock());
        let view_age = self.revocation.view_age(entry, session, now.boot);
        // The timer of a session that is not wanted evicts it.
        let refresh_at = entry.timer.at().filter(|_| entry.is_wanted(now));

        SessionStatus {
            id: session.id().to_owned(),
            age_seconds: now.boot.since(session.obtained_at).as_secs(),
            expires_in_seconds: left.as_secs(),
            refresh_in_seconds: refresh_at.map(|at| seconds_until(at, now)),
            is_unused: entry.use_left(now).is_zero(),
            view_age_seconds: view_age.map(|age| age.as_secs()),
            is_view_stale: view_age.is_some_and(|age| is_stale(entry, age)),
            // It may name the token's command.
            view_failure: self
                .revocation
                .poll_failure(&entry.upstream)
                .filter(|_| is_owner)
                .map(shorten),
        }
    }
}

fn clock_status(upstream: &UpstreamHandle, now: &Now) -> Option<ClockStatus> {
    let ahead_seconds = upstream.client.server_clock().wall_ahead(now).as_secs();

    (ahead_seconds.abs() >= MIN_SKEW).then(|| ClockStatus {
        upstream: upstream.name.to_string(),
        ahead_seconds,
    })
}

/// Its last call failed, or it is in use and its upstream is unavailable.
fn is_failing(entry: &CacheEntry, now: &Now) -> bool {
    let has_failed = entry.backoff(|backoff| backoff.state().is_some());
    let is_used = !entry.use_left(now).is_zero();

    has_failed || (is_used && entry.upstream.outage().is_some())
}

/// The profile's own failure or its upstream's, whichever is retried later: nothing is tried before both may be.
fn failure_status(entry: &CacheEntry, is_owner: bool, now: &Now) -> Option<FailureStatus> {
    let own = entry.backoff(|backoff| backoff.state().cloned());
    let failure = own
        .into_iter()
        .chain(entry.upstream.outage())
        .max_by_key(|failure| failure.next_try)?;

    // The timer may be later, so that not all profiles call an upstream at once.
    let timer = entry.timer.at().filter(|_| entry.is_wanted(now));
    let next_try = timer.map_or(failure.next_try, |at| at.max(failure.next_try));

    let is_about_token = matches!(failure.error, UpstreamError::LoginNeeded { .. });
    let message = match is_about_token && !is_owner {
        true => NO_TOKEN.into(),
        false => shorten(failure.error.to_string()),
    };

    Some(FailureStatus {
        since_seconds: now.boot.since(failure.since).as_secs(),
        attempts: failure.attempts,
        retry_in_seconds: seconds_until(next_try, now),
        is_retried_on_request: timer.is_none(),
        message,
    })
}

fn shorten(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
    }

    message
}

/// Rounded up: what is announced for 5 s has not happened before.
fn seconds_until(at: BootTime, now: &Now) -> u64 {
    let span = at.since(now.boot);
    let part = if span.subsec_nanos() > 0 { 1 } else { 0 };

    span.as_secs() + part
}
