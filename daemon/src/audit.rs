//! What was done with a profile's sessions: the upstream's audit log, joined with the daemon's own record of the
//! processes that had their credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use rolekeeper::protocol::{Audit, AuditedCall, CredentialHolder, HolderGroup, JournalReport};

use crate::access::peer::Peer;
use crate::credentials::{AccessError, Broker, WAIT};
use crate::iam::bycloud_of;
use crate::iam::error::IamCallError;
use crate::journal::{IssuanceRecord, shown};
use crate::serve::error_map;
use crate::upstream::bycloud::{AuditLog, ByCloud, IamError, ListAuditLogs, Method, SessionId};

/// The most calls that are shown.
const SHOWN: usize = 5_000;

impl Broker {
    /// The calls that a profile's sessions made at the upstream, each with the processes that may have made it.
    pub async fn audit(
        &self,
        peer: &Peer,
        profile: &str,
        back: Duration,
    ) -> Result<Audit, AccessError> {
        let grant = self.own(peer, profile)?;
        let client = bycloud_of(grant.entry())?;
        let back = SignedDuration::try_from(back).unwrap_or(SignedDuration::MAX);
        let since = self
            .clock
            .now()
            .wall
            .checked_sub(back)
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .max(Timestamp::UNIX_EPOCH);
        let IssuanceRecord {
            holders: records,
            mut endings,
            since: record_since,
        } = self.journal.of(profile).await;
        endings.retain(|ending| {
            ending
                .noticed_at
                .parse()
                .is_ok_and(|at: Timestamp| at >= since)
        });
        // What came to be known of one later says everything.
        let mut told = BTreeSet::new();
        endings.reverse();
        endings.retain(|ending| {
            ending.session_id.is_none()
                || told.insert((ending.session_id.clone(), ending.cause as u8))
        });
        endings.reverse();
        let mut sessions: BTreeSet<&str> = records
            .iter()
            .map(|record| record.session_id.as_str())
            .collect();
        let mut principals: BTreeSet<&str> = records
            .iter()
            .map(|record| record.principal.as_str())
            .collect();
        let current = grant.entry().session();
        if let Some(session) = &current {
            sessions.insert(&session.granted.session_id);
            principals.insert(&session.granted.principal);
        }
        let mut entries = Vec::new();
        let read = tokio::time::timeout(
            WAIT,
            read(client, &principals, &sessions, since, &mut entries),
        )
        .await;
        let truncated = read.is_err() || entries.len() >= SHOWN;
        let failure = read.ok().and_then(Result::err).map(|error| {
            error_map::failure(&AccessError::Iam(IamCallError::failed(
                error,
                &ListAuditLogs::ROUTE,
            )))
        });
        entries.sort_by_key(|entry| entry.timestamp);
        let suspects = Suspects::of(records);
        let calls = entries
            .into_iter()
            .map(|entry| audited(entry, &suspects))
            .collect();
        let holders = suspects.holders;
        let (profile, since) = (profile.into(), shown(since));
        Ok(Audit {
            profile,
            since,
            calls,
            truncated,
            failure,
            record_since,
            holders,
            endings,
        })
    }
}

impl Broker {
    /// Whether anything was changed in the daemon's own record.
    pub async fn verify_journal(&self, peer: &Peer) -> Result<JournalReport, AccessError> {
        self.policy.admit_owner(peer).map_err(AccessError::Denied)?;
        self.journal.verify().await.ok_or(AccessError::NoJournal)
    }
}

/// Collects the entries of these sessions.
async fn read(
    client: &ByCloud,
    principals: &BTreeSet<&str>,
    sessions: &BTreeSet<&str>,
    since: Timestamp,
    found: &mut Vec<AuditLog>,
) -> Result<(), IamError> {
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
            if entry
                .session_id
                .as_ref()
                .is_some_and(|id| sessions.contains(id.as_str()))
            {
                found.push(entry);
            }
            if found.len() >= SHOWN {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The record by what is asked of it.
#[derive(Default)]
struct Suspects {
    holders: Vec<HolderGroup>,
    /// Who had a session's credentials, and from when on.
    by_session: BTreeMap<String, Vec<(Timestamp, usize)>>,
    /// For whom the daemon made a call.
    by_request: BTreeMap<String, usize>,
}

impl Suspects {
    /// Processes of the same programs are taken together: a tool that asks every few minutes is one suspect.
    fn of(records: Vec<CredentialHolder>) -> Self {
        let mut suspects = Self::default();
        let mut known: BTreeMap<(String, u32, bool, Vec<String>), usize> = BTreeMap::new();
        for record in records {
            let programs = record
                .processes
                .iter()
                .map(|process| process.program.clone())
                .collect();
            let key = (
                record.session_id.clone(),
                record.uid,
                record.request_id.is_some(),
                programs,
            );
            let left_out = record.left_out.unwrap_or_default();
            let (at, request_id) = (record.at.parse::<Timestamp>(), record.request_id.clone());
            let index = *known.entry(key).or_insert_with(|| {
                if let (Ok(at), None) = (at, &request_id) {
                    let holders = suspects
                        .by_session
                        .entry(record.session_id.clone())
                        .or_default();
                    holders.push((at, suspects.holders.len()));
                }
                suspects.holders.push(HolderGroup {
                    count: 0,
                    first: record,
                });
                suspects.holders.len() - 1
            });
            if let Some(holders) = suspects.holders.get_mut(index) {
                holders.count += 1 + usize::try_from(left_out).unwrap_or(usize::MAX - 1);
            }
            suspects
                .by_request
                .extend(request_id.map(|request_id| (request_id, index)));
        }
        suspects
    }

    fn had(&self, session: &str, request_id: &str, at: Timestamp) -> Vec<usize> {
        if let Some(index) = self.by_request.get(request_id) {
            return vec![*index];
        }
        // A log in whole seconds has cut off what came after them.
        let cut = if at.subsec_nanosecond() == 0 {
            SignedDuration::from_millis(999)
        } else {
            SignedDuration::ZERO
        };
        let until = at.saturating_add(cut).unwrap_or(at);
        let holders = self.by_session.get(session).into_iter().flatten();
        holders
            .filter(|(since, _)| *since <= until)
            .map(|(_, index)| *index)
            .collect()
    }
}

fn audited(entry: AuditLog, suspects: &Suspects) -> AuditedCall {
    let session_id = entry
        .session_id
        .as_ref()
        .map(SessionId::to_string)
        .unwrap_or_default();
    AuditedCall {
        holders: suspects.had(&session_id, &entry.request_id, entry.timestamp),
        at: shown(entry.timestamp),
        resource: entry.resource_id.map_or(entry.resource_type.clone(), |id| {
            format!("{}/{id}", entry.resource_type)
        }),
        action: entry.action,
        status: entry.status.as_str().into(),
        ip_address: entry.ip_address,
        session_id,
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
    fn those_are_suspects_who_had_the_credentials_by_then() {
        let suspects = Suspects::of(vec![
            record("10.000", "s-1", "/bin/aws", None),
            record("20.500", "s-1", "/bin/python", None),
            record("21.000", "s-1", "/bin/aws", None),
            record("22.000", "s-2", "/bin/aws", None),
            record("23.000", "s-1", "/bin/rolekeeper", Some("q-1")),
        ]);
        let counts: Vec<_> = suspects
            .holders
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
                suspects.had(session, request, at(seconds)),
                want,
                "{session} {request} {seconds}"
            );
        }
    }
}
