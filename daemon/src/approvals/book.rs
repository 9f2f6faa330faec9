//! What a person was asked, and what they said: a function of the time that is given.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::{OF_ONE, PATIENCE, QUESTIONS};
use crate::clock::Boot;
use crate::config::Place;
use crate::config::callers::Confirm;
use crate::policy::askers;
use crate::serve::peer::Peer;

/// For how long a yes waits for whoever asked, who may have given up and asks again; and a no is not asked about again.
const LATE: Duration = Duration::from_secs(30);
/// The most words that are remembered.
const REMEMBERED: usize = 4096;

/// A program of a user's that wants a profile. One that cannot be seen is not taken for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Who {
    pub profile: Place,
    pub uid: u32,
    pub program: Option<(String, Option<(u64, u64)>)>,
    /// Where it cannot be told for sure.
    pub is_over_http: bool,
    /// Its number, if it is a shell that a person types into.
    pub shell: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Yes,
    No,
    /// In time.
    Nothing,
}

#[derive(Debug)]
pub struct Question {
    pub id: u64,
    pub profile: String,
    /// `/usr/bin/python3 (process 42, by /usr/bin/bash)`
    pub program: String,
    pub uid: u32,
    pub asked_at: Boot,
    /// The process that asked.
    pub asker: Option<i32>,
    who: Who,
    confirm: Confirm,
    waiting: AtomicUsize,
    word: watch::Sender<Option<Word>>,
}

/// Somebody waits for the word.
#[derive(Debug)]
pub(super) struct Waiter(Arc<Question>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Question {
    pub(super) fn waited_for(self: &Arc<Self>) -> Waiter {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(Arc::clone(self))
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn answered(&self, word: Word) {
        self.word.send_replace(Some(word));
    }

    /// Until somebody has answered, or the time is over.
    pub async fn settled(&self) {
        self.word().await;
    }

    pub(super) async fn word(&self) -> Word {
        let mut word = self.word.subscribe();
        let said = word.wait_for(Option::is_some).await;
        said.ok().and_then(|word| *word).unwrap_or(Word::Nothing)
    }
}

/// How things are with a program.
#[derive(Debug)]
pub(super) enum Standing {
    Allowed,
    Refused,
    Asked(Arc<Question>),
    Open,
}

#[derive(Debug, Clone, Copy)]
enum Said {
    /// For as long as the daemon runs.
    Allowed,
    Until(Boot),
    /// For one request, if it comes in time.
    Once(Boot),
    NotBefore(Boot),
}

#[derive(Debug, Default)]
pub(super) struct Book {
    questions: BTreeMap<u64, Arc<Question>>,
    said: HashMap<Who, Said>,
    last: u64,
}

impl Book {
    /// Where a word is good for one request, a question is that request's alone, unless whoever asked has given up, and asks
    /// again.
    pub(super) fn standing(&self, who: &Who, confirm: Confirm, now: Boot) -> Standing {
        match self.said.get(who) {
            Some(Said::Allowed) => return Standing::Allowed,
            Some(Said::Until(end) | Said::Once(end)) if now < *end => return Standing::Allowed,
            Some(Said::NotBefore(end)) if now < *end => return Standing::Refused,
            _ => {}
        }
        let is_it = |question: &&Arc<Question>| {
            let is_free = confirm != Confirm::Always || !question.is_waited_for();
            question.who == *who
                && who.program.is_some()
                && is_free
                && now.since(question.asked_at) < PATIENCE
        };
        let asked = self.questions.values().find(is_it);
        asked.map_or(Standing::Open, |question| {
            Standing::Asked(Arc::clone(question))
        })
    }

    pub(super) fn ask(
        &mut self,
        who: Who,
        confirm: Confirm,
        profile: String,
        program: String,
        peer: &Peer,
        now: Boot,
    ) -> Arc<Question> {
        self.questions
            .retain(|_, question| now.since(question.asked_at) < PATIENCE);
        self.last += 1;
        let seen = peer.trace().sight().get();
        let asker = seen
            .and_then(|seen| askers(&seen.programs).last())
            .map(|program| program.process.pid);
        let question = Arc::new(Question {
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
    pub(super) fn allow(&mut self, question: &Question, now: Boot) {
        let Question { who, confirm, .. } = question;
        let said = match confirm {
            Confirm::First => Said::Allowed,
            Confirm::For(span) => Said::Until(now.plus(*span)),
            // Whoever waits has it by that.
            _ if question.is_waited_for() => return,
            _ => Said::Once(now.plus(LATE)),
        };
        self.remember(who, said);
    }

    pub(super) fn refuse(&mut self, question: &Question, now: Boot) {
        self.remember(&question.who, Said::NotBefore(now.plus(LATE)));
    }

    /// What cannot be seen is not known again.
    fn remember(&mut self, who: &Who, said: Said) {
        if who.program.is_none() {
            return;
        }
        if self.said.len() >= REMEMBERED {
            self.said.clear();
        }
        self.said.insert(who.clone(), said);
    }

    /// A request is served on the word.
    pub(super) fn use_up(&mut self, who: &Who) {
        if matches!(self.said.get(who), Some(Said::Once(_))) {
            self.said.remove(who);
        }
    }

    pub(super) fn find(&self, id: u64, now: Boot) -> Option<Arc<Question>> {
        self.all(now).find(|question| question.id == id).cloned()
    }

    /// Whether nobody, or this user, may ask more.
    pub(super) fn is_full(&self, uid: u32, now: Boot) -> bool {
        let of_one = self.all(now).filter(|question| question.uid == uid).count();
        of_one >= OF_ONE || self.all(now).count() >= QUESTIONS
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Arc<Question>> {
        self.questions.remove(&id)
    }

    /// Those that can still be answered.
    pub(super) fn all(&self, now: Boot) -> impl Iterator<Item = &Arc<Question>> {
        self.questions
            .values()
            .filter(move |question| now.since(question.asked_at) < PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(program: Option<&str>) -> Who {
        let program = program.map(|program| (program.to_owned(), Some((1, 2))));
        Who {
            profile: Place::new(0),
            uid: 1000,
            program,
            is_over_http: false,
            shell: None,
        }
    }

    fn at(seconds: u64) -> Boot {
        Boot::ZERO.plus(Duration::from_secs(seconds))
    }

    fn is_allowed(book: &Book, who: &Who, seconds: u64) -> bool {
        matches!(
            book.standing(who, Confirm::First, at(seconds)),
            Standing::Allowed
        )
    }

    fn asked(book: &mut Book, who: &Who, confirm: Confirm, seconds: u64) -> Arc<Question> {
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
            let mut book = Book::default();
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
        let mut book = Book::default();
        let (vim, nobody, first) = (who(Some("/usr/bin/vim")), who(None), Confirm::First);
        let question = asked(&mut book, &vim, first, 0);
        assert!(
            matches!(book.standing(&vim, first, at(1)), Standing::Asked(same) if same.id == question.id)
        );
        book.take(question.id);
        book.refuse(&question, at(0));
        assert!(matches!(
            book.standing(&vim, first, at(29)),
            Standing::Refused
        ));
        assert!(matches!(book.standing(&vim, first, at(30)), Standing::Open));
        let question = asked(&mut book, &nobody, first, 0);
        assert!(
            matches!(book.standing(&nobody, first, at(1)), Standing::Open),
            "one is not taken for another"
        );
        book.allow(&question, at(0));
        assert!(
            !is_allowed(&book, &nobody, 1),
            "nor does its word count for another"
        );
        book.refuse(&question, at(0));
        assert!(matches!(
            book.standing(&nobody, first, at(1)),
            Standing::Open
        ));
        assert_eq!((book.all(at(54)).count(), book.all(at(55)).count()), (1, 0));
        assert!(
            book.find(question.id, at(54)).is_some() && book.find(question.id, at(55)).is_none()
        );
    }

    #[test]
    fn a_word_for_one_request_is_that_requests() {
        let mut book = Book::default();
        let (vim, always) = (who(Some("/usr/bin/vim")), Confirm::Always);
        let question = asked(&mut book, &vim, always, 0);
        let waiter = question.waited_for();
        assert!(
            matches!(book.standing(&vim, always, at(1)), Standing::Open),
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
            matches!(book.standing(&vim, always, at(3)), Standing::Asked(same) if same.id == question.id),
            "it asks again"
        );
        book.allow(&question, at(3));
        assert!(is_allowed(&book, &vim, 4));
        book.use_up(&vim);
        assert!(!is_allowed(&book, &vim, 4));
    }

    #[test]
    fn one_user_cannot_ask_for_all() {
        let mut book = Book::default();
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
