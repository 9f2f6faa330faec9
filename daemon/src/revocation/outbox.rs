//! Telling an upstream to end sessions: tried again until it has confirmed or the session has expired, also after a
//! restart.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{SessionRevocation, UpstreamRevocation};
use tokio::sync::Notify;

use super::Revoked;
use super::store::PendingRevocation;
use crate::cache::CacheEntry;
use crate::cache::freshness::Session;
use crate::clock::timer_queue::{TimerKey, TimerSlot};
use crate::credentials::Broker;
use crate::upstream::UpstreamError;
use crate::upstream::handle::{Priority, UpstreamHandle};

/// How long somebody waits who wants to know whether the upstream has confirmed: less than a machine puts off its sleep.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct RevocationOutbox {
    pub(crate) plan: TimerSlot,
    changed: Notify,
}

impl Default for RevocationOutbox {
    fn default() -> Self {
        Self {
            plan: TimerSlot::new(TimerKey::RevocationOutbox),
            changed: Notify::new(),
        }
    }
}

impl Broker {
    /// Everything of a profile that was ended here is to be revoked at its upstream, too.
    pub(crate) fn withdraw_all(&self, entry: &CacheEntry, ended: &Revoked, reason: &str) {
        if let Some(session) = &ended.session {
            self.withdraw(entry, session, reason);
        }
        for earlier in &ended.earlier {
            self.revocations.add(
                &earlier.session_id,
                PendingRevocation::of(entry, reason, earlier.expires_at),
            );
        }
    }

    /// A session of a profile is to be revoked at its upstream, too.
    pub(crate) fn withdraw(&self, entry: &CacheEntry, session: &Session, reason: &str) {
        let granted = &session.granted;
        self.revocations.add(
            &granted.session_id,
            PendingRevocation::of(entry, reason, granted.expires_at),
        );
        self.withdraw_soon();
    }

    pub(crate) fn withdraw_soon(&self) {
        self.timer_queue
            .set_by(&self.withdrawals.plan, self.clock.now().boot);
    }

    /// Tries everything that may be tried now.
    pub(crate) fn withdraw_due(self: &Arc<Self>) {
        let now = self.clock.now();
        let time = |withdrawal: &PendingRevocation| {
            self.upstream_for(withdrawal)?
                .client
                .server_clock()
                .latest(now.boot)
        };
        for (id, withdrawal) in self.revocations.take_due(&now, time) {
            if let Some(upstream) = self.upstream_for(&withdrawal) {
                self.background().spawn(Arc::clone(self).try_to_withdraw(
                    Arc::clone(upstream),
                    id,
                    withdrawal,
                ));
            } else {
                let what = "its upstream is no longer configured".to_owned();
                tracing::warn!(session = %id, %what, "it cannot be revoked");
                self.revocations.failed(
                    &id,
                    &UpstreamError::Unavailable {
                        what,
                        retry_after: None,
                    },
                    now.boot,
                );
            }
        }
        self.plan_withdrawals();
    }

    /// Who can tell the upstream: the same principal, or any other there.
    fn upstream_for(&self, withdrawal: &PendingRevocation) -> Option<&Arc<UpstreamHandle>> {
        let mut upstreams = self.upstreams.values();
        let same = upstreams.find(|upstream| upstream.client.identity() == withdrawal.identity);
        same.or_else(|| {
            self.upstreams
                .values()
                .find(|upstream| upstream.client.place() == withdrawal.place)
        })
    }

    async fn try_to_withdraw(
        self: Arc<Self>,
        upstream: Arc<UpstreamHandle>,
        id: Box<str>,
        withdrawal: PendingRevocation,
    ) {
        let withdrawn = match upstream.enter(Priority::Background, &self.clock).await {
            Ok(pass) => {
                let withdrawn = upstream
                    .client
                    .withdraw(&id, withdrawal.reason.as_deref())
                    .await;
                // How it went is that of a profile's call, if there is such a profile.
                let profile = withdrawal
                    .profile
                    .as_deref()
                    .and_then(|profile| self.cache.find(profile));
                if let Some(entry) = profile {
                    pass.tell(
                        entry.place,
                        withdrawn.as_ref().err(),
                        self.clock.now().boot,
                        fastrand::f64(),
                    );
                }
                withdrawn
            }
            Err(away) => Err(away.error),
        };
        match withdrawn {
            Ok(()) => {
                tracing::info!(session = %id, profile = withdrawal.profile, "revoked at the upstream");
                self.revocations
                    .settle(&id, upstream.upstream_time(&self.clock.now()));
            }
            Err(error) => {
                tracing::warn!(session = %id, profile = withdrawal.profile, %error, "it cannot be revoked at the upstream");
                self.revocations.failed(&id, &error, self.clock.now().boot);
            }
        }
        self.plan_withdrawals();
        self.withdrawals.changed.notify_waiters();
    }

    fn plan_withdrawals(&self) {
        if let Some(next) = self.revocations.next_try() {
            self.timer_queue
                .set_by(&self.withdrawals.plan, next.max(self.clock.now().boot));
        }
    }

    /// Waits until each of these is confirmed or has been tried, but not for long.
    pub(crate) async fn await_withdrawals(&self, session_ids: &[String]) {
        let tried = async {
            loop {
                let changed = self.withdrawals.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                let is_untried = |id: &String| matches!(self.revocations.pending(id), Some(None));
                if !session_ids.iter().any(is_untried) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, tried).await;
    }

    /// How things stand with a session that was ended here, and was to be revoked if that was `asked` for.
    pub(crate) fn withdrawn(
        &self,
        session_id: String,
        profile: Option<String>,
        asked: bool,
    ) -> SessionRevocation {
        let pending = self.revocations.pending(&session_id);
        let at_upstream = match &pending {
            Some(_) => UpstreamRevocation::Pending,
            None if asked => UpstreamRevocation::Confirmed,
            None => UpstreamRevocation::NotRequested,
        };
        let failure = pending.flatten().map(|failing| failing.error.to_string());
        SessionRevocation {
            session_id,
            profile,
            at_upstream,
            failure,
        }
    }
}
