//! Every request to the S3 port: with which key, what for, and how it ended. It must hold no secret and no token.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

/// How many requests are kept.
const KEPT: usize = 100_000;

#[derive(Debug, Default)]
pub(in crate::sandbox) struct Requests(Mutex<VecDeque<Request>>);

#[derive(Debug, Serialize)]
pub(super) struct Request {
    /// As it was claimed; absent if the request claims none.
    pub(super) access_key_id: Option<String>,
    /// Absent if it is not known what was asked for.
    pub(super) operation: Option<&'static str>,
    pub(super) status: u16,
    /// The code of the error, if it was one.
    pub(super) code: Option<String>,
}

impl Requests {
    pub(super) fn note(&self, request: Request) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(request);
    }

    pub(in crate::sandbox) fn list(&self) -> Value {
        json!(*self.lock())
    }

    pub(in crate::sandbox) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
