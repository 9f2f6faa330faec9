//! The log of calls. A call is counted when it arrives, so that one that never gets a reply counts
//! too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::clock::{Millis, to_rfc3339};

/// How many calls the log holds. The counts include older ones.
const CAPACITY: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct CallLog(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last_seq: u64,
    calls: VecDeque<Call>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct Call {
    seq: u64,
    method: &'static str,
    at: String,
    request_id: String,
    fault: Option<&'static str>,
    /// Absent until the reply.
    status: Option<u16>,
    actor_id: Option<String>,
}

impl CallLog {
    /// Adds a call and returns its number for [`Self::record_reply`].
    pub(super) fn record_arrival(
        &self,
        method: &'static str,
        at: Millis,
        request_id: &str,
        fault: Option<&'static str>,
    ) -> u64 {
        let mut inner = self.lock();
        inner.last_seq += 1;
        *inner.counts.entry(method).or_default() += 1;

        if inner.calls.len() == CAPACITY {
            inner.calls.pop_front();
        }
        let call = Call {
            seq: inner.last_seq,
            method,
            at: to_rfc3339(at),
            request_id: request_id.into(),
            fault,
            status: None,
            actor_id: None,
        };
        inner.calls.push_back(call);

        inner.last_seq
    }

    pub(super) fn record_reply(&self, seq: u64, status: u16, actor_id: Option<String>) {
        let mut inner = self.lock();

        if let Ok(index) = inner.calls.binary_search_by_key(&seq, |call| call.seq)
            && let Some(call) = inner.calls.get_mut(index)
        {
            call.status = Some(status);
            call.actor_id = actor_id;
        }
    }

    /// The calls, of one method if given, and the counts of all.
    pub(super) fn list(&self, method: Option<&str>) -> Value {
        let inner = self.lock();
        let items: Vec<_> = inner
            .calls
            .iter()
            .filter(|call| method.is_none_or(|name| name == call.method))
            .collect();

        json!({ "items": items, "counts": inner.counts })
    }

    pub(super) fn counts(&self) -> Value {
        json!({ "counts": self.lock().counts })
    }

    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.calls.clear();
        inner.counts.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
