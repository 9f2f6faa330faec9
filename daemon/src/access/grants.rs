//! Proofs of authorization. Only [`super::Access`] makes them, and each is a type of its own, so
//! that the compiler rejects the wrong one.

use std::sync::Arc;

use crate::cache::CacheEntry;

/// The peer may see the profile's status and watch its changes.
#[derive(Debug)]
#[must_use]
pub struct ViewGrant {
    pub(super) entry: Arc<CacheEntry>,
}

/// The peer may revoke, refresh, audit and explain the profile.
#[derive(Debug)]
#[must_use]
pub struct OwnerGrant {
    pub(super) entry: Arc<CacheEntry>,
}

/// The peer may have the profile's credentials, for this request.
#[derive(Debug)]
#[must_use]
pub struct LeaseGrant {
    pub(super) entry: Arc<CacheEntry>,
}

impl ViewGrant {
    pub fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }
}

impl OwnerGrant {
    pub fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }
}

impl LeaseGrant {
    pub fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }
}
