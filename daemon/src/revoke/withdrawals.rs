//! Telling an upstream to end sessions: tried again until it has confirmed or the session has expired, also after a
//! restart.

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{Withdrawal as Standing, Withdrawn};
use tokio::sync::Notify;

use super::Revoked;
use super::ledger::Withdrawal;
use crate::broker::Broker;
use crate::cache::Slot;
use crate::cache::state::Session;
use crate::timetable::{Item, Plan};
use crate::upstream::UpstreamError;
use crate::upstream::gate::{Gate, Haste};

/// How long somebody waits who wants to know whether the upstream has confirmed: less than a machine puts off its sleep.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct Withdrawals {
    pub(crate) plan: Plan,
    changed: Notify,
}

impl Default for Withdrawals {
    fn default() -> Self {
        Self {
            plan: Plan::new(Item::Withdrawals),
            changed: Notify::new(),
        }
    }
}

impl Broker {
    /// Everything of a profile that was ended here is to be revoked at its upstream, too.
    pub(crate) fn withdraw_all(&self, slot: &Slot, ended: &Revoked, reason: &str) {
        if let Some(session) = &ended.session {
            self.withdraw(slot, session, reason);
        }
        for earlier in &ended.earlier {
            self.ledger.add(
                &earlier.session_id,
                Withdrawal::of(slot, reason, earlier.expires_at),
            );
        }
    }

    /// A session of a profile is to be revoked at its upstream, too.
    pub(crate) fn withdraw(&self, slot: &Slot, session: &Session, reason: &str) {
        let granted = &session.granted;
        self.ledger.add(
            &granted.session_id,
            Withdrawal::of(slot, reason, granted.expires_at),
        );
        self.withdraw_soon();
    }

    pub(crate) fn withdraw_soon(&self) {
        self.timetable
            .set_by(&self.withdrawals.plan, self.clock.now().boot);
    }

    /// Tries everything that may be tried now.
    pub(crate) fn withdraw_due(self: &Arc<Self>) {
        let now = self.clock.now();
        let time = |withdrawal: &Withdrawal| {
            self.gate_for(withdrawal)?
                .upstream
                .server_clock()
                .latest(now.boot)
        };
        for (id, withdrawal) in self.ledger.take_due(&now, time) {
            if let Some(gate) = self.gate_for(&withdrawal) {
                self.background().spawn(Arc::clone(self).try_to_withdraw(
                    Arc::clone(gate),
                    id,
                    withdrawal,
                ));
            } else {
                let what = "its upstream is no longer configured".to_owned();
                tracing::warn!(session = %id, %what, "it cannot be revoked");
                self.ledger.failed(
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
    fn gate_for(&self, withdrawal: &Withdrawal) -> Option<&Arc<Gate>> {
        let mut gates = self.gates.values();
        let same = gates.find(|gate| gate.upstream.identity() == withdrawal.identity);
        same.or_else(|| {
            self.gates
                .values()
                .find(|gate| gate.upstream.place() == withdrawal.place)
        })
    }

    async fn try_to_withdraw(
        self: Arc<Self>,
        gate: Arc<Gate>,
        id: Box<str>,
        withdrawal: Withdrawal,
    ) {
        let withdrawn = match gate.enter(Haste::Background, &self.clock).await {
            Ok(pass) => {
                let withdrawn = gate
                    .upstream
                    .withdraw(&id, withdrawal.reason.as_deref())
                    .await;
                // How it went is that of a profile's call, if there is such a profile.
                let profile = withdrawal
                    .profile
                    .as_deref()
                    .and_then(|profile| self.cache.find(profile));
                if let Some(slot) = profile {
                    pass.tell(
                        slot.place,
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
                self.ledger
                    .settle(&id, gate.upstream_time(&self.clock.now()));
            }
            Err(error) => {
                tracing::warn!(session = %id, profile = withdrawal.profile, %error, "it cannot be revoked at the upstream");
                self.ledger.failed(&id, &error, self.clock.now().boot);
            }
        }
        self.plan_withdrawals();
        self.withdrawals.changed.notify_waiters();
    }

    fn plan_withdrawals(&self) {
        if let Some(next) = self.ledger.next_try() {
            self.timetable
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
                let is_untried = |id: &String| matches!(self.ledger.pending(id), Some(None));
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
    ) -> Withdrawn {
        let pending = self.ledger.pending(&session_id);
        let at_upstream = match &pending {
            Some(_) => Standing::Pending,
            None if asked => Standing::Confirmed,
            None => Standing::Unasked,
        };
        let failure = pending.flatten().map(|failing| failing.error.to_string());
        Withdrawn {
            session_id,
            profile,
            at_upstream,
            failure,
        }
    }
}
