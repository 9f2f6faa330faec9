//! What a person was asked, and what they said: a function of the time that is given.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::{OF_ONE, PATIENCE, QUESTIONS};
use crate::access::peer::Peer;
use crate::access::policy::askers;
use crate::clock::BootTime;
use crate::config::callers::Confirm;
use crate::model::ProfileId;

/// For how long a yes waits for whoever asked, who may have given up and asks again; and a no is not asked about again.
const LATE: Duration = Duration::from_secs(30);
/// The most words that are remembered.
const REMEMBERED: usize = 4096;

/// A program of a user's that wants a profile. One that cannot be seen is not taken for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requester {
    pub profile: ProfileId,
    pub uid: u32,
    pub program: Option<(String, Option<(u64, u64)>)>,
    /// Where it cannot be told for sure.
    pub is_over_http: bool,
    /// Its number, if it is a shell that a person types into.
    pub shell: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
    /// In time.
    Timeout,
}

#[derive(Debug)]
pub struct ApprovalRequest {
    pub id: u64,
    pub profile: String,
    /// `/usr/bin/python3 (process 42, by /usr/bin/bash)`
    pub program: String,
    pub uid: u32,
    pub asked_at: BootTime,
    /// The process that asked.
    pub asker: Option<i32>,
    who: Requester,
    confirm: Confirm,
    waiting: AtomicUsize,
    word: watch::Sender<Option<Decision>>,
}

/// Somebody waits for the word.
#[derive(Debug)]
pub(super) struct Waiter(Arc<ApprovalRequest>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ApprovalRequest {
    pub(super) fn waited_for(self: &Arc<Self>) -> Waiter {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(Arc::clone(self))
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn answered(&self, word: Decision) {
        self.word.send_replace(Some(word));
    }

    /// Until somebody has answered, or the time is over.
    pub async fn settled(&self) {
        self.word().await;
    }

    pub(super) async fn word(&self) -> Decision {
        let mut word = self.word.subscribe();
        let said = word.wait_for(Option::is_some).await;
        said.ok()
            .and_then(|word| *word)
            .unwrap_or(Decision::Timeout)
    }
}

/// How things are with a program.
#[derive(Debug)]
pub(super) enum ApprovalState {
    Allowed,
    Refused,
    Asked(Arc<ApprovalRequest>),
    Open,
}

#[derive(Debug, Clone, Copy)]
enum RememberedDecision {
    /// For as long as the daemon runs.
    Allowed,
    Until(BootTime),
    /// For one request, if it comes in time.
    Once(BootTime),
    NotBefore(BootTime),
}

#[derive(Debug, Default)]
pub(super) struct ApprovalStore {
    questions: BTreeMap<u64, Arc<ApprovalRequest>>,
    said: HashMap<Requester, RememberedDecision>,
    last: u64,
}

impl ApprovalStore {
    /// Where a word is good for one request, a question is that request's alone, unless whoever asked has given up, and asks
    /// again.
    pub(super) fn state(&self, who: &Requester, confirm: Confirm, now: BootTime) -> ApprovalState {
        match self.said.get(who) {
            Some(RememberedDecision::Allowed) => return ApprovalState::Allowed,
            Some(RememberedDecision::Until(end) | RememberedDecision::Once(end)) if now < *end => {
                return ApprovalState::Allowed;
            }
            Some(RememberedDecision::NotBefore(end)) if now < *end => {
                return ApprovalState::Refused;
            }
            _ => {}
        }
        let is_it = |question: &&Arc<ApprovalRequest>| {
            let is_free = confirm != Confirm::Always || !question.is_waited_for();
            question.who == *who
                && who.program.is_some()
                && is_free
                && now.since(question.asked_at) < PATIENCE
        };
        let asked = self.questions.values().find(is_it);
        asked.map_or(ApprovalState::Open, |question| {
            ApprovalState::Asked(Arc::clone(question))
        })
    }

    pub(super) fn ask(
        &mut self,
        who: Requester,
        confirm: Confirm,
        profile: String,
        program: String,
        peer: &Peer,
        now: BootTime,
    ) -> Arc<ApprovalRequest> {
        self.questions
            .retain(|_, question| now.since(question.asked_at) < PATIENCE);
        self.last += 1;
        let seen = peer.trace().sight().get();
        let asker = seen
            .and_then(|seen| askers(&seen.programs).last())
            .map(|program| program.process.pid);
        let question = Arc::new(ApprovalRequest {
            id: self.last,
            profile,
            program,
            uid: peer.uid,
            asked_at: now,
            asker,
            who,
            confirm,
            waiting: AtomicUsize::new(0),
            word: watch::Sender::new(None),
        });
        self.questions.insert(self.last, Arc::clone(&question));
        question
    }

    /// A yes is remembered for as long as the profile says; one that is for every request, for the one that waits.
    pub(super) fn allow(&mut self, question: &ApprovalRequest, now: BootTime) {
        let ApprovalRequest { who, confirm, .. } = question;
        let said = match confirm {
            Confirm::First => RememberedDecision::Allowed,
            Confirm::For(span) => RememberedDecision::Until(now.plus(*span)),
            // Whoever waits has it by that.
            _ if question.is_waited_for() => return,
            _ => RememberedDecision::Once(now.plus(LATE)),
        };
        self.remember(who, said);
    }

    pub(super) fn refuse(&mut self, question: &ApprovalRequest, now: BootTime) {
        self.remember(&question.who, RememberedDecision::NotBefore(now.plus(LATE)));
    }

    /// What cannot be seen is not known again.
    fn remember(&mut self, who: &Requester, said: RememberedDecision) {
        if who.program.is_none() {
            return;
        }
        if self.said.len() >= REMEMBERED {
            self.said.clear();
        }
        self.said.insert(who.clone(), said);
    }

    /// A request is served on the word.
    pub(super) fn use_up(&mut self, who: &Requester) {
        if matches!(self.said.get(who), Some(RememberedDecision::Once(_))) {
            self.said.remove(who);
        }
    }

    pub(super) fn find(&self, id: u64, now: BootTime) -> Option<Arc<ApprovalRequest>> {
        self.all(now).find(|question| question.id == id).cloned()
    }

    /// Whether nobody, or this user, may ask more.
    pub(super) fn is_full(&self, uid: u32, now: BootTime) -> bool {
        let of_one = self.all(now).filter(|question| question.uid == uid).count();
        of_one >= OF_ONE || self.all(now).count() >= QUESTIONS
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Arc<ApprovalRequest>> {
        self.questions.remove(&id)
    }

    /// Those that can still be answered.
    pub(super) fn all(&self, now: BootTime) -> impl Iterator<Item = &Arc<ApprovalRequest>> {
        self.questions
            .values()
            .filter(move |question| now.since(question.asked_at) < PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(program: Option<&str>) -> Requester {
        let program = program.map(|program| (program.to_owned(), Some((1, 2))));
        Requester {
            profile: ProfileId::new(0),
            uid: 1000,
            program,
            is_over_http: false,
            shell: None,
        }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::ZERO.plus(Duration::from_secs(seconds))
    }

    fn is_allowed(book: &ApprovalStore, who: &Requester, seconds: u64) -> bool {
        matches!(
            book.state(who, Confirm::First, at(seconds)),
            ApprovalState::Allowed
        )
    }

    fn asked(
        book: &mut ApprovalStore,
        who: &Requester,
        confirm: Confirm,
        seconds: u64,
    ) -> Arc<ApprovalRequest> {
        let peer = Peer::new(1000, None);
        book.ask(
            who.clone(),
            confirm,
            "dev".into(),
            "vim".into(),
            &peer,
            at(seconds),
        )
    }

    #[test]
    fn a_yes_is_good_for_what_the_profile_says_and_for_that_program_alone() {
        let (vim, other) = (who(Some("/usr/bin/vim")), who(Some("/usr/bin/emacs")));
        let span = Duration::from_secs(900);
        for (confirm, table) in [
            (
                Confirm::First,
                [(0, true), (899, true), (901, true), (1_000_000, true)],
            ),
            (
                Confirm::For(span),
                [(0, true), (899, true), (900, false), (1_000_000, false)],
            ),
            (
                Confirm::Always,
                [(0, true), (29, true), (30, false), (1_000_000, false)],
            ),
        ] {
            let mut book = ApprovalStore::default();
            let question = asked(&mut book, &vim, confirm, 0);
            book.allow(&question, at(0));
            for (seconds, want) in table {
                assert_eq!(
                    is_allowed(&book, &vim, seconds),
                    want,
                    "{confirm:?} {seconds}"
                );
                assert!(!is_allowed(&book, &other, seconds));
            }
            book.use_up(&vim);
            assert_eq!(
                is_allowed(&book, &vim, 1),
                confirm != Confirm::Always,
                "{confirm:?}"
            );
        }
    }

    #[test]
    fn a_no_is_good_for_a_while_and_what_cannot_be_seen_is_asked_about_each_time() {
        let mut book = ApprovalStore::default();
        let (vim, nobody, first) = (who(Some("/usr/bin/vim")), who(None), Confirm::First);
        let question = asked(&mut book, &vim, first, 0);
        assert!(
            matches!(book.state(&vim, first, at(1)), ApprovalState::Asked(same) if same.id == question.id)
        );
        book.take(question.id);
        book.refuse(&question, at(0));
        assert!(matches!(
            book.state(&vim, first, at(29)),
            ApprovalState::Refused
        ));
        assert!(matches!(
            book.state(&vim, first, at(30)),
            ApprovalState::Open
        ));
        let question = asked(&mut book, &nobody, first, 0);
        assert!(
            matches!(book.state(&nobody, first, at(1)), ApprovalState::Open),
            "one is not taken for another"
        );
        book.allow(&question, at(0));
        assert!(
            !is_allowed(&book, &nobody, 1),
            "nor does its word count for another"
        );
        book.refuse(&question, at(0));
        assert!(matches!(
            book.state(&nobody, first, at(1)),
            ApprovalState::Open
        ));
        assert_eq!((book.all(at(54)).count(), book.all(at(55)).count()), (1, 0));
        assert!(
            book.find(question.id, at(54)).is_some() && book.find(question.id, at(55)).is_none()
        );
    }

    #[test]
    fn a_word_for_one_request_is_that_requests() {
        let mut book = ApprovalStore::default();
        let (vim, always) = (who(Some("/usr/bin/vim")), Confirm::Always);
        let question = asked(&mut book, &vim, always, 0);
        let waiter = question.waited_for();
        assert!(
            matches!(book.state(&vim, always, at(1)), ApprovalState::Open),
            "another request is another question"
        );
        book.allow(&question, at(1));
        assert!(
            !is_allowed(&book, &vim, 1),
            "whoever waits has it, and nobody else"
        );
        book.take(question.id);
        drop(waiter);
        let question = asked(&mut book, &vim, always, 2);
        assert!(
            matches!(book.state(&vim, always, at(3)), ApprovalState::Asked(same) if same.id == question.id),
            "it asks again"
        );
        book.allow(&question, at(3));
        assert!(is_allowed(&book, &vim, 4));
        book.use_up(&vim);
        assert!(!is_allowed(&book, &vim, 4));
    }

    #[test]
    fn one_user_cannot_ask_for_all() {
        let mut book = ApprovalStore::default();
        for number in 0..OF_ONE {
            assert!(!book.is_full(1000, at(0)));
            asked(
                &mut book,
                &who(Some(&format!("/bin/{number}"))),
                Confirm::Always,
                0,
            );
        }
        assert!(
            book.is_full(1000, at(1)) && !book.is_full(1001, at(1)) && !book.is_full(1000, at(55))
        );
    }
}
