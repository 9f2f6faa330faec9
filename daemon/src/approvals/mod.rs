//! A person's word: a profile that says `confirm` is served once somebody at the machine has allowed it, who is shown which
//! program asks. Nobody's word is no.

mod book;

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{Approval, Approvals as Listed};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::broker::{Broker, Refusal};
use crate::cache::Slot;
use crate::clock::Boot;
use crate::config::callers::Confirm;
use crate::journal::What;
use crate::policy::described;
use crate::serve::peer::Peer;
use crate::sync::{Mutex, lock};

use book::{Book, Standing};
pub use book::{Question, Who, Word};

/// How long a person is waited for.
pub const PATIENCE: Duration = Duration::from_secs(55);
/// The most questions at once, and the most of one user's: nobody reads more.
const QUESTIONS: usize = 32;
const OF_ONE: usize = 8;

/// What is being asked, and what was said.
#[derive(Debug, Default)]
pub struct Approvals {
    book: Mutex<Book>,
    shown_by: Mutex<Option<mpsc::Sender<Arc<Question>>>>,
}

impl Approvals {
    /// Questions, for whoever shows them on a desktop.
    pub fn open(&self) -> mpsc::Receiver<Arc<Question>> {
        let (sender, receiver) = mpsc::channel(QUESTIONS);
        *lock(&self.shown_by) = Some(sender);
        receiver
    }

    /// What a person says. Returns what it was about, if that was still to be answered.
    pub fn answer(&self, id: u64, word: Word, now: Boot) -> Option<Arc<Question>> {
        let mut book = lock(&self.book);
        let question = book.take(id)?;
        match word {
            Word::Yes => book.allow(&question, now),
            Word::No => book.refuse(&question, now),
            Word::Nothing => {}
        }
        question.answered(word);
        Some(question)
    }
}

impl Broker {
    /// Whether a person will be asked before this peer is served.
    pub(crate) async fn will_ask(&self, peer: &Peer, want: &str) -> bool {
        let Some(slot) = self
            .cache
            .find(want)
            .filter(|slot| slot.profile.callers.confirm != Confirm::Never)
        else {
            return false;
        };
        let (who, confirm) = (self.who(peer, slot).await, slot.profile.callers.confirm);
        !matches!(
            lock(&self.approvals.book).standing(&who, confirm, self.clock.now().boot),
            Standing::Allowed
        )
    }

    /// Waits for a person's word, unless it has been given.
    pub(crate) async fn confirm(&self, peer: &Peer, slot: &Slot) -> Result<(), Refusal> {
        let confirm = slot.profile.callers.confirm;
        if confirm == Confirm::Never {
            return Ok(());
        }
        let who = self.who(peer, slot).await;
        let refused = |why| Refusal::NotConfirmed {
            profile: slot.profile.name.to_string(),
            why,
        };
        let now = self.clock.now();
        let (question, _waiter) = {
            let mut book = lock(&self.approvals.book);
            let question = match book.standing(&who, confirm, now.boot) {
                Standing::Allowed => {
                    book.use_up(&who);
                    return Ok(());
                }
                Standing::Refused => return Err(refused("somebody has just said no")),
                Standing::Asked(question) => question,
                Standing::Open if book.is_full(peer.uid, now.boot) => {
                    return Err(refused("too many questions wait for an answer"));
                }
                Standing::Open => {
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
                        slot.profile.name.to_string(),
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
            .unwrap_or(Word::Nothing);
        match word {
            Word::Yes => Ok(()),
            Word::No => Err(refused("somebody has said no")),
            Word::Nothing => {
                self.answer(peer, question.id, Word::Nothing);
                Err(refused("nobody has answered"))
            }
        }
    }

    /// A word from whoever says it, which is written down once. Returns whether it was still asked for.
    pub(crate) fn answer(&self, by: &Peer, id: u64, word: Word) -> bool {
        let now = self.clock.now();
        let Some(question) = self.approvals.answer(id, word, now.boot) else {
            return false;
        };
        tracing::info!(profile = %question.profile, program = %question.program, ?word, "a question is answered");
        let said = match word {
            Word::Yes => "yes",
            Word::No => "no",
            Word::Nothing => "nothing, in time",
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
    pub fn approvals(&self, peer: &Peer) -> Result<Listed, Refusal> {
        self.policy.admit_owner(peer).map_err(Refusal::Denied)?;
        let now = self.clock.now().boot;
        let shown = |question: &Arc<Question>| {
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
    pub async fn approve(&self, peer: &Peer, id: u64, yes: bool) -> Result<Listed, Refusal> {
        self.policy.admit_owner(peer).map_err(Refusal::Denied)?;
        let now = self.clock.now().boot;
        let question = lock(&self.approvals.book)
            .find(id, now)
            .ok_or(Refusal::NothingToApprove(id))?;
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
            return Err(Refusal::NotAPerson);
        }
        if !self.answer(peer, id, if yes { Word::Yes } else { Word::No }) {
            return Err(Refusal::NothingToApprove(id));
        }
        self.approvals(peer)
    }

    /// For whom a word is good: a program of a user, and a profile.
    async fn who(&self, peer: &Peer, slot: &Slot) -> Who {
        let seen = peer.trace().sight().seen().await;
        let asker = seen.and_then(|seen| crate::policy::askers(&seen.programs).last());
        let is_shell = |program: &&crate::lookout::Program| {
            crate::lookout::is_between(&program.process.program)
        };
        Who {
            profile: slot.place,
            uid: peer.uid,
            program: asker.map(|program| (program.process.program.clone(), program.file)),
            is_over_http: !peer.is_by_process(),
            // What a person types in one shell is not what they type in another.
            shell: asker.filter(is_shell).map(|program| program.process.pid),
        }
    }
}
