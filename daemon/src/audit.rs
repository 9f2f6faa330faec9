//! `rolekeeper audit`: the calls that a profile's sessions made, from the upstream's audit log, joined with the daemon's
//! own record of the processes that were given their credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use rolekeeper::protocol::{
    Audit, AuditedCall, CredentialHolder, Failure, HolderGroup, JournalReport, SessionEnded,
};

use crate::access::peer::Peer;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::iam::code;
use crate::journal::{IssuanceRecord, shown};
use crate::upstream::{AuditEntry, AuditLog, AuditQuery, CallError};

/// The most calls that a report has.
const MAX_CALLS: usize = 5_000;

impl Broker {
    /// The calls that a profile's sessions made at the upstream, each with the processes that may have made it.
    pub async fn audit(
        &self,
        peer: &Peer,
        profile: &str,
        back: Duration,
    ) -> Result<Audit, AccessError> {
        let grant = self.own(peer, profile)?;
        let entry = grant.entry();
        let upstream = &entry.upstream;
        let log = upstream.require(upstream.client.audit_log(), "audit")?;
        let since = self.clock_back(back);
        let IssuanceRecord {
            holders: records,
            endings,
            since: record_since,
        } = self.journal.of(profile).await;

        let current = entry.session();
        let current = current.as_ref().map(|session| &session.granted);
        let of_records = records.iter().map(|record| record.session_id.as_str());
        let sessions: BTreeSet<&str> = of_records
            .chain(current.map(|session| &*session.session_id))
            .collect();
        let of_records = records.iter().map(|record| record.principal.as_str());
        let principals: BTreeSet<&str> = of_records
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

        let holders = Holders::of(records);
        Ok(Audit {
            profile: profile.into(),
            since: shown(since),
            calls: entries
                .into_iter()
                .map(|entry| audited(entry, &holders))
                .collect(),
            truncated,
            failure: error.map(failure),
            record_since,
            holders: holders.groups,
            endings: latest_of_each(endings, since),
        })
    }

    fn clock_back(&self, back: Duration) -> Timestamp {
        let back = SignedDuration::try_from(back).unwrap_or(SignedDuration::MAX);
        let since = self.clock.now().wall.checked_sub(back);

        since
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .max(Timestamp::UNIX_EPOCH)
    }

    /// Whether anything was changed in the daemon's own record.
    pub async fn verify_journal(&self, peer: &Peer) -> Result<JournalReport, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        self.journal.verify().await.ok_or(AccessError::NoJournal)
    }
}

/// The endings since a time. A later record of the same ending has all that the earlier ones have.
fn latest_of_each(endings: Vec<SessionEnded>, since: Timestamp) -> Vec<SessionEnded> {
    let is_recent = |ending: &SessionEnded| {
        let noticed_at = ending.noticed_at.parse::<Timestamp>();
        noticed_at.is_ok_and(|at| at >= since)
    };
    let mut seen = BTreeSet::new();
    let mut latest: Vec<_> = endings
        .into_iter()
        .rev()
        .filter(is_recent)
        .filter(|ending| {
            ending.session_id.is_none()
                || seen.insert((ending.session_id.clone(), ending.cause as u8))
        })
        .collect();
    latest.reverse();

    latest
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
    fn of(records: Vec<CredentialHolder>) -> Self {
        let mut holders = Self::default();
        let mut known: BTreeMap<(String, u32, bool, Vec<String>), usize> = BTreeMap::new();
        for record in records {
            let programs = record
                .processes
                .iter()
                .map(|process| process.program.clone())
                .collect();
            let session_id = record.session_id.clone();
            let request_id = record.request_id.clone();
            let at = record.at.parse::<Timestamp>();
            let left_out = usize::try_from(record.left_out.unwrap_or_default());
            let key = (
                session_id.clone(),
                record.uid,
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
                    first: record,
                });
                index
            });
            if let Some(group) = holders.groups.get_mut(index) {
                group.count += 1 + left_out.unwrap_or(usize::MAX - 1);
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
        at: shown(entry.at),
        action: entry.action,
        resource: entry.resource,
        status: entry.status,
        ip_address: entry.ip_address,
        session_id: entry.session_id,
        request_id: entry.request_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::protocol::Process;

    fn record(
        at: &str,
        session: &str,
        program: &str,
        request_id: Option<&str>,
    ) -> CredentialHolder {
        CredentialHolder {
            at: format!("2026-01-01T00:00:{at}Z"),
            session_id: session.into(),
            principal: "user/u-1".into(),
            profile: "dev".into(),
            uid: 1000,
            request_id: request_id.map(Into::into),
            how: None,
            left_out: None,
            processes: vec![Process {
                pid: 7,
                program: program.into(),
            }],
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
