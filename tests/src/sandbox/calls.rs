//! Every call, counted when it arrives, so that one that is never answered counts too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::clock::{Millis, text};

/// How many calls are kept; the counts go on.
const KEPT: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    arrived: u64,
    kept: VecDeque<Call>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct Call {
    seq: u64,
    method: &'static str,
    at: String,
    request_id: String,
    fault: Option<&'static str>,
    /// Absent while there is no answer.
    status: Option<u16>,
    actor_id: Option<String>,
}

impl Calls {
    /// Notes an arrival and returns its number.
    pub(super) fn arrived(
        &self,
        method: &'static str,
        at: Millis,
        request_id: &str,
        fault: Option<&'static str>,
    ) -> u64 {
        let mut inner = self.lock();
        inner.arrived += 1;
        *inner.counts.entry(method).or_default() += 1;
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        let seq = inner.arrived;
        let call = Call {
            seq,
            method,
            at: text(at),
            request_id: request_id.into(),
            fault,
            status: None,
            actor_id: None,
        };
        inner.kept.push_back(call);
        seq
    }

    pub(super) fn answered(&self, seq: u64, status: u16, actor_id: Option<String>) {
        let mut inner = self.lock();
        if let Ok(index) = inner.kept.binary_search_by_key(&seq, |call| call.seq)
            && let Some(call) = inner.kept.get_mut(index)
        {
            (call.status, call.actor_id) = (Some(status), actor_id);
        }
    }

    pub(super) fn list(&self, method: Option<&str>) -> Value {
        let inner = self.lock();
        let items: Vec<_> = inner
            .kept
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
        inner.kept.clear();
        inner.counts.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
