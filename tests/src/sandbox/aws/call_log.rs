//! The log of calls. A call is counted when it arrives, so that one that never gets a reply counts
//! too. It must have no secret and no token.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

/// How many calls the log holds. The counts include older ones.
const CAPACITY: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct CallLog(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last_seq: u64,
    calls: VecDeque<LoggedCall>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct LoggedCall {
    pub(super) seq: u64,
    pub(super) action: &'static str,
    /// By AWS's clock.
    pub(super) at: String,
    pub(super) request_id: String,
    /// Of the signature, which may be wrong.
    pub(super) access_key_id: Option<String>,
    pub(super) region: Option<String>,
    /// Without MFA codes.
    pub(super) params: BTreeMap<String, String>,
    pub(super) fault: Option<&'static str>,
    /// Absent until the reply.
    pub(super) status: Option<u16>,
    /// The code of the error.
    pub(super) code: Option<String>,
    /// Of a verified signature.
    pub(super) caller_arn: Option<String>,
}

impl CallLog {
    /// Adds a call and returns its number for [`Self::record_reply`].
    pub(super) fn record_arrival(&self, mut call: LoggedCall) -> u64 {
        let mut inner = self.lock();
        inner.last_seq += 1;
        *inner.counts.entry(call.action).or_default() += 1;
        if inner.calls.len() == CAPACITY {
            inner.calls.pop_front();
        }

        call.seq = inner.last_seq;
        inner.calls.push_back(call);
        inner.last_seq
    }

    pub(super) fn record_reply(
        &self,
        seq: u64,
        status: u16,
        code: Option<&str>,
        caller_arn: Option<&str>,
    ) {
        let mut inner = self.lock();

        if let Ok(index) = inner.calls.binary_search_by_key(&seq, |call| call.seq)
            && let Some(call) = inner.calls.get_mut(index)
        {
            call.status = Some(status);
            call.code = code.map(str::to_owned);
            call.caller_arn = caller_arn.map(str::to_owned);
        }
    }

    /// The calls, of one action if given, and the counts of all.
    pub(super) fn list(&self, action: Option<&str>) -> Value {
        let inner = self.lock();
        let items: Vec<_> = inner
            .calls
            .iter()
            .filter(|call| action.is_none_or(|name| name == call.action))
            .collect();

        json!({ "items": items, "counts": inner.counts })
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
