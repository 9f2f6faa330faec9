//! All configured upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::handle::UpstreamHandle;
use crate::model::UpstreamId;

/// The upstreams in order of name.
#[derive(Debug, Default)]
pub struct Upstreams(BTreeMap<Arc<str>, Arc<UpstreamHandle>>);

impl Upstreams {
    /// Their ids have to be their positions in order of name.
    pub fn new(upstreams: impl IntoIterator<Item = Arc<UpstreamHandle>>) -> Self {
        let by_name = upstreams
            .into_iter()
            .map(|upstream| (Arc::clone(&upstream.name), upstream));

        Self(by_name.collect())
    }

    pub fn find(&self, name: &str) -> Option<&Arc<UpstreamHandle>> {
        self.0.get(name)
    }

    pub fn get(&self, id: UpstreamId) -> Option<&Arc<UpstreamHandle>> {
        self.0.values().nth(id.index())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<UpstreamHandle>> {
        self.0.values()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }
}
