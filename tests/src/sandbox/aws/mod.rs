//! A fake AWS for the daemon's AWS upstream: STS and the part of IAM that a credential broker needs,
//! over the Query protocol. It verifies the signature of every request, evaluates trust policies
//! and permissions with their conditions, and answers with AWS's codes and texts. It is in memory
//! only. What AWS does beyond the documentation is marked "not verified".
//!
//! Start with [`actions::execute`], the path of a request.

mod actions;
mod arn;
mod base32;
mod call_log;
mod caller;
mod condition;
mod context;
mod control;
mod error;
mod fixture;
mod http;
mod iam;
mod managed_policies;
mod mfa;
mod params;
mod policy;
mod store;
mod sts;
mod verify;

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::clock::{Clock, Millis};
use super::fault::Faults;
use call_log::CallLog;
use store::Store;

pub(super) use caller::Caller;
pub(super) use error::AwsError;
pub(super) use http::serve;

#[derive(Debug)]
pub(super) struct Aws {
    store: Mutex<Store>,
    /// How far AWS's clock is ahead of the sandbox's.
    clock: Clock,
    faults: Faults,
    call_log: CallLog,
}

impl Aws {
    /// Returns also the fixture for the ready line.
    pub(super) fn new(now: Millis) -> (Self, Value) {
        let (store, fixture) = fixture::load(now);
        let aws = Self {
            store: Mutex::new(store),
            clock: Clock::default(),
            faults: Faults::default(),
            call_log: CallLog::default(),
        };
        (aws, fixture)
    }

    /// The caller by its key and session token, and the secret, for other services.
    pub(super) fn find_caller(
        &self,
        access_key_id: &str,
        token: Option<&str>,
        now: Millis,
    ) -> Result<(Caller, String), AwsError> {
        let (caller, secret) = verify::find_caller(&self.store(), access_key_id, token, now)?;
        verify::check_end(&caller, now)?;
        Ok((caller, secret))
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Service and name of each action.
pub(super) fn actions() -> impl Iterator<Item = (&'static str, &'static str)> {
    actions::all().map(|action| (action.service.name, action.name))
}
