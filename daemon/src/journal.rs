//! The daemon's own record: who was given credentials, and which sessions ended before their time. A line of JSON each,
//! in a file that only the user reads.
//!
//! Nobody waits for it: a thread of its own looks up the parents of processes and writes.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use rolekeeper::protocol::{Ending, Holder};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::cache::state::Session;
use crate::clock::Boot;
use crate::private_file;
use crate::serve::peer::{Peer, Trace};
use crate::sync::lock;

/// How many records are kept, in memory and, give or take as many again, in the file.
const KEPT: usize = 10_000;
/// How long a record waits for its thread. Woken at once, it would take the core on which an answer is being written.
const LATER: Duration = Duration::from_millis(10);
/// The most that is read of a file, in bytes: more than as many records as it ever holds.
const FILE_CAP: u64 = 64 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct Journal {
    records: Arc<Mutex<VecDeque<Record>>>,
    queue: Sender<Note>,
}

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Record {
    Ended {
        profile: String,
        #[serde(flatten)]
        ending: Ending,
    },
    Handed(Holder),
}

/// What was noted of a profile.
#[derive(Debug)]
pub struct Noted {
    pub holders: Vec<Holder>,
    pub endings: Vec<Ending>,
    /// When the record as a whole begins.
    pub since: Option<String>,
}

/// A session whose credentials somebody was given.
#[derive(Debug)]
pub struct Handed {
    pub profile: String,
    pub principal: String,
    /// By the upstream's clock: the last time.
    pub last_at: Timestamp,
}

impl Record {
    fn profile(&self) -> &str {
        match self {
            Self::Ended { profile, .. } => profile,
            Self::Handed(holder) => &holder.profile,
        }
    }

    fn at(&self) -> &str {
        match self {
            Self::Ended { ending, .. } => &ending.noticed_at,
            Self::Handed(holder) => &holder.at,
        }
    }
}

#[derive(Debug)]
enum Note {
    /// A record whose processes are still to be filled in.
    Handed(Holder, Arc<Trace>),
    Ended(Record),
    /// Whoever waits here wants everything before it to be written.
    Flush(oneshot::Sender<()>),
}

/// The file. It is opened for each line, so that a line goes to where the path leads, also when another daemon of the
/// same user has rewritten it.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    written: usize,
}

impl Journal {
    /// A record that lasts as long as the daemon.
    pub fn in_memory() -> Self {
        Self::start(VecDeque::new(), None)
    }

    /// Reads what earlier daemons wrote, and goes on behind it. A line that is not a record is left out.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Opening a pipe would wait for its writer.
        if path.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let mut records: VecDeque<Record> = VecDeque::new();
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file.take(FILE_CAP)).split(b'\n') {
                records.extend(serde_json::from_slice::<Record>(&line?));
                if records.len() > KEPT {
                    records.pop_front();
                }
            }
        }
        let file = Lines::rewrite(path, &records)?;
        Ok(Self::start(records, Some(file)))
    }

    fn start(records: VecDeque<Record>, file: Option<Lines>) -> Self {
        let (queue, notes) = mpsc::channel();
        let records = Arc::new(Mutex::new(records));
        let shared = Arc::clone(&records);
        thread::spawn(move || write(&notes, &shared, file));
        Self { records, queue }
    }

    /// Notes that a peer is given a session's credentials; a connection is noted once for each session.
    pub fn handed(&self, peer: &Peer, profile: &str, session: &Session, now: Boot) {
        if peer.is_first_time(&session.granted.session_id) {
            self.note(peer, profile, session, now, None);
        }
    }

    /// Notes that one call was made for a peer, which has seen nothing of the session.
    pub fn called(&self, peer: &Peer, profile: &str, session: &Session, now: Boot, request_id: Option<&str>) {
        if let Some(request_id) = request_id {
            self.note(peer, profile, session, now, Some(request_id.into()));
        }
    }

    fn note(&self, peer: &Peer, profile: &str, session: &Session, now: Boot, request_id: Option<String>) {
        // The upstream's time, whatever this machine's clock says: never late, and early by the round trip of the grant.
        let issued_at = session.granted.issued_at;
        let record = Holder {
            at: shown(issued_at.saturating_add(now.since(session.received_at)).unwrap_or(issued_at)),
            session_id: session.granted.session_id.to_string(),
            principal: session.granted.principal.to_string(),
            profile: profile.into(),
            uid: peer.uid,
            request_id,
            processes: Vec::new(),
        };
        // The thread ends with the journal, not before.
        let _ = self.queue.send(Note::Handed(record, Arc::clone(peer.trace())));
    }

    /// Notes that a session has ended before its time, or what more is known of it.
    pub fn ended(&self, profile: &str, ending: &Ending) {
        let _ = self.queue.send(Note::Ended(Record::Ended { profile: profile.into(), ending: ending.clone() }));
    }

    /// Waits until everything that was noted is written.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Note::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }

    /// What was noted of a profile until now.
    pub async fn of(&self, profile: &str) -> Noted {
        self.flush().await;
        let records = lock(&self.records);
        let since = records.front().map(|record| record.at().to_owned());
        let (mut holders, mut endings) = (Vec::new(), Vec::new());
        for record in records.iter().filter(|record| record.profile() == profile) {
            match record {
                Record::Handed(holder) => holders.push(holder.clone()),
                Record::Ended { ending, .. } => endings.push(ending.clone()),
            }
        }
        Noted { holders, endings, since }
    }

    /// Every session whose credentials somebody was given, as far as the record goes back.
    pub async fn sessions(&self) -> BTreeMap<String, Handed> {
        self.flush().await;
        let mut sessions = BTreeMap::new();
        for record in &*lock(&self.records) {
            if let Record::Handed(Holder { at, session_id, principal, profile, .. }) = record
                && let Ok(last_at) = at.parse()
            {
                let handed = Handed { profile: profile.clone(), principal: principal.clone(), last_at };
                sessions.insert(session_id.clone(), handed);
            }
        }
        sessions
    }
}

/// To the millisecond, and never rounded up.
pub(crate) fn shown(at: Timestamp) -> String {
    DateTimePrinter::new().precision(Some(3)).timestamp_to_string(&at)
}

/// The thread: completes, keeps and writes records until the journal is gone.
fn write(notes: &Receiver<Note>, records: &Mutex<VecDeque<Record>>, mut file: Option<Lines>) {
    while let Ok(first) = notes.recv() {
        // Not in the moment in which whoever it is about is to be answered.
        thread::sleep(LATER);
        for note in std::iter::once(first).chain(notes.try_iter()) {
            keep(note, records, &mut file);
        }
    }
}

fn keep(note: Note, records: &Mutex<VecDeque<Record>>, file: &mut Option<Lines>) {
    let record = match note {
        Note::Flush(done) => {
            let _ = done.send(());
            return;
        }
        Note::Handed(mut holder, trace) => {
            holder.processes = trace.sight().processes();
            Record::Handed(holder)
        }
        Note::Ended(record) => record,
    };
    if let Some(lines) = file {
        lines.add(&record, records);
    }
    let mut records = lock(records);
    records.push_back(record);
    if records.len() > KEPT {
        records.pop_front();
    }
}

impl Lines {
    /// A failure is said once, and mended by writing everything anew when there is room again.
    fn add(&mut self, record: &Record, before: &Mutex<VecDeque<Record>>) {
        if let Err(error) = self.try_add(record, before) {
            if self.written != usize::MAX {
                tracing::warn!(path = %self.path.display(), %error, "who is given credentials cannot be written");
            }
            self.written = usize::MAX;
        }
    }

    fn try_add(&mut self, record: &Record, before: &Mutex<VecDeque<Record>>) -> io::Result<()> {
        if self.written >= 2 * KEPT {
            *self = Self::rewrite(&self.path, &lock(before))?;
        }
        self.written += 1;
        private_file::writable().append(true).open(&self.path)?.write_all(&line(record)?)
    }

    /// The file anew, with these records, in place of the old one at once.
    fn rewrite(path: &Path, records: &VecDeque<Record>) -> io::Result<Self> {
        let mut text = Vec::new();
        for record in records {
            text.extend(line(record)?);
        }
        private_file::replace(path, &text)?;
        Ok(Self { path: path.into(), written: records.len() })
    }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::standing::Generation;
    use crate::cache::state::Sightings;
    use crate::upstream::Granted;

    fn session(id: &str) -> Session {
        let at = |seconds| Boot::ZERO.plus(std::time::Duration::from_secs(seconds));
        let granted = Granted { session_id: id.into(), ..Granted::example() };
        Session {
            granted,
            obtained_at: at(0),
            received_at: at(1),
            refresh_left: std::time::Duration::from_secs(90),
            generation: Generation::default(),
            sightings: Sightings::default(),
        }
    }

    #[tokio::test]
    async fn what_was_noted_is_there_after_a_restart_and_a_broken_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases.jsonl");
        let journal = Journal::open(&path).unwrap();
        let now = Boot::ZERO.plus(std::time::Duration::from_secs(61));
        for peer in [Peer::new(7, None), Peer::new(8, None)] {
            journal.handed(&peer, "dev", &session("s-1"), now);
            journal.handed(&peer, "dev", &session("s-1"), now);
        }
        journal.handed(&Peer::new(7, None), "other", &session("s-2"), now);
        let noted = journal.of("dev").await.holders;
        let seen: Vec<_> =
            noted.iter().map(|record| (record.uid, record.session_id.as_str(), record.at.as_str())).collect();
        let at = "1970-01-01T00:01:00.000Z";
        assert_eq!(seen, [(7, "s-1", at), (8, "s-1", at)], "a minute after the answer came, by the upstream's clock");
        drop(journal);
        private_file::writable().append(true).open(&path).unwrap().write_all(b"\xff\n{\"at\":").unwrap();
        assert_eq!(Journal::open(&path).unwrap().of("dev").await.holders, noted);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn links_and_pipes_are_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("leases.jsonl"), dir.path().join("precious"));
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("leases.jsonl.new")).unwrap();
        drop(Journal::open(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), dir.path()] {
            assert!(Journal::open(path).unwrap_err().to_string().contains("it is not a file"));
        }
    }

    #[tokio::test]
    async fn the_file_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases.jsonl");
        let journal = Journal::open(&path).unwrap();
        for number in 0..2 * KEPT + 5 {
            journal.handed(&Peer::new(7, None), "dev", &session(&format!("s-{number}")), Boot::ZERO);
        }
        let kept = journal.of("dev").await.holders;
        assert_eq!((kept.len(), kept[0].session_id.as_str()), (KEPT, "s-10005"));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), KEPT + 5);
    }
}
