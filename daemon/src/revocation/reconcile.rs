//! What one look finds: what is held here, compared with what the upstream says is active.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use rolekeeper::protocol::{EndCause, SessionEnded};

use super::{Known, Which};
use crate::cache::CacheEntry;
use crate::cache::freshness::{Freshness, Session, SupersededSession};
use crate::clock::BootTime;
use crate::config::OnRevoke;
use crate::credentials::Broker;
use crate::sync::{Mutex, lock};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{IssuedSessionStatus, RefusalKind, UpstreamError};

/// How many profiles with missing sessions are looked at together.
const TOGETHER: usize = 8;

/// Endings that are in force, and of which nobody has been told yet.
type Ended = Mutex<Vec<(Arc<CacheEntry>, Arc<SessionEnded>)>>;

/// A session that may still be used somewhere.
enum Held {
    Current(Arc<Session>),
    SupersededSession(Arc<SupersededSession>),
}

/// A profile and what is held of it, of one principal.
type OfProfile = (Arc<CacheEntry>, Vec<Held>);

/// What has become of a session.
enum Become {
    Active,
    Expired,
    Over(Known),
}

impl Held {
    fn id(&self) -> &str {
        match self {
            Self::Current(session) => &session.granted.session_id,
            Self::SupersededSession(earlier) => &earlier.session_id,
        }
    }

    fn principal(&self) -> &Arc<str> {
        match self {
            Self::Current(session) => &session.granted.principal,
            Self::SupersededSession(earlier) => &earlier.principal,
        }
    }

    fn is_current(&self) -> bool {
        matches!(self, Self::Current(_))
    }
}

impl Broker {
    /// Everything that is held at an upstream is looked for. What is found is in force at once, also beside a failure.
    pub(super) async fn compare(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        began: BootTime,
        ended: &Ended,
    ) -> Result<(), UpstreamError> {
        let mut by_principal: BTreeMap<Arc<str>, Vec<OfProfile>> = BTreeMap::new();
        for entry in self.entries_of(upstream) {
            let mut of_slot: BTreeMap<Arc<str>, Vec<Held>> = BTreeMap::new();
            for held in held_by(entry, began) {
                of_slot
                    .entry(Arc::clone(held.principal()))
                    .or_default()
                    .push(held);
            }
            for (principal, held) in of_slot {
                by_principal
                    .entry(principal)
                    .or_default()
                    .push((Arc::clone(entry), held));
            }
        }
        let _pass = upstream.enter_anyway().await;
        let mut failure = None;
        for (principal, held) in by_principal {
            // Another token may since be in use, which may not see what an earlier one has.
            let has_current = held.iter().flat_map(|(_, held)| held).any(Held::is_current);
            match self.compare_of(upstream, &principal, held, ended).await {
                Err(error) if has_current => failure = failure.or(Some(error)),
                Err(error) => {
                    tracing::debug!(upstream = %upstream.name, %principal, %error, "its sessions cannot be seen")
                }
                Ok(()) => {}
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn compare_of(
        self: &Arc<Self>,
        upstream: &Arc<UpstreamHandle>,
        principal: &str,
        mut held: Vec<OfProfile>,
        ended: &Ended,
    ) -> Result<(), UpstreamError> {
        let active = match upstream.client.active_sessions(principal).await {
            Ok(active) => active,
            Err(UpstreamError::Refused {
                why: RefusalKind::AccountDisabled,
                ..
            }) => {
                self.account_disabled(upstream);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        upstream.answered(self.clock.now().boot);
        let is_missing = |held: &Held| {
            let is_active = active.contains(held.id());
            if let (true, Held::Current(session)) = (is_active, held) {
                session.sightings.seen();
            }
            !is_active
        };
        for (_, of_slot) in &mut held {
            of_slot.retain(is_missing);
        }
        held.retain(|(_, of_slot)| !of_slot.is_empty());
        let learning = held
            .into_iter()
            .map(|(entry, missing)| self.learn_all(entry, missing, ended));
        let learnt: Vec<_> = stream::iter(learning)
            .buffer_unordered(TOGETHER)
            .collect()
            .await;
        learnt.into_iter().collect()
    }

    /// Several sessions of one profile that are over are one ending.
    async fn learn_all(
        self: &Arc<Self>,
        entry: Arc<CacheEntry>,
        missing: Vec<Held>,
        ended: &Ended,
    ) -> Result<(), UpstreamError> {
        let (mut ids, mut first, mut failure) = (Vec::new(), None, None);
        for held in missing {
            match learn(&entry.upstream, &held).await {
                Ok(Become::Over(known)) => {
                    ids.push(held.id().into());
                    first.get_or_insert(known);
                    // Then all of them are over.
                    if entry.profile.on_revoke == OnRevoke::Hold {
                        break;
                    }
                }
                Ok(Become::Expired) => {
                    if let Held::Current(session) = &held {
                        entry.state.drop_old(session);
                        self.timer_queue.set_by(&entry.plan, self.clock.now().boot);
                    }
                }
                Ok(Become::Active) => {}
                Err(error) if held.is_current() => failure = Some(error),
                Err(error) => {
                    tracing::debug!(session = held.id(), %error, "what became of it is not known")
                }
            }
        }
        if let Some(ending) =
            first.and_then(|known| self.revoke(&entry, Which::These(&ids), known).ending)
        {
            lock(ended).push((entry, ending));
        }
        failure.map_or(Ok(()), Err)
    }

    /// The profiles of an upstream.
    pub(super) fn entries_of(
        &self,
        upstream: &Arc<UpstreamHandle>,
    ) -> impl Iterator<Item = &Arc<CacheEntry>> {
        self.cache
            .entries()
            .iter()
            .filter(|entry| Arc::ptr_eq(&entry.upstream, upstream))
    }
}

/// Everything of a profile that may still be used somewhere, as long as it is not held: then all of it is over.
fn held_by(entry: &Arc<CacheEntry>, began: BootTime) -> Vec<Held> {
    if entry.state.hold().is_some() {
        return Vec::new();
    }
    let mut all = Vec::new();
    // One that is over by itself is no longer active, and one that came later may not be in the list.
    if let Freshness::Fresh(session) | Freshness::Aging(session) = entry.lookup(began)
        && session.received_at <= began
    {
        all.push(Held::Current(session));
    }
    let earlier = entry
        .state
        .earlier()
        .into_iter()
        .filter(|earlier| earlier.ends_at > began);
    all.extend(earlier.map(Held::SupersededSession));
    all
}

/// What has become of a session that is not among the active ones. If the upstream does not say, one that is served is over
/// only if lists have had it before and two in a row have not: a list may be late, or may not show everything to everybody.
async fn learn(upstream: &UpstreamHandle, held: &Held) -> Result<Become, UpstreamError> {
    match (upstream.client.fate(held.id()).await?, held) {
        // The list is behind: it will be there the next time.
        (IssuedSessionStatus::Active, _) => Ok(Become::Active),
        (IssuedSessionStatus::Expired, _)
        | (IssuedSessionStatus::Unknown, Held::SupersededSession(_)) => Ok(Become::Expired),
        (IssuedSessionStatus::Unknown, Held::Current(session)) if !session.sightings.missed() => {
            let what = format!(
                "session {} is not listed, and cannot be read either",
                held.id()
            );
            Err(UpstreamError::Unavailable {
                what,
                retry_after: None,
            })
        }
        (fate, _) => Ok(Become::Over(known(fate))),
    }
}

pub(super) fn known(fate: IssuedSessionStatus) -> Known {
    match fate {
        IssuedSessionStatus::Revoked { at, by, reason } => Known {
            cause: EndCause::Revoked,
            by,
            at,
            reason,
        },
        IssuedSessionStatus::Active
        | IssuedSessionStatus::Expired
        | IssuedSessionStatus::Unknown => Known::only(EndCause::Revoked),
    }
}
