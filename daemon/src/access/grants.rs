//! Proofs of authorization. Only [`super::Access`] creates them, and each is its own type, so
//! that the compiler rejects the wrong one.

use std::sync::Arc;

use crate::cache::CacheEntry;

/// The peer's user may watch the profile's status, and report that a service rejected its credentials. It is the daemon's
/// owner, or allowed by the profile's `users` or `groups`.
#[derive(Debug)]
#[must_use]
pub struct ViewGrant {
    pub(super) entry: Arc<CacheEntry>,
}

/// The peer's user is the daemon's owner. It may log out, resume, refresh, audit and explain the profile, and learn the address
/// of its HTTP endpoint.
#[derive(Debug)]
#[must_use]
pub struct OwnerGrant {
    pub(super) entry: Arc<CacheEntry>,
}

/// The peer may use the profile's credentials for this request: its user, program and approval were checked. A later request
/// needs a new grant.
#[derive(Debug)]
#[must_use]
pub struct LeaseGrant {
    pub(super) entry: Arc<CacheEntry>,
}

impl ViewGrant {
    pub(crate) fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }
}

impl OwnerGrant {
    pub(crate) fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }
}

impl LeaseGrant {
    pub(crate) fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }
}
