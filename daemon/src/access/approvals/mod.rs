//! A person's word: a profile that says `confirm` is served once somebody at the machine has allowed it, who is shown which
//! program asks. Nobody's word is no.

mod store;

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{Approval, Approvals as Listed};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::access::peer::Peer;
use crate::access::policy::described;
use crate::cache::CacheEntry;
use crate::clock::BootTime;
use crate::config::callers::Confirm;
use crate::credentials::{AccessError, Broker};
use crate::journal::What;
use crate::sync::{Mutex, lock};

pub use store::{ApprovalRequest, Decision, Requester};
use store::{ApprovalState, ApprovalStore};

/// How long a person is waited for.
pub const PATIENCE: Duration = Duration::from_secs(55);
/// The most questions at once, and the most of one user's: nobody reads more.
const QUESTIONS: usize = 32;
const OF_ONE: usize = 8;

/// What is being asked, and what was said.
#[derive(Debug, Default)]
pub struct Approvals {
    book: Mutex<ApprovalStore>,
    shown_by: Mutex<Option<mpsc::Sender<Arc<ApprovalRequest>>>>,
}

impl Approvals {
    /// ApprovalRequests, for whoever shows them on a desktop.
    pub fn open(&self) -> mpsc::Receiver<Arc<ApprovalRequest>> {
        let (sender, receiver) = mpsc::channel(QUESTIONS);
        *lock(&self.shown_by) = Some(sender);
        receiver
    }

    /// What a person says. Returns what it was about, if that was still to be answered.
    pub fn answer(&self, id: u64, word: Decision, now: BootTime) -> Option<Arc<ApprovalRequest>> {
        let mut book = lock(&self.book);
        let question = book.take(id)?;
        match word {
            Decision::Allow => book.allow(&question, now),
            Decision::Deny => book.refuse(&question, now),
            Decision::Timeout => {}
        }
        question.answered(word);
        Some(question)
    }
}

impl Broker {
    /// Whether a person will be asked before this peer is served.
    pub(crate) async fn will_ask(&self, peer: &Peer, want: &str) -> bool {
        let Some(entry) = self
            .cache
            .find(want)
            .filter(|entry| entry.profile.callers.confirm != Confirm::Never)
        else {
            return false;
        };
        let (who, confirm) = (self.who(peer, entry).await, entry.profile.callers.confirm);
        !matches!(
            lock(&self.approvals.book).state(&who, confirm, self.clock.now().boot),
            ApprovalState::Allowed
        )
    }

    /// Waits for a person's word, unless it has been given.
    pub(crate) async fn confirm(&self, peer: &Peer, entry: &CacheEntry) -> Result<(), AccessError> {
        let confirm = entry.profile.callers.confirm;
        if confirm == Confirm::Never {
            return Ok(());
        }
        let who = self.who(peer, entry).await;
        let refused = |why| AccessError::NotConfirmed {
            profile: entry.profile.name.to_string(),
            why,
        };
        let now = self.clock.now();
        let (question, _waiter) = {
            let mut book = lock(&self.approvals.book);
            let question = match book.state(&who, confirm, now.boot) {
                ApprovalState::Allowed => {
                    book.use_up(&who);
                    return Ok(());
                }
                ApprovalState::Refused => return Err(refused("somebody has just said no")),
                ApprovalState::Asked(question) => question,
                ApprovalState::Open if book.is_full(peer.uid, now.boot) => {
                    return Err(refused("too many questions wait for an answer"));
                }
                ApprovalState::Open => {
                    let program = match peer.trace().sight().get() {
                        Some(seen) if !seen.programs.is_empty() => described(&seen.programs),
                        _ => "a process that cannot be seen".into(),
                    };
                    let sure = if peer.is_by_process() {
                        ""
                    } else {
                        ", over HTTP, where another may pass for it"
                    };
                    let program = program + sure;
                    let question = book.ask(
                        who.clone(),
                        confirm,
                        entry.profile.name.to_string(),
                        program,
                        peer,
                        now.boot,
                    );
                    tracing::warn!(
                        profile = %question.profile, program = %question.program, id = question.id,
                        "a person is asked: rolekeeper approve"
                    );
                    self.journal
                        .event(peer, What::Asked, &question.profile, None, None, now.wall);
                    if let Some(desktop) = &*lock(&self.approvals.shown_by) {
                        let _ = desktop.try_send(Arc::clone(&question));
                    }
                    question
                }
            };
            let waiter = question.waited_for();
            (question, waiter)
        };
        // It stays for others who wait, and for a person who comes a little late.
        let left = PATIENCE.saturating_sub(now.boot.since(question.asked_at));
        let word = timeout(left, question.word())
            .await
            .unwrap_or(Decision::Timeout);
        match word {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(refused("somebody has said no")),
            Decision::Timeout => {
                self.answer(peer, question.id, Decision::Timeout);
                Err(refused("nobody has answered"))
            }
        }
    }

    /// A word from whoever says it, which is written down once. Returns whether it was still asked for.
    pub(crate) fn answer(&self, by: &Peer, id: u64, word: Decision) -> bool {
        let now = self.clock.now();
        let Some(question) = self.approvals.answer(id, word, now.boot) else {
            return false;
        };
        tracing::info!(profile = %question.profile, program = %question.program, ?word, "a question is answered");
        let said = match word {
            Decision::Allow => "yes",
            Decision::Deny => "no",
            Decision::Timeout => "nothing, in time",
        };
        let message = format!("{said}, to {}", question.program);
        self.journal.event(
            by,
            What::Answered,
            &question.profile,
            None,
            Some(message),
            now.wall,
        );
        true
    }

    /// What is asked now, oldest first.
    pub fn approvals(&self, peer: &Peer) -> Result<Listed, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let now = self.clock.now().boot;
        let shown = |question: &Arc<ApprovalRequest>| {
            let waited = now.since(question.asked_at);
            Approval {
                id: question.id,
                profile: question.profile.clone(),
                program: question.program.clone(),
                uid: question.uid,
                since_seconds: waited.as_secs(),
                left_seconds: PATIENCE.saturating_sub(waited).as_secs(),
            }
        };
        Ok(Listed {
            waiting: lock(&self.approvals.book).all(now).map(shown).collect(),
        })
    }

    /// A person's word from a terminal. Whoever asked cannot give it, nor can what it has started.
    pub async fn approve(&self, peer: &Peer, id: u64, yes: bool) -> Result<Listed, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        let now = self.clock.now().boot;
        let question = lock(&self.approvals.book)
            .find(id, now)
            .ok_or(AccessError::NothingToApprove(id))?;
        let seen = peer.trace().sight().seen().await;
        // Of one whose parents cannot all be seen it is not known.
        let is_by_asker = seen.is_none_or(|seen| {
            let mut pids = seen.programs.iter().map(|program| program.process.pid);
            !seen.is_whole
                || question
                    .asker
                    .is_some_and(|asker| pids.any(|pid| pid == asker))
        });
        if yes && (is_by_asker || seen.is_none_or(|seen| !seen.has_terminal)) {
            return Err(AccessError::NotAPerson);
        }
        if !self.answer(peer, id, if yes { Decision::Allow } else { Decision::Deny }) {
            return Err(AccessError::NothingToApprove(id));
        }
        self.approvals(peer)
    }

    /// For whom a word is good: a program of a user, and a profile.
    async fn who(&self, peer: &Peer, entry: &CacheEntry) -> Requester {
        let seen = peer.trace().sight().seen().await;
        let asker = seen.and_then(|seen| crate::access::policy::askers(&seen.programs).last());
        let is_shell = |program: &&crate::sandbox::helper::peer_inspector::Program| {
            crate::sandbox::helper::peer_inspector::is_between(&program.process.program)
        };
        Requester {
            profile: entry.place,
            uid: peer.uid,
            program: asker.map(|program| (program.process.program.clone(), program.file)),
            is_over_http: !peer.is_by_process(),
            // What a person types in one shell is not what they type in another.
            shell: asker.filter(is_shell).map(|program| program.process.pid),
        }
    }
}
