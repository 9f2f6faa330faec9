//! The log of S3 requests: the access key, the operation and the result. It must have no secret and
//! no token.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

/// How many requests the log holds.
const CAPACITY: usize = 100_000;

#[derive(Debug, Default)]
pub(in crate::sandbox) struct RequestLog(Mutex<VecDeque<LoggedRequest>>);

#[derive(Debug, Serialize)]
pub(super) struct LoggedRequest {
    /// Not verified. Absent if the request is not signed.
    pub(super) access_key_id: Option<String>,
    /// Absent for an unknown operation.
    pub(super) operation: Option<&'static str>,
    pub(super) status: u16,
    /// The code of the error.
    pub(super) code: Option<String>,
}

impl RequestLog {
    pub(super) fn add(&self, request: LoggedRequest) {
        let mut requests = self.lock();
        if requests.len() == CAPACITY {
            requests.pop_front();
        }

        requests.push_back(request);
    }

    pub(in crate::sandbox) fn list(&self) -> Value {
        json!(*self.lock())
    }

    pub(in crate::sandbox) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<LoggedRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
