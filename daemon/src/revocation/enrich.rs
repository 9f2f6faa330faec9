//! Finds out who ended a session and why, once that is in force, and records it.

use std::sync::Arc;
use std::time::Duration;

use super::RevocationService;
use super::apply::reaction;
use super::subscriptions::SessionEvent;
use crate::cache::CacheEntry;
use crate::cache::session_state::Reaction;
use crate::model::{EndCause, SessionEnded};
use crate::upstream::IssuedSessionStatus;
use crate::upstream::handle::UpstreamHandle;

/// How long the upstream may take to tell who did it.
const LIMIT: Duration = Duration::from_secs(5);

impl RevocationService {
    /// Records an ended session of which everything is known, and notifies the user.
    pub(super) fn record(&self, entry: &CacheEntry, ended: &SessionEnded) {
        self.journal
            .record_session_end(entry.profile.name.as_str(), ended);
    }

    /// Looks up what the upstream knows, in the background, then records each ended session and notifies the user.
    pub(super) fn enrich(self: &Arc<Self>, ended: Vec<(Arc<CacheEntry>, Arc<SessionEnded>)>) {
        for (entry, ended) in ended {
            let service = Arc::clone(self);
            let enriching = async move { service.enrich_one(&entry, ended).await };
            self.enrichments.spawn_on(enriching, &self.runtime);
        }
    }

    async fn enrich_one(&self, entry: &Arc<CacheEntry>, known: Arc<SessionEnded>) {
        let looked_up = tokio::time::timeout(LIMIT, look_up(&entry.upstream, &known)).await;
        let ended = match looked_up {
            Ok(Some(enriched)) => self.publish_enriched(entry, &known, enriched),
            Ok(None) | Err(_) => known,
        };

        self.record(entry, &ended);
        let is_held = reaction(entry, ended.cause) == Reaction::Hold;
        self.notifications
            .send(entry.profile.name.as_str(), &ended, is_held);
    }

    fn publish_enriched(
        &self,
        entry: &Arc<CacheEntry>,
        known: &Arc<SessionEnded>,
        enriched: SessionEnded,
    ) -> Arc<SessionEnded> {
        let enriched = Arc::new(enriched);

        if entry.state.update_hold(known, &enriched) {
            self.store.update_hold(entry);
            self.subscriptions
                .publish(entry, SessionEvent::Ended(Arc::clone(&enriched)));
        }

        enriched
    }
}

/// What the upstream knows of an ended session beyond what is known here, if anything.
async fn look_up(upstream: &UpstreamHandle, known: &SessionEnded) -> Option<SessionEnded> {
    let mut ended = known.clone();

    // A revocation that was noticed by a refused token has no details yet.
    if let (EndCause::Revoked, None, Some(id)) = (ended.cause, &ended.by, &ended.session_id)
        && let Some(registry) = upstream.client.session_registry()
        && let Ok(IssuedSessionStatus::Revoked { at, by, reason }) =
            registry.session_status(id).await
    {
        ended.at = at;
        ended.by = by;
        ended.reason = reason;
    }

    if let Some(by) = &ended.by
        && let Some(name) = upstream.client.name_of(by).await
    {
        ended.by = Some(name);
    }

    (ended != *known).then_some(ended)
}
