//! The daemon's own record: who was given credentials and who was refused, what people were asked, and which sessions ended
//! before their time. A line of JSON each, in a file that only the user reads.
//!
//! Nobody waits for it: a thread of its own looks up the parents of processes and writes.

mod file;
mod rate_limit;
mod record;
mod syslog;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use rolekeeper::protocol::{CredentialHolder, Failure, JournalReport, SessionEnded};
use tokio::sync::oneshot;

use crate::access::peer::{Peer, PeerHandle};
use crate::cache::freshness::Session;
use crate::clock::BootTime;
use crate::config::AlsoTo;
use crate::sync::lock;
use file::{Chain, KEPT};
use rate_limit::Refusals;
use record::{Event, Record};
use writer::JournalWriter;

pub use file::Verified;
pub use record::What;

/// The most of the file of earlier versions, in bytes.
const BEFORE: u64 = 16 * 1024 * 1024;
/// The most users whose refusals are counted one by one.
const USERS: usize = 256;

#[derive(Debug, Clone)]
pub struct Journal {
    records: Arc<Mutex<VecDeque<Record>>>,
    queue: Sender<Note>,
    refusals: Arc<Mutex<BTreeMap<u32, Refusals>>>,
}

/// What was noted of a profile.
#[derive(Debug)]
pub struct IssuanceRecord {
    pub holders: Vec<CredentialHolder>,
    pub endings: Vec<SessionEnded>,
    /// When the record as a whole begins.
    pub since: Option<String>,
}

/// A session whose credentials somebody was given.
#[derive(Debug)]
pub struct Issuance {
    pub profile: String,
    pub principal: String,
    /// By the upstream's clock: the last time.
    pub last_at: Timestamp,
}

#[derive(Debug)]
enum Note {
    /// A record whose processes are still to be filled in.
    Issuance(CredentialHolder, Arc<PeerHandle>),
    Event(Event, Arc<PeerHandle>),
    Ended(Record),
    Verify(oneshot::Sender<Option<JournalReport>>),
    /// Whoever waits here wants everything before it to be written.
    Flush(oneshot::Sender<()>),
}

impl Journal {
    /// A record that lasts as long as the daemon.
    pub fn in_memory() -> Self {
        Self::start(VecDeque::new(), None, &[])
    }

    /// Reads what earlier daemons wrote, and goes on behind it; what a version wrote that had one file for all is read, too.
    /// A line that is not a record is left out, and where it is.
    pub fn open(path: &Path, before: &Path, also_to: &[AlsoTo]) -> io::Result<Self> {
        let mut records: VecDeque<Record> = VecDeque::new();
        let mut found = |record| {
            if !matches!(record, Record::Event(_)) {
                records.push_back(record);
            }
            if records.len() > KEPT {
                records.pop_front();
            }
        };
        if !path.exists()
            && let Ok(text) = crate::platform::private_file::read_within(before, BEFORE)
        {
            // It is gone on behind.
            crate::platform::private_file::replace(path, text.as_bytes())?;
        }
        let chain = Chain::open(path, &mut found)?;
        Ok(Self::start(records, Some(chain), also_to))
    }

    fn start(records: VecDeque<Record>, chain: Option<Chain>, also_to: &[AlsoTo]) -> Self {
        let (queue, notes) = mpsc::channel();
        let records = Arc::new(Mutex::new(records));
        let desk = JournalWriter::new(Arc::clone(&records), chain, also_to);
        thread::spawn(move || desk.write(&notes));
        Self {
            records,
            queue,
            refusals: Arc::default(),
        }
    }

    /// Notes that a peer is given a session's credentials; a connection is noted once for each session.
    pub fn handed(&self, peer: &Peer, profile: &str, session: &Session, now: BootTime) {
        if peer.is_first_time(&session.granted.session_id) {
            self.note(peer, profile, session, now, None);
        }
    }

    /// Notes that one call was made for a peer, which has seen nothing of the session.
    pub fn called(
        &self,
        peer: &Peer,
        profile: &str,
        session: &Session,
        now: BootTime,
        request_id: Option<&str>,
    ) {
        if let Some(request_id) = request_id {
            self.note(peer, profile, session, now, Some(request_id.into()));
        }
    }

    fn note(
        &self,
        peer: &Peer,
        profile: &str,
        session: &Session,
        now: BootTime,
        request_id: Option<String>,
    ) {
        // The upstream's time, whatever this machine's clock says: never late, and early by the round trip of the grant.
        let issued_at = session.granted.issued_at;
        let record = CredentialHolder {
            at: shown(
                issued_at
                    .saturating_add(now.since(session.received_at))
                    .unwrap_or(issued_at),
            ),
            session_id: session.granted.session_id.to_string(),
            principal: session.granted.principal.to_string(),
            profile: profile.into(),
            uid: peer.uid,
            request_id,
            how: peer.how().map(Into::into),
            left_out: None,
            processes: Vec::new(),
        };
        // The thread ends with the journal, not before.
        let _ = self
            .queue
            .send(Note::Issuance(record, Arc::clone(peer.trace())));
    }

    /// Notes that a session has ended before its time, or what more is known of it.
    pub fn ended(&self, profile: &str, ending: &SessionEnded) {
        let _ = self.queue.send(Note::Ended(Record::Ended {
            profile: profile.into(),
            ending: ending.clone(),
        }));
    }

    /// Notes what happened to a peer's request, or by it.
    pub fn event(
        &self,
        peer: &Peer,
        what: What,
        of: &str,
        code: Option<&str>,
        message: Option<String>,
        now: Timestamp,
    ) {
        let event = Event {
            event: what,
            at: shown(now),
            of: of.into(),
            uid: peer.uid,
            code: code.map(Into::into),
            message,
            left_out: None,
            processes: Vec::new(),
        };
        let _ = self
            .queue
            .send(Note::Event(event, Arc::clone(peer.trace())));
    }

    /// Notes that a peer was not given what it asked for. Of many only some are written, and how many were not.
    pub fn refused(&self, peer: &Peer, profile: &str, failure: &Failure, now: &crate::clock::Now) {
        let left_out = {
            let mut refusals = lock(&self.refusals);
            // Of so many users all others count as one.
            let uid = if refusals.len() < USERS || refusals.contains_key(&peer.uid) {
                peer.uid
            } else {
                u32::MAX
            };
            refusals.entry(uid).or_default().admit(now.boot)
        };
        let Some(left_out) = left_out else { return };
        let event = Event {
            event: What::Refused,
            at: shown(now.wall),
            of: crate::printable(profile),
            uid: peer.uid,
            code: Some(failure.code.as_str().into()),
            message: Some(crate::one_line(&failure.message)),
            left_out: Some(left_out).filter(|count| *count > 0),
            processes: Vec::new(),
        };
        let _ = self
            .queue
            .send(Note::Event(event, Arc::clone(peer.trace())));
    }

    /// Looks through the file; nothing, if there is none.
    pub async fn verify(&self) -> Option<JournalReport> {
        let (done, wait) = oneshot::channel();
        self.queue.send(Note::Verify(done)).ok()?;
        wait.await.ok().flatten()
    }

    /// Waits until everything that was noted is written.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Note::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }

    /// What was noted of a profile until now.
    pub async fn of(&self, profile: &str) -> IssuanceRecord {
        self.flush().await;
        let records = lock(&self.records);
        let since = records.front().map(|record| record.at().to_owned());
        let (mut holders, mut endings) = (Vec::new(), Vec::new());
        for record in records.iter().filter(|record| record.profile() == profile) {
            match record {
                Record::Issuance(holder) => holders.push(holder.clone()),
                Record::Ended { ending, .. } => endings.push(ending.clone()),
                Record::Event(_) => {}
            }
        }
        IssuanceRecord {
            holders,
            endings,
            since,
        }
    }

    /// Every session whose credentials somebody was given, as far as the record goes back.
    pub async fn sessions(&self) -> BTreeMap<String, Issuance> {
        self.flush().await;
        let mut sessions = BTreeMap::new();
        for record in &*lock(&self.records) {
            if let Record::Issuance(CredentialHolder {
                at,
                session_id,
                principal,
                profile,
                ..
            }) = record
                && let Ok(last_at) = at.parse()
            {
                let handed = Issuance {
                    profile: profile.clone(),
                    principal: principal.clone(),
                    last_at,
                };
                sessions.insert(session_id.clone(), handed);
            }
        }
        sessions
    }
}

/// To the millisecond, and never rounded up.
pub(crate) fn shown(at: Timestamp) -> String {
    DateTimePrinter::new()
        .precision(Some(3))
        .timestamp_to_string(&at)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;
    use crate::cache::freshness::ListPresence;
    use crate::cache::session_state::Generation;
    use crate::upstream::IssuedSession;

    fn session(id: &str) -> Session {
        let at = |seconds| BootTime::ZERO.plus(std::time::Duration::from_secs(seconds));
        let granted = IssuedSession {
            session_id: id.into(),
            ..IssuedSession::example()
        };
        Session {
            granted,
            obtained_at: at(0),
            received_at: at(1),
            refresh_left: std::time::Duration::from_secs(90),
            generation: Generation::default(),
            sightings: ListPresence::default(),
        }
    }

    #[tokio::test]
    async fn what_was_noted_is_there_after_a_restart_and_a_broken_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::open(&path, &dir.path().join("none"), &[]).unwrap();
        let now = BootTime::ZERO.plus(std::time::Duration::from_secs(61));
        for peer in [Peer::new(7, None), Peer::new(8, None)] {
            journal.handed(&peer, "dev", &session("s-1"), now);
            journal.handed(&peer, "dev", &session("s-1"), now);
        }
        journal.handed(&Peer::new(7, None), "other", &session("s-2"), now);
        let noted = journal.of("dev").await.holders;
        let seen: Vec<_> = noted
            .iter()
            .map(|record| (record.uid, record.session_id.as_str(), record.at.as_str()))
            .collect();
        let at = "1970-01-01T00:01:00.000Z";
        assert_eq!(
            seen,
            [(7, "s-1", at), (8, "s-1", at)],
            "a minute after the answer came, by the upstream's clock"
        );
        drop(journal);
        crate::platform::private_file::writable()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"\xff\n{\"at\":")
            .unwrap();
        assert_eq!(
            Journal::open(&path, &dir.path().join("none"), &[])
                .unwrap()
                .of("dev")
                .await
                .holders,
            noted
        );
        assert_eq!(
            std::fs::read(&path)
                .unwrap()
                .iter()
                .filter(|byte| **byte == b'\n')
                .count(),
            4,
            "it stays where it is"
        );
    }

    #[tokio::test]
    async fn of_many_that_are_alike_some_are_written_and_the_others_counted() {
        let dir = tempfile::tempdir().unwrap();
        let journal =
            Journal::open(&dir.path().join("journal"), &dir.path().join("none"), &[]).unwrap();
        let at = |seconds| BootTime::ZERO.plus(Duration::from_secs(seconds));
        for _ in 0..1_000 {
            journal.handed(&Peer::new(7, None), "dev", &session("s-1"), at(10));
        }
        journal.handed(&Peer::new(8, None), "dev", &session("s-1"), at(11));
        assert_eq!(
            journal.of("dev").await.holders.len(),
            21,
            "another user is another"
        );
        journal.handed(&Peer::new(7, None), "dev", &session("s-1"), at(90));
        let holders = journal.of("dev").await.holders;
        assert_eq!(
            (holders.len(), holders[21].left_out, holders[22].left_out),
            (23, Some(980), None)
        );
    }
}
