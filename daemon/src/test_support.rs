//! A daemon with one profile under virtual time, and an upstream that follows a script.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rolekeeper::protocol::{LogoutReport, ProfileStatus, ProfileUpdate};

use crate::access::peer::Peer;
use crate::access::policy::Policy;
use crate::access::{NoInteraction, OwnerGrant};
use crate::app::daemon::Daemon;
use crate::app::stores::Stores;
use crate::cache::CacheEntry;
use crate::clock::{Clock, ServerClock, Timer};
use crate::config::{DEFAULT_CHECK, LeaseLimit, Profile, ProfileName, RoleId, RoleRequest};
use crate::credentials::Lease;
use crate::error::RequestError;
use crate::model::UpstreamId;
use crate::revocation::subscriptions::Subscription;
use crate::sync::lock;
use crate::token_source::TokenWait;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{
    IssuedSession, IssuedSessionStatus, SessionRegistry, Upstream, UpstreamError,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The user that the daemon runs as.
pub(crate) const UID: u32 = 1000;

/// A daemon with the profile `dev`, its scheduler, and its upstream.
pub(crate) struct TestDaemon {
    daemon: Daemon,
    pub(crate) upstream: Arc<ScriptedUpstream>,
}

/// Replies after `delay` with the script's next line, or with a session of an hour once the script has ended. Its
/// sessions are `s-1`, `s-2`, and so on.
#[derive(Debug, Default)]
pub(crate) struct ScriptedUpstream {
    pub(crate) delay: Duration,
    pub(crate) script: Mutex<VecDeque<Result<Duration, UpstreamError>>>,
    pub(crate) calls: Mutex<Vec<tokio::time::Instant>>,
    pub(crate) server_clock: ServerClock,
    pub(crate) revoked: Mutex<BTreeSet<Box<str>>>,
    /// How often its sessions were listed.
    pub(crate) polls: Mutex<usize>,
    /// It issues sessions, and every other call fails.
    pub(crate) is_down_for_polls: Mutex<bool>,
    /// Sessions that are neither listed nor readable.
    pub(crate) hidden: Mutex<BTreeSet<String>>,
    /// What its token comes from, while a test has it read.
    pub(crate) token_wait: Mutex<Option<TokenWait>>,
}

/// For the daemon, which owns its upstream, and the test, which inspects it.
#[derive(Debug, Clone)]
struct SharedUpstream(Arc<ScriptedUpstream>);

pub(crate) fn me() -> Peer {
    Peer::new(UID, None)
}

pub(crate) fn scripted(
    script: impl IntoIterator<Item = Result<Duration, UpstreamError>>,
) -> ScriptedUpstream {
    ScriptedUpstream {
        script: Mutex::new(script.into_iter().collect()),
        ..ScriptedUpstream::default()
    }
}

pub(crate) fn down() -> Result<Duration, UpstreamError> {
    Err(unavailable("the upstream is down"))
}

fn unavailable(what: &str) -> UpstreamError {
    UpstreamError::Unavailable {
        what: what.into(),
        retry_after: None,
        hint: None,
    }
}

pub(crate) fn handle(upstream: &Arc<ScriptedUpstream>) -> Arc<UpstreamHandle> {
    UpstreamHandle::new(
        "bycloud".into(),
        UpstreamId::new(0),
        Box::new(SharedUpstream(Arc::clone(upstream))),
        DEFAULT_CHECK,
    )
}

/// The profile `dev`, with a role of an hour.
pub(crate) fn profile() -> Profile {
    let role = RoleRequest::bycloud(RoleId::parse("r-1").unwrap(), HOUR);

    Profile::new(ProfileName::parse("dev").unwrap(), "bycloud".into(), role)
}

impl TestDaemon {
    pub(crate) fn new(lease: LeaseLimit, upstream: ScriptedUpstream) -> Self {
        Self::with_profile(Profile { lease, ..profile() }, upstream)
    }

    pub(crate) fn with_profile(profile: Profile, upstream: ScriptedUpstream) -> Self {
        Self::with_profiles([profile], upstream)
    }

    pub(crate) fn with_profiles(
        profiles: impl IntoIterator<Item = Profile>,
        upstream: ScriptedUpstream,
    ) -> Self {
        let upstream = Arc::new(upstream);
        let handle = handle(&upstream);
        let profiles = profiles
            .into_iter()
            .map(|profile| (profile, Arc::clone(&handle)))
            .collect();

        let daemon = Daemon::new(
            Policy::of(UID),
            profiles,
            vec![handle],
            Stores::in_memory(),
            Clock::virtual_from(Timestamp::UNIX_EPOCH),
        );

        daemon.start_scheduler(Timer::new(&daemon.clock).unwrap());

        Self { daemon, upstream }
    }

    /// Of the profile `dev`.
    pub(crate) fn entry(&self) -> &Arc<CacheEntry> {
        self.cache.find("dev").unwrap()
    }

    pub(crate) async fn lease(&self) -> Result<Lease, RequestError> {
        self.lease_as(&me(), "dev").await
    }

    pub(crate) async fn lease_as(&self, peer: &Peer, profile: &str) -> Result<Lease, RequestError> {
        self.services.lease(peer, profile, &mut NoInteraction).await
    }

    /// The id of the session of a new lease.
    pub(crate) async fn leased_id(&self) -> Result<String, RequestError> {
        Ok(self.lease().await?.session.id().to_owned())
    }

    pub(crate) async fn logout(&self, revoke: bool) -> LogoutReport {
        let grants = [self.owner_grant().await];
        self.services
            .revocation
            .logout(&me(), &grants, revoke)
            .await
            .unwrap()
    }

    pub(crate) async fn resume(&self) {
        let grant = self.owner_grant().await;
        self.services
            .revocation
            .resume(&me(), &grant)
            .await
            .unwrap();
    }

    pub(crate) async fn fetch_new(&self) -> Result<(), RequestError> {
        self.services.refresh.fetch_new(self.entry()).await
    }

    pub(crate) async fn report_rejected(&self) -> Result<ProfileUpdate, RequestError> {
        let grant = self
            .services
            .access
            .authorize_view(&me(), "dev")
            .await
            .unwrap();
        self.services
            .revocation
            .report_rejected(&me(), &grant)
            .await
    }

    pub(crate) async fn watch(&self) -> Subscription {
        let grant = self
            .services
            .access
            .authorize_view(&me(), "dev")
            .await
            .unwrap();
        self.services.revocation.watch(&grant)
    }

    /// Of the first profile.
    pub(crate) fn status(&self) -> ProfileStatus {
        self.services.status.page(&me(), None, 0).profiles.remove(0)
    }

    pub(crate) async fn owner_grant(&self) -> OwnerGrant {
        self.services
            .access
            .authorize_owner(&me(), "dev")
            .await
            .unwrap()
    }
}

impl Deref for TestDaemon {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl ScriptedUpstream {
    pub(crate) fn calls(&self) -> usize {
        lock(&self.calls).len()
    }

    pub(crate) fn polls(&self) -> usize {
        *lock(&self.polls)
    }

    pub(crate) fn set_down_for_polls(&self, is_down: bool) {
        *lock(&self.is_down_for_polls) = is_down;
    }

    pub(crate) fn revoke(&self, id: &str) {
        lock(&self.revoked).insert(id.into());
    }

    pub(crate) fn is_revoked(&self, id: &str) -> bool {
        lock(&self.revoked).contains(id)
    }

    #[allow(clippy::disallowed_methods, reason = "it records tokio's virtual time")]
    async fn issue(&self) -> Result<IssuedSession, UpstreamError> {
        let number = {
            let mut calls = lock(&self.calls);
            calls.push(tokio::time::Instant::now());
            calls.len()
        };

        let line = lock(&self.script).pop_front().unwrap_or(Ok(HOUR));
        tokio::time::sleep(self.delay).await;

        line.map(|life| IssuedSession {
            session_id: format!("s-{number}").into(),
            expires_at: Timestamp::UNIX_EPOCH + life,
            ..IssuedSession::example()
        })
    }

    fn list(&self) -> Result<BTreeSet<Box<str>>, UpstreamError> {
        *lock(&self.polls) += 1;
        if *lock(&self.is_down_for_polls) {
            return Err(unavailable("the list is down"));
        }

        let revoked = lock(&self.revoked);
        let hidden = lock(&self.hidden);
        let issued = (1..=self.calls()).map(|number| format!("s-{number}"));
        let active = issued.filter(|id| !revoked.contains(id.as_str()) && !hidden.contains(id));

        Ok(active.map(Into::into).collect())
    }

    fn status(&self, session_id: &str) -> IssuedSessionStatus {
        if self.is_revoked(session_id) {
            return IssuedSessionStatus::Revoked {
                at: Some(Timestamp::UNIX_EPOCH),
                by: Some("user/admin@example.test".to_owned()),
                reason: Some("lost laptop".into()),
            };
        }

        if lock(&self.hidden).contains(session_id) {
            IssuedSessionStatus::Unknown
        } else {
            IssuedSessionStatus::Active
        }
    }

    fn confirm_revocation(&self, session_id: &str) -> Result<(), UpstreamError> {
        if *lock(&self.is_down_for_polls) {
            return Err(unavailable("revoking is down"));
        }

        self.revoke(session_id);
        Ok(())
    }
}

impl Upstream for SharedUpstream {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn assume<'a>(
        &'a self,
        _role: &'a RoleRequest,
        _base: Option<&'a IssuedSession>,
    ) -> BoxFuture<'a, Result<IssuedSession, UpstreamError>> {
        self.0.issue().boxed()
    }

    fn server_clock(&self) -> &ServerClock {
        &self.0.server_clock
    }

    fn token_wait(&self) -> Option<TokenWait> {
        lock(&self.0.token_wait).clone()
    }

    fn identity(&self) -> String {
        "scripted".into()
    }

    fn location(&self) -> String {
        "scripted".into()
    }

    fn sync_clock(&self) -> BoxFuture<'_, Result<(), UpstreamError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn session_registry(&self) -> Option<&dyn SessionRegistry> {
        Some(self)
    }
}

impl SessionRegistry for SharedUpstream {
    fn active_sessions<'a>(
        &'a self,
        _principal: &'a str,
    ) -> BoxFuture<'a, Result<BTreeSet<Box<str>>, UpstreamError>> {
        std::future::ready(self.0.list()).boxed()
    }

    fn session_status<'a>(
        &'a self,
        session_id: &'a str,
    ) -> BoxFuture<'a, Result<IssuedSessionStatus, UpstreamError>> {
        std::future::ready(Ok(self.0.status(session_id))).boxed()
    }

    fn revoke<'a>(
        &'a self,
        session_id: &'a str,
        _reason: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), UpstreamError>> {
        std::future::ready(self.0.confirm_revocation(session_id)).boxed()
    }
}
