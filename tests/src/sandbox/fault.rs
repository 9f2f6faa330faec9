//! Faults on demand: what a network or a broken server does to the calls of a method.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The longest delay in milliseconds: an hour.
const MAX_DELAY_MS: u64 = 3_600_000;
/// The largest reply in bytes.
const MAX_REPLY: u64 = 256 * 1024 * 1024;
/// The most items of a page.
const MAX_ITEMS: u64 = 100_000;
/// In seconds.
pub(super) const CENTURY: u64 = 3_155_760_000;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Fault {
    /// A delayed reply.
    Delay { ms: u64 },
    /// An error reply of the API. The call has no effect.
    Status {
        status: u16,
        code: Option<String>,
        message: Option<String>,
        retry_after: Option<String>,
    },
    /// A connection reset. The call has no effect.
    Reset {},
    /// The sending side is closed without a reply. The call has no effect.
    HalfClose {},
    /// Half of the reply. The call has its effect.
    Truncated {},
    /// 200 with invalid JSON. The call has no effect.
    Garbage {},
    /// 200 with an HTML page, like a captive portal. The call has no effect.
    Html {},
    /// The reply, one byte at a time. The call has its effect.
    SlowDrip { ms: u64 },
    /// A reply whose `Date` is this far ahead.
    WrongDate { seconds: i64 },
    /// 200 with JSON of this size. The call has no effect.
    Huge { bytes: usize },
    /// 302. The call has no effect.
    Redirect { location: String },
    /// Any body in the API's content type, without a request id. The call has no effect.
    Body { status: u16, text: String },
    /// 200 with a page of a list that does not end: this item, this many times, each with an `id` of its own. The call
    /// has no effect.
    EndlessList {
        item: Map<String, Value>,
        count: usize,
    },
}

impl Fault {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Status { .. } => "status",
            Self::Reset {} => "reset",
            Self::HalfClose {} => "half_close",
            Self::Truncated {} => "truncated",
            Self::Garbage {} => "garbage",
            Self::Html {} => "html",
            Self::SlowDrip { .. } => "slow_drip",
            Self::WrongDate { .. } => "wrong_date",
            Self::Huge { .. } => "huge",
            Self::Redirect { .. } => "redirect",
            Self::Body { .. } => "body",
            Self::EndlessList { .. } => "endless_list",
        }
    }

    /// A page with a marker that no other page has.
    pub(super) fn endless_page(item: &Map<String, Value>, count: usize) -> Value {
        let items: Vec<_> = (0..count)
            .map(|_| {
                let mut item = item.clone();
                item.insert("id".into(), Uuid::now_v7().to_string().into());
                item
            })
            .collect();

        json!({ "items": items, "next_marker": Uuid::now_v7().to_string() })
    }

    pub(super) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Delay { ms } => Some(Duration::from_millis(*ms)),
            _ => None,
        }
    }
}

/// Applies a fault to the calls of a method, or of all methods with `*`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultRule {
    method: String,
    fault: Fault,
    /// For how many calls; for all if absent.
    times: Option<u64>,
}

impl FaultRule {
    pub(super) fn new(method: String, fault: Fault, times: u64) -> Self {
        Self {
            method,
            fault,
            times: Some(times),
        }
    }

    /// `is_method`: whether the API has a method.
    pub(super) fn check(&self, is_method: impl Fn(&str) -> bool) -> Result<(), String> {
        if self.method != "*" && !is_method(&self.method) {
            return Err(format!("method: unknown method {}", self.method));
        }
        if let Fault::Status { status, .. } = &self.fault
            && !(400..=599).contains(status)
        {
            return Err(format!("fault.status: {status} is not from 400 to 599"));
        }
        if let Fault::Body { status, .. } = &self.fault
            && !(200..=599).contains(status)
        {
            return Err(format!("fault.status: {status} is not from 200 to 599"));
        }

        let (value, max) = match &self.fault {
            Fault::Delay { ms } | Fault::SlowDrip { ms } => (*ms, MAX_DELAY_MS),
            Fault::WrongDate { seconds } => (seconds.unsigned_abs(), CENTURY),
            Fault::Huge { bytes } => (*bytes as u64, MAX_REPLY),
            Fault::EndlessList { count, .. } => (*count as u64, MAX_ITEMS),
            _ => return Ok(()),
        };
        if value > max {
            return Err(format!("fault: {value} is more than {max}"));
        }
        Ok(())
    }

    fn applies_to(&self, method: &str) -> bool {
        (self.method == "*" || self.method == method) && self.times != Some(0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    /// By id, oldest first.
    rules: Vec<(u64, FaultRule)>,
}

impl Faults {
    /// Returns the id of the rule.
    pub(super) fn add(&self, rule: FaultRule) -> u64 {
        let mut inner = self.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        inner.rules.push((id, rule));

        id
    }

    /// The fault for one call of a method, by the oldest rule that applies.
    pub(super) fn take(&self, method: &str) -> Option<Fault> {
        let mut inner = self.lock();
        let index = inner
            .rules
            .iter()
            .position(|(_, rule)| rule.applies_to(method))?;
        let (_, rule) = inner.rules.get_mut(index)?;

        let fault = rule.fault.clone();
        if let Some(times) = &mut rule.times {
            *times -= 1;
            if *times == 0 {
                inner.rules.remove(index);
            }
        }
        Some(fault)
    }

    pub(super) fn list(&self) -> Value {
        let inner = self.lock();
        let items: Vec<_> = inner
            .rules
            .iter()
            .map(|(id, rule)| {
                json!({ "id": id, "method": rule.method, "fault": rule.fault, "times": rule.times })
            })
            .collect();

        json!({ "items": items })
    }

    pub(super) fn remove(&self, id: u64) {
        self.lock().rules.retain(|(rule_id, _)| *rule_id != id);
    }

    pub(super) fn clear(&self) {
        self.lock().rules.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
