//! The journal: which processes received credentials or were refused, which approvals the user gave, which sessions ended
//! early. Its file has one JSON object a line, and only the user can read it.
//!
//! No request waits for it: its own thread waits for the inspection of the caller's process, and writes.

mod file;
mod rate_limit;
pub(crate) mod record;
mod retention;
mod syslog;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use jiff::Timestamp;
use rolekeeper::protocol;
use tokio::sync::oneshot;

use crate::cache::CacheEntry;
use crate::cache::session::Session;
use crate::clock::{BootTime, Now};
use crate::config::AlsoTo;
use crate::model::{self, to_rfc3339_millis};
use crate::sandbox::helper::peer_inspector::PendingInspection;
use crate::sync::lock;
use crate::text::{one_line, printable};
use file::JournalFile;
use rate_limit::UserLimiter;
use record::Record;
use writer::{Writer, push_bounded};

pub(crate) use record::{CallerRecord, Decision, SessionEnded, SessionUse, Via};

/// A handle to the journal. Its clones write to the same one.
#[derive(Debug, Clone)]
pub struct Journal {
    path: Option<Arc<Path>>,
    /// The newest records that the daemon itself reads.
    records: Arc<Mutex<VecDeque<Record>>>,
    queue: Sender<Message>,
    refusals: Arc<Mutex<UserLimiter>>,
    commands: Arc<Mutex<UserLimiter>>,
}

/// The process that made a request, while its inspection may still be pending.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) uid: u32,
    /// Absent for requests without a connection, such as a click on a desktop notification.
    pub(crate) via: Option<Via>,
    pub(crate) inspection: Arc<PendingInspection>,
}

/// The session that a caller uses.
#[derive(Debug, Clone, Copy)]
pub struct UsedSession<'a> {
    pub profile: &'a str,
    pub session_id: &'a str,
    pub principal: &'a str,
    /// The time of the use, by the upstream's clock.
    pub at: Timestamp,
}

impl<'a> UsedSession<'a> {
    pub(crate) fn new(entry: &'a CacheEntry, session: &'a Session, now: BootTime) -> Self {
        Self {
            profile: entry.profile.name.as_str(),
            session_id: session.id(),
            principal: &session.issued.principal,
            at: session.upstream_time(now),
        }
    }
}

/// What the daemon's owner requests.
#[derive(Debug, Default)]
pub(crate) struct Command {
    /// `resume`, `iam attachRolePolicy`
    pub(crate) name: String,
    pub(crate) profile: Option<String>,
    pub(crate) upstream: Option<String>,
    /// The session, or the parameters of a method.
    pub(crate) target: Option<String>,
}

impl Command {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// The records of one profile, oldest first.
#[derive(Debug)]
pub struct ProfileHistory {
    pub uses: Vec<SessionUse>,
    pub(crate) ended: Vec<SessionEnded>,
    /// RFC 3339: the time of the journal's oldest record, of whatever profile.
    pub(crate) since: Option<String>,
}

/// The last use of a session.
#[derive(Debug)]
pub(crate) struct LastUse {
    pub(crate) profile: String,
    pub(crate) principal: String,
    /// By the upstream's clock.
    pub(crate) at: Timestamp,
}

#[derive(Debug)]
enum Message {
    /// A record, and the inspection of its caller.
    Record(Record, Option<Arc<PendingInspection>>),
    /// Answered when all earlier messages are handled.
    Flush(oneshot::Sender<()>),
}

impl Journal {
    /// A journal that ends with the daemon.
    pub fn in_memory() -> Self {
        Self::start(VecDeque::new(), None, &[])
    }

    /// Reads the records of earlier daemons, and continues their file.
    ///
    /// # Errors
    /// If the path leads to something else than a regular file, or the file cannot be read or created.
    pub(crate) fn open(path: &Path, also_to: &[AlsoTo]) -> io::Result<Self> {
        let mut records = VecDeque::new();
        let file = JournalFile::open(path, |record| {
            if record.is_read() {
                push_bounded(&mut records, record);
            }
        })?;
        Ok(Self::start(records, Some(file), also_to))
    }

    fn start(records: VecDeque<Record>, file: Option<JournalFile>, also_to: &[AlsoTo]) -> Self {
        let (queue, messages) = mpsc::channel();
        let path = file.as_ref().map(|file| file.path().into());
        let records = Arc::new(Mutex::new(records));
        let writer = Writer::new(Arc::clone(&records), file, also_to);
        thread::spawn(move || writer.run(&messages));
        Self {
            path,
            records,
            queue,
            refusals: Arc::new(Mutex::new(UserLimiter::of_refusals())),
            commands: Arc::new(Mutex::new(UserLimiter::of_commands())),
        }
    }

    /// Records that a caller received a session's credentials. Call it once for a connection and session.
    pub fn record_issuance(&self, caller: Caller, session: UsedSession<'_>) {
        self.record_use(caller, session, None);
    }

    /// Records one API call that the daemon made with a session for a caller.
    pub(crate) fn record_call(&self, caller: Caller, session: UsedSession<'_>, request_id: &str) {
        self.record_use(caller, session, Some(request_id.into()));
    }

    fn record_use(&self, caller: Caller, session: UsedSession<'_>, request_id: Option<String>) {
        let usage = SessionUse {
            at: to_rfc3339_millis(session.at),
            profile: session.profile.into(),
            session_id: session.session_id.into(),
            principal: session.principal.into(),
            request_id,
            suppressed: 0,
            caller: caller.record(),
        };

        self.send(usage.into(), Some(caller.inspection));
    }

    /// Records that a request of this user was refused, unless the user has had too many refusals. Only what is recorded
    /// has its caller inspected.
    pub(crate) fn record_refusal(
        &self,
        uid: u32,
        caller: impl FnOnce() -> Caller,
        profile: &str,
        failure: &protocol::Failure,
        now: &Now,
    ) {
        let admitted = lock(&self.refusals).admit(uid, now.boot);
        let Some(suppressed) = admitted else { return };
        let caller = caller();
        let record = Record::Refused {
            at: to_rfc3339_millis(now.wall),
            profile: printable(profile),
            code: failure.code.as_str().into(),
            message: one_line(&failure.message),
            suppressed,
            caller: caller.record(),
        };

        self.send(record, Some(caller.inspection));
    }

    /// Records that the user is asked to approve a program, as `program` describes it.
    pub(crate) fn record_approval_request(
        &self,
        caller: Caller,
        profile: &str,
        program: &str,
        now: Timestamp,
    ) {
        let record = Record::ApprovalRequested {
            at: to_rfc3339_millis(now),
            profile: profile.into(),
            program: program.into(),
            caller: caller.record(),
        };
        self.send(record, Some(caller.inspection));
    }

    /// Records a decision, with the caller that made it.
    pub(crate) fn record_approval_decision(
        &self,
        caller: Caller,
        profile: &str,
        program: &str,
        decision: Decision,
        now: Timestamp,
    ) {
        let record = Record::ApprovalDecided {
            at: to_rfc3339_millis(now),
            profile: profile.into(),
            program: program.into(),
            decision,
            caller: caller.record(),
        };
        self.send(record, Some(caller.inspection));
    }

    /// Records that a token was stored for an upstream.
    pub(crate) fn record_login(
        &self,
        caller: Caller,
        upstream: &str,
        principal: Option<&str>,
        now: Timestamp,
    ) {
        let record = Record::LoggedIn {
            at: to_rfc3339_millis(now),
            upstream: upstream.into(),
            principal: principal.map(Into::into),
            caller: caller.record(),
        };
        self.send(record, Some(caller.inspection));
    }

    /// Records what the daemon's owner requested, with its outcome: `ok`, or the name of the error.
    pub(crate) fn record_command(
        &self,
        caller: Caller,
        command: Command,
        outcome: &str,
        now: &Now,
    ) {
        let admitted = lock(&self.commands).admit(caller.uid, now.boot);
        let Some(suppressed) = admitted else { return };
        let record = Record::Command {
            at: to_rfc3339_millis(now.wall),
            command: command.name,
            profile: command.profile.as_deref().map(printable),
            upstream: command.upstream.as_deref().map(printable),
            target: command.target.as_deref().map(one_line),
            outcome: outcome.into(),
            suppressed,
            caller: caller.record(),
        };

        self.send(record, Some(caller.inspection));
    }

    /// Records that a session ended before it expired.
    pub(crate) fn record_session_end(&self, profile: &str, ended: &model::SessionEnded) {
        let record = Record::SessionEnded(SessionEnded::new(profile, ended));
        self.send(record, None);
    }

    fn send(&self, record: Record, inspection: Option<Arc<PendingInspection>>) {
        // The thread lives as long as this sender.
        let _ = self.queue.send(Message::Record(record, inspection));
    }

    /// The path of the file, unless the journal is in memory.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.path.as_deref().map(Path::to_owned)
    }

    /// Waits until all earlier records are written.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }

    /// The records of a profile until now.
    pub async fn history_of(&self, profile: &str) -> ProfileHistory {
        self.flush().await;
        let records = lock(&self.records);
        let mut history = ProfileHistory {
            uses: Vec::new(),
            ended: Vec::new(),
            since: records.front().map(|record| record.at().to_owned()),
        };

        for record in &*records {
            match record {
                Record::Issued(usage) | Record::Called(usage) if usage.profile == profile => {
                    history.uses.push(usage.clone());
                }
                Record::SessionEnded(ended) if ended.profile == profile => {
                    history.ended.push(ended.clone());
                }
                _ => {}
            }
        }

        history
    }

    /// Every session in the journal, by its id.
    pub(crate) async fn sessions(&self) -> BTreeMap<String, LastUse> {
        self.flush().await;
        let mut sessions = BTreeMap::new();
        for record in &*lock(&self.records) {
            if let Record::Issued(usage) | Record::Called(usage) = record
                && let Ok(at) = usage.at.parse()
            {
                let last = LastUse {
                    profile: usage.profile.clone(),
                    principal: usage.principal.clone(),
                    at,
                };
                sessions.insert(usage.session_id.clone(), last);
            }
        }

        sessions
    }
}

impl Caller {
    /// The part that is known before the inspection ends.
    fn record(&self) -> CallerRecord {
        CallerRecord {
            uid: self.uid,
            via: self.via,
            processes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
