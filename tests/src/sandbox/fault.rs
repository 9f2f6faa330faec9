//! Faults: what the network and a sick server do to a method's calls, on demand.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::methods;

/// The longest delay, in milliseconds: an hour.
const LONGEST_MS: u64 = 3_600_000;
/// The largest reply, in bytes.
const LARGEST: u64 = 256 * 1024 * 1024;
/// In seconds.
pub(super) const CENTURY: u64 = 3_155_760_000;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Fault {
    /// Waits, then answers as ever.
    Delay { ms: u64 },
    /// An error of the API's own shape; the call has no effect.
    Status {
        status: u16,
        code: Option<String>,
        message: Option<String>,
        retry_after: Option<String>,
    },
    /// The connection is reset; the call has no effect.
    Reset {},
    /// The sending side is closed without an answer; the call has no effect.
    HalfClose {},
    /// The call has its effect, and half of the answer is sent.
    Truncated {},
    /// 200 and bytes that are no JSON; the call has no effect.
    Garbage {},
    /// 200 and a page, as a captive portal shows; the call has no effect.
    Html {},
    /// The call has its effect, and the answer comes a byte at a time.
    SlowDrip { ms: u64 },
    /// The answer's `Date` is this far ahead.
    WrongDate { seconds: i64 },
    /// 200 and a JSON text of this size; the call has no effect.
    Huge { bytes: usize },
    /// 302; the call has no effect.
    Redirect { location: String },
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
        }
    }

    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Delay { ms } => Some(Duration::from_millis(*ms)),
            _ => None,
        }
    }
}

/// A fault that is in force for a method, or for all with `*`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    method: String,
    fault: Fault,
    /// For how many calls; for all if absent.
    times: Option<u64>,
}

impl Order {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.method != "*" && !methods::is_served(&self.method) {
            return Err(format!("method: the sandbox serves no {}", self.method));
        }
        if let Fault::Status { status, .. } = &self.fault
            && !(400..=599).contains(status)
        {
            return Err(format!("fault.status: {status} is not from 400 to 599"));
        }
        let (value, most) = match &self.fault {
            Fault::Delay { ms } | Fault::SlowDrip { ms } => (*ms, LONGEST_MS),
            Fault::WrongDate { seconds } => (seconds.unsigned_abs(), CENTURY),
            Fault::Huge { bytes } => (*bytes as u64, LARGEST),
            _ => return Ok(()),
        };
        if value > most {
            return Err(format!("fault: {value} is more than {most}"));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<(u64, Vec<(u64, Order)>)>);

impl Faults {
    pub(super) fn add(&self, order: Order) -> u64 {
        let (last, orders) = &mut *self.lock();
        *last += 1;
        orders.push((*last, order));
        *last
    }

    /// The fault for one call of a method: the oldest that is in force.
    pub(super) fn take(&self, method: &str) -> Option<Fault> {
        let (_, orders) = &mut *self.lock();
        let index = orders.iter().position(|(_, order)| {
            (order.method == "*" || order.method == method) && order.times != Some(0)
        })?;
        let (_, order) = orders.get_mut(index)?;
        let fault = order.fault.clone();
        if let Some(times) = &mut order.times {
            *times -= 1;
            if *times == 0 {
                orders.remove(index);
            }
        }
        Some(fault)
    }

    pub(super) fn list(&self) -> Value {
        let (_, orders) = &*self.lock();
        let show = |(id, order): &(u64, Order)| json!({ "id": id, "method": order.method, "fault": order.fault, "times": order.times });
        json!({ "items": orders.iter().map(show).collect::<Vec<_>>() })
    }

    pub(super) fn remove(&self, id: Option<u64>) {
        self.lock()
            .1
            .retain(|(each, _)| id.is_some_and(|id| id != *each));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Vec<(u64, Order)>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
