//! Approvals: a profile with `confirm` is served once a user at the machine allows it, who reads
//! which program asks. No answer means denied.

mod store;

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{Approval, Approvals as ApprovalList};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::error::{AccessError, NotApprovedReason};
use super::interaction::{Interaction, Interrupted, Question};
use super::peer::{Peer, describe, is_interpreter, requesting_programs};
use crate::cache::CacheEntry;
use crate::clock::{Clock, Now};
use crate::journal::{self, Journal};
use crate::sync::{Mutex, lock};

pub(crate) use store::{ApprovalRequest, Decision, Requester};
use store::{ApprovalState, ApprovalStore, ApprovalSubject};

/// How long an approval request waits for a user.
pub(crate) const PATIENCE: Duration = Duration::from_secs(55);
/// How long a decision to allow waits for a program that gave up and asks again; and how long a denial, or no answer,
/// prevents further questions about the same user and profile.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// The most pending requests.
const PENDING: usize = 32;
/// The most questions because of one user's programs in a minute. A question interrupts a person.
const QUESTIONS_A_MINUTE: usize = 6;

/// The pending approval requests, and the decisions that are remembered.
#[derive(Debug)]
pub(crate) struct Approvals {
    store: Mutex<ApprovalStore>,
    desktop: Mutex<Option<mpsc::Sender<Arc<ApprovalRequest>>>>,
    journal: Arc<Journal>,
    clock: Clock,
}

impl Approvals {
    pub(super) fn new(journal: Arc<Journal>, clock: Clock) -> Self {
        Self {
            store: Mutex::default(),
            desktop: Mutex::default(),
            journal,
            clock,
        }
    }

    pub(super) fn is_pending(&self, entry: &CacheEntry) -> bool {
        let now = self.clock.now().boot;
        lock(&self.store)
            .pending(now)
            .any(|request| request.profile == entry.profile.name)
    }

    /// New requests, for a dialog on the desktop.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<Arc<ApprovalRequest>> {
        let (sender, receiver) = mpsc::channel(PENDING);
        *lock(&self.desktop) = Some(sender);
        receiver
    }

    /// Waits until a user decides, unless a decision is remembered. The caller has checked
    /// everything else. It is about the profile's credentials, or about one `call` that could
    /// bypass the profile's rules.
    pub(super) async fn require(
        &self,
        peer: &Peer,
        entry: &CacheEntry,
        call: Option<&str>,
        interaction: &mut impl Interaction,
    ) -> Result<(), AccessError> {
        let requester = match call {
            None => Requester::identify(peer, entry).await,
            Some(_) => Requester::of_one_call(peer, entry).await,
        };

        let now = self.clock.now();
        let Some(waiter) = self.find_or_ask(peer, entry, &requester, call, &now)? else {
            return Ok(());
        };

        let request = &waiter.request;
        let left = PATIENCE.saturating_sub(now.boot.since(request.asked_at));
        let decision = timeout(left, request.decision());
        let decided = tokio::select! {
            biased;
            decided = interaction.await_user(Question::Approval, left, decision) => decided?,
            // Another process may have inherited the connection.
            () = peer.exited() => return Err(Interrupted::Disconnected.into()),
        };

        match decided {
            Ok(Decision::Allow) => Ok(()),
            Ok(Decision::Deny) => Err(not_approved(entry, NotApprovedReason::Denied)),
            Ok(Decision::Timeout | Decision::Withdrawn) | Err(_) => {
                self.answer(peer, request.id, Decision::Timeout);
                Err(not_approved(entry, NotApprovedReason::TimedOut))
            }
        }
    }

    /// Nothing to wait for if a decision to allow is remembered; else the request to wait for,
    /// which may be an earlier one of the same program.
    fn find_or_ask<'a>(
        &'a self,
        peer: &'a Peer,
        entry: &CacheEntry,
        requester: &Requester,
        call: Option<&str>,
        now: &Now,
    ) -> Result<Option<Waiter<'a>>, AccessError> {
        let confirm = requester.confirm(entry.profile.callers.confirm);
        let program = describe_requester(peer);

        let mut store = lock(&self.store);
        let request = match store.state(requester, confirm, now.boot) {
            ApprovalState::Allowed => {
                store.use_up(requester);
                return Ok(None);
            }
            ApprovalState::Quiet(Decision::Deny) => {
                return Err(not_approved(entry, NotApprovedReason::DeniedBefore));
            }
            ApprovalState::Quiet(_) => {
                return Err(not_approved(entry, NotApprovedReason::NotAnsweredBefore));
            }
            ApprovalState::Pending(request) => request,
            ApprovalState::Unknown if store.is_full(peer.uid, now.boot) => {
                return Err(not_approved(entry, NotApprovedReason::TooManyQuestions));
            }
            ApprovalState::Unknown => {
                let (requester, profile) = (requester.clone(), entry.profile.name.clone());
                let subject = ApprovalSubject {
                    profile,
                    program,
                    call: call.map(Into::into),
                };
                let request = store.ask(requester, confirm, subject, peer, now.boot);
                self.announce(peer, &request, now);
                request
            }
        };

        store.join(&request);

        Ok(Some(Waiter {
            approvals: self,
            peer,
            request,
        }))
    }

    fn announce(&self, peer: &Peer, request: &Arc<ApprovalRequest>, now: &Now) {
        tracing::warn!(
            profile = %request.profile, program = %request.program, call = request.call,
            id = request.id, "approval required: rolekeeper approve"
        );

        self.journal.record_approval_request(
            peer.caller(),
            request.profile.as_str(),
            &request.in_words(),
            now.wall,
        );

        if let Some(desktop) = &*lock(&self.desktop) {
            // A desktop that is behind shows fewer dialogs; the request can be answered in a
            // terminal.
            let _ = desktop.try_send(Arc::clone(request));
        }
    }

    /// Ends a pending request with a decision, and journals it. Returns whether the request was
    /// still pending.
    pub(crate) fn answer(&self, by: &Peer, id: u64, decision: Decision) -> bool {
        let now = self.clock.now();
        let answered = lock(&self.store).answer(id, decision, now.boot);
        if let Some(request) = &answered {
            self.record(by, request, decision, &now);
        }

        answered.is_some()
    }

    fn record(&self, by: &Peer, request: &ApprovalRequest, decision: Decision, now: &Now) {
        tracing::info!(
            profile = %request.profile, program = %request.program, call = request.call,
            ?decision, "approval answered"
        );

        let recorded = match decision {
            Decision::Allow => journal::Decision::Allowed,
            Decision::Deny => journal::Decision::Denied,
            Decision::Timeout => journal::Decision::TimedOut,
            Decision::Withdrawn => journal::Decision::Withdrawn,
        };

        self.journal.record_approval_decision(
            by.caller(),
            request.profile.as_str(),
            &request.in_words(),
            recorded,
            now.wall,
        );
    }

    pub(super) fn find(&self, id: u64) -> Result<Arc<ApprovalRequest>, AccessError> {
        let now = self.clock.now().boot;
        let request = lock(&self.store).find(id, now);
        request.ok_or(AccessError::NoPendingApproval { id })
    }

    /// The pending requests, oldest first.
    pub(super) fn list(&self) -> ApprovalList {
        let now = self.clock.now().boot;
        let store = lock(&self.store);
        let pending = store.pending(now).map(|request| {
            let waited = now.since(request.asked_at);
            Approval {
                id: request.id,
                profile: request.profile.to_string(),
                program: request.program.clone(),
                call: request.call.clone(),
                uid: request.uid,
                since_seconds: waited.as_secs(),
                expires_in_seconds: PATIENCE.saturating_sub(waited).as_secs(),
            }
        });

        ApprovalList {
            pending: pending.collect(),
        }
    }
}

/// A request for credentials that waits for the decision. The last one that goes away withdraws the
/// question, under one lock with the check that it is the last one.
struct Waiter<'a> {
    approvals: &'a Approvals,
    peer: &'a Peer,
    request: Arc<ApprovalRequest>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let now = self.approvals.clock.now();
        let mut store = lock(&self.approvals.store);
        // HTTP clients do not wait for a user. They ask again.
        let is_withdrawn = store.leave(&self.request) && !self.peer.is_over_http();
        let withdrawn = is_withdrawn
            .then(|| store.answer(self.request.id, Decision::Withdrawn, now.boot))
            .flatten();
        drop(store);

        if let Some(request) = withdrawn {
            self.approvals
                .record(self.peer, &request, Decision::Withdrawn, &now);
        }
    }
}

fn not_approved(entry: &CacheEntry, reason: NotApprovedReason) -> AccessError {
    AccessError::NotApproved {
        profile: entry.profile.name.clone(),
        reason,
    }
}

/// The requesting program as the approver reads it.
fn describe_requester(peer: &Peer) -> String {
    let inspection = peer.handle().inspection().get();
    let programs = inspection.map_or_else(Default::default, |seen| seen.programs.as_slice());
    let requesting = requesting_programs(programs).last();
    let is_interpreter = requesting.is_some_and(|program| is_interpreter(&program.process.program));
    let script = if is_interpreter {
        ", with an unknown script"
    } else {
        ""
    };

    let program = describe(programs) + script;
    if peer.has_process() {
        program
    } else {
        // Any process of the user can open that port, and end before it is inspected.
        format!("{program}, over HTTP, where another program may pass for it")
    }
}
