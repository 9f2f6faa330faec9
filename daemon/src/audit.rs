//! `rolekeeper audit`: the calls that a profile's sessions made, from the upstream's audit log, joined with the processes
//! that the journal recorded as having their credentials. `rolekeeper journal`: where the journal is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use rolekeeper::protocol::{
    Audit, AuditedCall, CredentialHolder, Failure, HolderGroup, JournalLocation, Process,
    SessionEnded,
};

use crate::access::OwnerGrant;
use crate::access::peer::Peer;
use crate::clock::Clock;
use crate::error::{RequestError, WAIT, code, outcome};
use crate::journal::{self, Command, Journal, ProfileHistory, SessionUse};
use crate::model::{to_rfc3339, to_rfc3339_millis};
use crate::report;
use crate::upstream::{AuditEntry, AuditLog, AuditQuery, CallError};

/// The most calls that a report has.
const MAX_CALLS: usize = 5_000;

#[derive(Debug)]
pub(crate) struct AuditService {
    clock: Clock,
    journal: Arc<Journal>,
}

impl AuditService {
    pub(crate) fn new(clock: Clock, journal: Arc<Journal>) -> Arc<Self> {
        Arc::new(Self { clock, journal })
    }

    /// The calls that a profile's sessions made at the upstream, each with the processes that may have made it.
    pub(crate) async fn audit(
        &self,
        grant: &OwnerGrant,
        back: Duration,
    ) -> Result<Audit, RequestError> {
        let entry = grant.entry();
        let upstream = &entry.upstream;
        let log = upstream.require(upstream.client.audit_log(), "audit")?;

        let since = self.before_now(back);
        let ProfileHistory {
            uses,
            ended,
            since: record_since,
        } = self.journal.history_of(entry.profile.name.as_str()).await;

        let current = entry.session();
        let current = current.as_ref().map(|session| &session.issued);
        let sessions: BTreeSet<&str> = uses
            .iter()
            .map(|usage| usage.session_id.as_str())
            .chain(current.map(|session| &*session.session_id))
            .collect();
        let principals: BTreeSet<&str> = uses
            .iter()
            .map(|usage| usage.principal.as_str())
            .chain(current.map(|session| &*session.principal))
            .collect();

        let query = AuditQuery {
            sessions: &sessions,
            principals: &principals,
            since,
        };

        let LogExtract {
            entries,
            truncated,
            error,
        } = read(log, query).await;

        let holders = Holders::of(uses);
        let calls = entries
            .into_iter()
            .map(|entry| audited(entry, &holders))
            .collect();
        let ended_sessions = ended
            .into_iter()
            .filter(|ended| ended.at.parse().is_ok_and(|at: Timestamp| at >= since))
            .map(Into::into)
            .collect();

        Ok(Audit {
            profile: entry.profile.name.to_string(),
            since: to_rfc3339(since),
            calls,
            truncated,
            failure: error.map(failure),
            journal_since: record_since,
            holders: holders.groups,
            ended_sessions,
        })
    }

    /// Journals what the owner requested, once it has ended.
    pub(crate) fn record<T>(
        &self,
        peer: &Peer,
        command: Command,
        result: &Result<T, RequestError>,
    ) {
        if let Some(outcome) = outcome(result) {
            let now = self.clock.now();
            self.journal
                .record_command(peer.caller(), command, outcome, &now);
        }
    }

    /// The journal's file, with all records until now written.
    pub(crate) async fn locate_journal(
        &self,
        back: Option<Duration>,
    ) -> Result<JournalLocation, RequestError> {
        let path = self.journal.path().ok_or(RequestError::NoJournal)?;
        self.journal.flush().await;

        Ok(JournalLocation {
            path,
            since: back.map(|back| to_rfc3339_millis(self.before_now(back))),
        })
    }

    fn before_now(&self, back: Duration) -> Timestamp {
        let back = SignedDuration::try_from(back).unwrap_or(SignedDuration::MAX);
        let now = self.clock.now().wall;

        now.checked_sub(back)
            .map_or(Timestamp::UNIX_EPOCH, |at| at.max(Timestamp::UNIX_EPOCH))
    }
}

/// What was read of the upstream's log, oldest first.
struct LogExtract {
    entries: Vec<AuditEntry>,
    truncated: bool,
    error: Option<CallError>,
}

/// Reads until the log ends, or the limit or the time is reached. What was read before an error is kept.
async fn read(log: &dyn AuditLog, query: AuditQuery<'_>) -> LogExtract {
    let mut entries = Vec::new();
    let reading = async {
        let mut calls = log.calls(query);
        while entries.len() < MAX_CALLS {
            match calls.try_next().await? {
                Some(entry) => entries.push(entry),
                None => break,
            }
        }
        Ok(())
    };

    let read = tokio::time::timeout(WAIT, reading).await;
    let truncated = read.is_err() || entries.len() >= MAX_CALLS;
    entries.sort_by_key(|entry| entry.at);

    LogExtract {
        entries,
        truncated,
        error: read.ok().and_then(Result::err),
    }
}

fn failure(error: CallError) -> Failure {
    Failure::new(code(error.kind), error.message, error.hint)
}

/// The daemon's record, by what a call in the log is joined with.
#[derive(Default)]
struct Holders {
    groups: Vec<HolderGroup>,
    /// The groups that were given a session's credentials, and since when.
    by_session: BTreeMap<String, Vec<(Timestamp, usize)>>,
    /// The group for which the daemon made a call.
    by_request: BTreeMap<String, usize>,
}

impl Holders {
    /// Processes of the same programs are one group: a tool asks every few minutes.
    fn of(uses: Vec<SessionUse>) -> Self {
        let mut holders = Self::default();
        let mut known: BTreeMap<(String, u32, bool, Vec<String>), usize> = BTreeMap::new();
        for usage in uses {
            let programs = usage
                .caller
                .processes
                .iter()
                .map(|process| process.program.clone())
                .collect();
            let session_id = usage.session_id.clone();
            let request_id = usage.request_id.clone();
            let at = usage.at.parse::<Timestamp>();
            let suppressed = usize::try_from(usage.suppressed).unwrap_or(usize::MAX - 1);
            let key = (
                session_id.clone(),
                usage.caller.uid,
                request_id.is_some(),
                programs,
            );

            let index = *known.entry(key).or_insert_with(|| {
                let index = holders.groups.len();
                if let (Ok(at), None) = (at, &request_id) {
                    let of_session = holders.by_session.entry(session_id).or_default();
                    of_session.push((at, index));
                }
                holders.groups.push(HolderGroup {
                    count: 0,
                    first: usage.into(),
                });
                index
            });
            if let Some(group) = holders.groups.get_mut(index) {
                group.count += 1 + suppressed;
            }
            if let Some(request_id) = request_id {
                holders.by_request.insert(request_id, index);
            }
        }

        holders
    }

    /// The groups that may have made a call of a session.
    fn of_call(&self, session: &str, request_id: &str, at: Timestamp) -> Vec<usize> {
        if let Some(index) = self.by_request.get(request_id) {
            return vec![*index];
        }

        // A log in whole seconds rounds down.
        let rounding = if at.subsec_nanosecond() == 0 {
            SignedDuration::from_millis(999)
        } else {
            SignedDuration::ZERO
        };

        let until = at.saturating_add(rounding).unwrap_or(at);
        self.by_session
            .get(session)
            .into_iter()
            .flatten()
            .filter(|(since, _)| *since <= until)
            .map(|(_, index)| *index)
            .collect()
    }
}

fn audited(entry: AuditEntry, holders: &Holders) -> AuditedCall {
    AuditedCall {
        holders: holders.of_call(&entry.session_id, &entry.request_id, entry.at),
        at: to_rfc3339(entry.at),
        action: entry.action,
        resource: entry.resource,
        status: entry.status,
        ip_address: entry.ip_address,
        session_id: entry.session_id,
        request_id: entry.request_id,
    }
}

impl From<SessionUse> for CredentialHolder {
    fn from(usage: SessionUse) -> Self {
        let processes = usage.caller.processes.into_iter();

        Self {
            at: usage.at,
            session_id: usage.session_id,
            principal: usage.principal,
            profile: usage.profile,
            uid: usage.caller.uid,
            request_id: usage.request_id,
            via: usage.caller.via.map(|via| via.as_str().into()),
            processes: processes
                .map(|process| Process {
                    pid: process.pid,
                    program: process.program,
                })
                .collect(),
        }
    }
}

impl From<journal::SessionEnded> for SessionEnded {
    fn from(ended: journal::SessionEnded) -> Self {
        Self {
            cause: report::end_cause(ended.cause),
            session_id: ended.session_id,
            by: ended.by,
            at: ended.revoked_at,
            reason: ended.reason,
            noticed_at: ended.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::CallerRecord;

    fn record(at: &str, session: &str, program: &str, request_id: Option<&str>) -> SessionUse {
        SessionUse {
            at: format!("2026-01-01T00:00:{at}Z"),
            session_id: session.into(),
            principal: "user/u-1".into(),
            profile: "dev".into(),
            request_id: request_id.map(Into::into),
            suppressed: 0,
            caller: CallerRecord {
                uid: 1000,
                via: None,
                processes: vec![journal::record::Process {
                    pid: 7,
                    program: program.into(),
                }],
            },
        }
    }

    #[test]
    fn calls_are_joined_with_holders_of_their_time() {
        let holders = Holders::of(vec![
            record("10.000", "s-1", "/bin/aws", None),
            record("20.500", "s-1", "/bin/python", None),
            record("21.000", "s-1", "/bin/aws", None),
            record("22.000", "s-2", "/bin/aws", None),
            record("23.000", "s-1", "/bin/rolekeeper", Some("q-1")),
        ]);
        let counts: Vec<_> = holders
            .groups
            .iter()
            .map(|each| (each.first.at.as_str(), each.count))
            .collect();
        let at = |seconds: &str| format!("2026-01-01T00:00:{seconds}Z").parse().unwrap();
        assert_eq!(
            counts.len(),
            4,
            "the two of /bin/aws for one session are one: {counts:?}"
        );
        assert_eq!(counts[0].1, 2);
        let table = [
            ("s-1", "q-9", "09.999", vec![]),
            ("s-1", "q-9", "10.001", vec![0]),
            ("s-1", "q-9", "20.499", vec![0]),
            ("s-1", "q-9", "20", vec![0, 1]),
            ("s-1", "q-9", "30.001", vec![0, 1]),
            ("s-2", "q-9", "30.001", vec![2]),
            ("s-3", "q-9", "30.001", vec![]),
            ("s-1", "q-1", "30.001", vec![3]),
        ];
        for (session, request, seconds, want) in table {
            assert_eq!(
                holders.of_call(session, request, at(seconds)),
                want,
                "{session} {request} {seconds}"
            );
        }
    }
}
