//! Telling an upstream to end sessions: tried again until it has confirmed or the session has expired, also after a
//! restart.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{Withdrawal as Standing, Withdrawn};
use tokio::sync::Notify;

use super::ledger::Withdrawal;
use crate::broker::Broker;
use crate::cache::Slot;
use crate::cache::state::Session;
use crate::timetable::{Item, Plan};
use crate::upstream::gate::{Gate, Haste};

/// How long somebody waits who wants to know whether the upstream has confirmed.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Withdrawals {
    pub(crate) plan: Plan,
    changed: Notify,
}

impl Default for Withdrawals {
    fn default() -> Self {
        Self { plan: Plan::new(Item::Withdrawals), changed: Notify::new() }
    }
}

impl Broker {
    /// A session of a profile is to be revoked at its upstream, too.
    pub(crate) fn withdraw(&self, slot: &Slot, session: &Session, reason: &str) {
        let granted = &session.granted;
        let profile = Some(slot.profile.name.to_string());
        let withdrawal =
            Withdrawal::new(slot.gate.upstream.identity(), profile, Some(reason.into()), granted.expires_at);
        self.ledger.add(&granted.session_id, withdrawal);
        self.withdraw_soon();
    }

    pub(crate) fn withdraw_soon(&self) {
        self.timetable.set_by(&self.withdrawals.plan, self.clock.now().boot);
    }

    /// Tries everything that may be tried now.
    pub(crate) fn withdraw_due(self: &Arc<Self>) {
        for (id, withdrawal) in self.ledger.take_due(&self.clock.now()) {
            let Some(gate) = self.gates.values().find(|gate| gate.upstream.identity() == withdrawal.identity) else {
                tracing::warn!(session = %id, "it cannot be revoked: its upstream is no longer configured");
                self.ledger.settle(&id);
                continue;
            };
            self.background().spawn(Arc::clone(self).try_to_withdraw(Arc::clone(gate), id, withdrawal));
        }
        self.plan_withdrawals();
    }

    async fn try_to_withdraw(self: Arc<Self>, gate: Arc<Gate>, id: Box<str>, withdrawal: Withdrawal) {
        let withdrawn = match gate.enter(Haste::Awaited, &self.clock).await {
            Ok(_pass) => gate.upstream.withdraw(&id, withdrawal.reason.as_deref()).await,
            Err(away) => Err(away.error),
        };
        match withdrawn {
            Ok(()) => {
                tracing::info!(session = %id, profile = withdrawal.profile, "revoked at the upstream");
                self.ledger.settle(&id);
            }
            Err(error) => {
                tracing::warn!(session = %id, profile = withdrawal.profile, %error, "it cannot be revoked at the upstream");
                self.ledger.failed(&id, error, self.clock.now().boot);
            }
        }
        self.plan_withdrawals();
        self.withdrawals.changed.notify_waiters();
    }

    fn plan_withdrawals(&self) {
        if let Some(next) = self.ledger.next_try() {
            self.timetable.set_by(&self.withdrawals.plan, next.max(self.clock.now().boot));
        }
    }

    /// Waits until each of these is confirmed or has been tried, but not for long.
    pub(crate) async fn await_withdrawals(&self, session_ids: &[String]) {
        let tried = async {
            loop {
                let changed = self.withdrawals.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                let is_untried = |id: &String| matches!(self.ledger.pending(id), Some(None));
                if !session_ids.iter().any(is_untried) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, tried).await;
    }

    /// How things stand with a session that was to be revoked.
    pub(crate) fn withdrawn(&self, session_id: String, profile: Option<String>) -> Withdrawn {
        let pending = self.ledger.pending(&session_id);
        let at_upstream = if pending.is_some() { Standing::Pending } else { Standing::Confirmed };
        let failure = pending.flatten().map(|failing| failing.error.to_string());
        Withdrawn { session_id, profile, at_upstream, failure }
    }
}
