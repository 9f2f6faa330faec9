//! Compares the sessions that are held here with those that the upstream lists as active.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::RevocationService;
use crate::cache::CacheEntry;
use crate::cache::freshness::Freshness;
use crate::cache::session::{Session, SupersededSession};
use crate::cache::session_state::SessionSelector;
use crate::clock::BootTime;
use crate::config::OnRevoke;
use crate::model::{EndCause, SessionEnded};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{IssuedSessionStatus, RefusalKind, UpstreamError};

/// How many profiles with missing sessions are looked up at the same time.
const CONCURRENCY: usize = 8;

/// A session that a consumer may still use.
enum Monitored {
    Current(Arc<Session>),
    Superseded(Arc<SupersededSession>),
}

/// The monitored sessions of one profile that one principal has.
type OfProfile = (Arc<CacheEntry>, Vec<Monitored>);

/// What the upstream says about a session that its list does not contain.
enum MissingSession {
    Active,
    Expired,
    Revoked(IssuedSessionStatus),
}

impl Monitored {
    fn id(&self) -> &str {
        match self {
            Self::Current(session) => session.id(),
            Self::Superseded(session) => &session.session_id,
        }
    }

    fn principal(&self) -> &Arc<str> {
        match self {
            Self::Current(session) => &session.issued.principal,
            Self::Superseded(session) => &session.principal,
        }
    }

    fn is_current(&self) -> bool {
        matches!(self, Self::Current(_))
    }
}

impl RevocationService {
    /// Checks every session that is held of an upstream. A revocation takes effect at once, even if a later check fails.
    pub(super) async fn reconcile(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        started_at: BootTime,
    ) -> Result<(), UpstreamError> {
        let by_principal = self.monitored_by_principal(upstream, started_at);
        let _permit = upstream.acquire_for_poll().await;

        let mut failure = None;
        for (principal, profiles) in by_principal {
            // The token of a superseded session's principal may be gone. That is no failure.
            let has_current = profiles
                .iter()
                .flat_map(|(_, monitored)| monitored)
                .any(Monitored::is_current);

            match self
                .reconcile_principal(upstream, &principal, profiles)
                .await
            {
                Err(error) if has_current => failure = failure.or(Some(error)),
                Err(error) => {
                    tracing::debug!(upstream = %upstream.name, %principal, %error, "cannot list sessions");
                }
                Ok(()) => {}
            }
        }

        failure.map_or(Ok(()), Err)
    }

    fn monitored_by_principal(
        &self,
        upstream: &UpstreamHandle,
        started_at: BootTime,
    ) -> BTreeMap<Arc<str>, Vec<OfProfile>> {
        let mut by_principal: BTreeMap<Arc<str>, Vec<OfProfile>> = BTreeMap::new();

        for entry in self.cache.entries_of(upstream) {
            let mut of_profile: BTreeMap<Arc<str>, Vec<Monitored>> = BTreeMap::new();
            for session in monitored_sessions(entry, started_at) {
                let principal = Arc::clone(session.principal());
                of_profile.entry(principal).or_default().push(session);
            }

            for (principal, sessions) in of_profile {
                let profiles = by_principal.entry(principal).or_default();
                profiles.push((Arc::clone(entry), sessions));
            }
        }

        by_principal
    }

    async fn reconcile_principal(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        principal: &str,
        mut profiles: Vec<OfProfile>,
    ) -> Result<(), UpstreamError> {
        let Some(registry) = upstream.client.session_registry() else {
            return Ok(());
        };
        let active = match registry.active_sessions(principal).await {
            Ok(active) => active,
            Err(UpstreamError::Refused {
                kind: RefusalKind::AccountDisabled,
                ..
            }) => {
                self.account_disabled(upstream);
                return Ok(());
            }
            Err(error) => return Err(error),
        };

        upstream.record_reply(self.clock.now().boot);

        for (_, sessions) in &mut profiles {
            sessions.retain(|session| !is_listed(session, active.contains(session.id())));
        }

        profiles.retain(|(_, missing)| !missing.is_empty());

        let checks = profiles
            .into_iter()
            .map(|(entry, missing)| self.check_missing(entry, missing));
        let checked: Vec<_> = stream::iter(checks)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;

        checked.into_iter().collect()
    }

    /// Several revoked sessions of one profile are one event.
    async fn check_missing(
        self: &Arc<Self>,
        entry: Arc<CacheEntry>,
        missing: Vec<Monitored>,
    ) -> Result<(), UpstreamError> {
        let mut revoked_ids = Vec::new();
        let mut first = None;
        let mut failure = None;

        for session in missing {
            match resolve_missing(&entry.upstream, &session).await {
                Ok(MissingSession::Revoked(status)) => {
                    revoked_ids.push(session.id().into());
                    first.get_or_insert(status);
                    // All sessions of a held profile end with the first.
                    if entry.profile.on_revoke == OnRevoke::Hold {
                        break;
                    }
                }
                Ok(MissingSession::Expired) => {
                    if let Monitored::Current(session) = &session {
                        entry.state.drop_session(session);
                        self.timers.set_by(&entry.timer, self.clock.now().boot);
                    }
                }
                Ok(MissingSession::Active) => {}
                Err(error) if session.is_current() => failure = Some(error),
                Err(error) => {
                    tracing::debug!(session = session.id(), %error, "cannot read the session's status");
                }
            }
        }

        if let Some(status) = first {
            self.revoked_at_upstream(&entry, &revoked_ids, status);
        }

        failure.map_or(Ok(()), Err)
    }

    fn revoked_at_upstream(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        session_ids: &[Box<str>],
        status: IssuedSessionStatus,
    ) {
        let mut ended = SessionEnded::new(EndCause::Revoked, self.clock.now().wall);
        if let IssuedSessionStatus::Revoked { at, by, reason } = status {
            ended.at = at;
            ended.by = by;
            ended.reason = reason;
        }

        if let Some(outcome) = self.apply(entry, SessionSelector::Ids(session_ids), ended) {
            self.enrich(vec![(Arc::clone(entry), outcome.ended)]);
        }
    }

    /// The upstream refused a session's token as revoked, or revoked the session for a caller of this daemon.
    pub(crate) fn session_refused(self: &Arc<Self>, entry: &Arc<CacheEntry>, session_id: &str) {
        let ended = SessionEnded::new(EndCause::Revoked, self.clock.now().wall);
        let ids = [session_id.into()];

        if let Some(outcome) = self.apply(entry, SessionSelector::Ids(&ids), ended) {
            self.enrich(vec![(Arc::clone(entry), outcome.ended)]);
        }
    }

    /// A disabled account has no sessions (A13).
    pub(crate) fn account_disabled(self: &Arc<Self>, upstream: &UpstreamHandle) {
        let mut all_ended = Vec::new();

        for entry in self.cache.entries_of(upstream) {
            let Some(session) = entry.session() else {
                continue;
            };
            let ids = [session.issued.session_id.clone()];
            let ended = SessionEnded::new(EndCause::AccountDisabled, self.clock.now().wall);

            if let Some(outcome) = self.apply(entry, SessionSelector::Ids(&ids), ended) {
                all_ended.push((Arc::clone(entry), outcome.ended));
            }
        }

        self.enrich(all_ended);
    }
}

/// The sessions of a profile that a consumer may still use. A held profile has none.
fn monitored_sessions(entry: &CacheEntry, started_at: BootTime) -> Vec<Monitored> {
    if entry.state.hold().is_some() {
        return Vec::new();
    }

    let mut monitored = Vec::new();

    // An expired session is not listed any more, and one that arrived later may not be listed yet.
    if let Freshness::Fresh(session) | Freshness::Aging(session) = entry.lookup(started_at)
        && session.received_at <= started_at
    {
        monitored.push(Monitored::Current(session));
    }

    for superseded in entry.state.superseded() {
        if superseded.ends_at > started_at {
            monitored.push(Monitored::Superseded(superseded));
        }
    }

    monitored
}

fn is_listed(session: &Monitored, is_active: bool) -> bool {
    if is_active && let Monitored::Current(session) = session {
        session.list_presence.set_seen();
    }

    is_active
}

/// Looks up a session that is not listed as active. If the upstream does not say, a current session counts as revoked
/// only if an earlier list contained it and two lists in a row did not: a list may be late, or incomplete.
async fn resolve_missing(
    upstream: &UpstreamHandle,
    session: &Monitored,
) -> Result<MissingSession, UpstreamError> {
    let status = match upstream.client.session_registry() {
        Some(registry) => registry.session_status(session.id()).await?,
        None => IssuedSessionStatus::Unknown,
    };

    match (status, session) {
        // The list is late: the next one will contain it.
        (IssuedSessionStatus::Active, _) => Ok(MissingSession::Active),
        (IssuedSessionStatus::Expired, _)
        | (IssuedSessionStatus::Unknown, Monitored::Superseded(_)) => Ok(MissingSession::Expired),
        (IssuedSessionStatus::Unknown, Monitored::Current(current))
            if !current.list_presence.set_missed() =>
        {
            Err(UpstreamError::Unavailable {
                what: format!(
                    "session {} is not listed, and its status cannot be read",
                    session.id()
                ),
                retry_after: None,
                hint: None,
            })
        }
        (status, _) => Ok(MissingSession::Revoked(status)),
    }
}
