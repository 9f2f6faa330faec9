//! Who was given credentials, and what was done with them: the daemon's own record of processes, joined with the
//! upstream's audit log.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use rolekeeper::protocol::{Audit, AuditedCall, Holder};

use crate::broker::{Broker, Refusal, WAIT};
use crate::cache::state::Session;
use crate::clock::Boot;
use crate::iam::NoCall;
use crate::lock;
use crate::serve::peer::Peer;
use crate::upstream::bycloud::{AuditLog, ByCloud, IamError, ListAuditLogs, Method, SessionId};

/// How many records are kept, in memory and, give or take as many again, in the file.
const KEPT: usize = 10_000;
/// The most calls that are shown.
const SHOWN: usize = 5_000;

/// The record of who was given which session's credentials: a line of JSON each, in a file that only the user reads.
#[derive(Debug)]
pub struct Journal(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    records: VecDeque<Holder>,
    /// Absent when there is no place for one; then the record lasts as long as the daemon.
    file: Option<Lines>,
}

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
    written: usize,
}

impl Journal {
    pub fn in_memory() -> Self {
        Self(Mutex::new(Inner { records: VecDeque::new(), file: None }))
    }

    /// Reads what earlier daemons wrote, and goes on behind it. A line that is not a record is left out.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut records: VecDeque<Holder> = VecDeque::new();
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file).lines() {
                records.extend(serde_json::from_str::<Holder>(&line?));
                if records.len() > KEPT {
                    records.pop_front();
                }
            }
        }
        let file = Lines::rewrite(path, &records)?;
        Ok(Self(Mutex::new(Inner { records, file: Some(file) })))
    }

    /// Notes that a peer was given a session's credentials; a connection is noted once for each session.
    pub fn handed(&self, peer: &Peer, profile: &str, session: &Session, now: Boot) {
        let id = &session.granted.session_id;
        if !peer.is_first_time(id) {
            return;
        }
        // The upstream's time, whatever this machine's clock says: never late, and early by the round trip of the grant.
        let issued_at = session.granted.issued_at;
        let record = Holder {
            at: shown(issued_at.saturating_add(now.since(session.received_at)).unwrap_or(issued_at)),
            session_id: id.clone(),
            principal: session.granted.principal.clone(),
            profile: profile.into(),
            uid: peer.uid,
            processes: peer.lineage(),
        };
        if let Err(error) = lock(&self.0).add(record) {
            tracing::warn!(%error, "the record of who was given credentials cannot be written");
        }
    }

    /// Every process that was given credentials of a profile.
    fn holders(&self, profile: &str) -> Vec<Holder> {
        lock(&self.0).records.iter().filter(|record| record.profile == profile).cloned().collect()
    }
}

impl Inner {
    fn add(&mut self, record: Holder) -> io::Result<()> {
        self.records.push_back(record);
        if self.records.len() > KEPT {
            self.records.pop_front();
        }
        let (Some(lines), Some(record)) = (&mut self.file, self.records.back()) else { return Ok(()) };
        if lines.written >= 2 * KEPT {
            *lines = Lines::rewrite(&lines.path.clone(), &self.records)?;
            return Ok(());
        }
        lines.written += 1;
        lines.file.write_all(&line(record)?)
    }
}

impl Lines {
    /// The file anew, with these records, in place of the old one at once.
    fn rewrite(path: &Path, records: &VecDeque<Holder>) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut text = Vec::new();
        for record in records {
            text.extend(line(record)?);
        }
        options.open(&fresh)?.write_all(&text)?;
        std::fs::rename(&fresh, path)?;
        Ok(Self { path: path.into(), file: OpenOptions::new().append(true).open(path)?, written: records.len() })
    }
}

fn line(record: &Holder) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

impl Broker {
    /// The calls that a profile's sessions made at the upstream, each with the processes that may have made it.
    pub async fn audit(&self, peer: &Peer, profile: &str, back: Duration) -> Result<Audit, Refusal> {
        let slot = self.cache.find(profile).ok_or_else(|| self.unknown(profile))?;
        let grant = self.policy.authorize(peer, slot).map_err(Refusal::Denied)?;
        let client = self.bycloud_of(profile)?;
        let since = self.clock.now().wall.saturating_sub(SignedDuration::try_from(back).unwrap_or(SignedDuration::MAX));
        let since = since.unwrap_or(Timestamp::UNIX_EPOCH);
        let holders = self.journal.holders(profile);
        let mut sessions: BTreeSet<&str> = holders.iter().map(|holder| holder.session_id.as_str()).collect();
        let mut principals: BTreeSet<&str> = holders.iter().map(|holder| holder.principal.as_str()).collect();
        let current = grant.slot().session();
        if let Some(session) = &current {
            sessions.insert(&session.granted.session_id);
            principals.insert(&session.granted.principal);
        }
        let entries = tokio::time::timeout(WAIT, entries(client, &principals, &sessions, since))
            .await
            .map_err(|_| Refusal::StillWaiting)?
            .map_err(|error| NoCall::Failed { error: Arc::new(error), route: ListAuditLogs::ROUTE })?;
        let truncated = entries.len() >= SHOWN;
        let calls = entries.into_iter().map(|entry| audited(entry, &holders)).collect();
        Ok(Audit { profile: profile.into(), since: shown(since), calls, truncated, holders })
    }
}

/// The entries of these sessions, oldest first.
async fn entries(
    client: &ByCloud,
    principals: &BTreeSet<&str>,
    sessions: &BTreeSet<&str>,
    since: Timestamp,
) -> Result<Vec<AuditLog>, IamError> {
    let mut found = Vec::new();
    for principal in principals {
        let id = principal.split_once('/').map_or(*principal, |(_, id)| id);
        let request = ListAuditLogs {
            actor_id: Some(id.into()),
            from: Some(since),
            limit: Some(1000),
            ..ListAuditLogs::default()
        };
        let mut entries = std::pin::pin!(client.items(request));
        while let Some(entry) = entries.try_next().await? {
            if entry.session_id.as_ref().is_some_and(|id| sessions.contains(id.as_str())) {
                found.push(entry);
            }
            if found.len() >= SHOWN {
                break;
            }
        }
    }
    found.sort_by_key(|entry| entry.timestamp);
    Ok(found)
}

/// To the millisecond, and never rounded up.
fn shown(at: Timestamp) -> String {
    DateTimePrinter::new().precision(Some(3)).timestamp_to_string(&at)
}

fn audited(entry: AuditLog, holders: &[Holder]) -> AuditedCall {
    let session_id = entry.session_id.as_ref().map(SessionId::to_string).unwrap_or_default();
    let had_it = |holder: &Holder| {
        let is_earlier = holder.at.parse::<Timestamp>().is_ok_and(|at| at <= entry.timestamp);
        holder.session_id == session_id && is_earlier
    };
    AuditedCall {
        holders: holders.iter().enumerate().filter(|(_, holder)| had_it(holder)).map(|(index, _)| index).collect(),
        at: shown(entry.timestamp),
        resource: entry.resource_id.map_or(entry.resource_type.clone(), |id| format!("{}/{id}", entry.resource_type)),
        action: entry.action,
        status: entry.status.as_str().into(),
        ip_address: entry.ip_address,
        session_id,
        request_id: entry.request_id,
    }
}
