//! All configured upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::handle::UpstreamHandle;
use super::{CallError, CallErrorKind};
use crate::model::UpstreamId;
use crate::text::printable;

/// The upstreams in order of name.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(BTreeMap<Arc<str>, Arc<UpstreamHandle>>);

impl Upstreams {
    /// Their ids have to be their positions in order of name.
    pub(crate) fn new(upstreams: impl IntoIterator<Item = Arc<UpstreamHandle>>) -> Self {
        let by_name = upstreams
            .into_iter()
            .map(|upstream| (Arc::clone(&upstream.name), upstream));

        Self(by_name.collect())
    }

    /// The upstream of this name. Without a name, the only one.
    ///
    /// # Errors
    /// When there is no such upstream, or several and no name.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<&Arc<UpstreamHandle>, CallError> {
        let found = match name {
            Some(name) => self.0.get(name),
            None if self.0.len() == 1 => self.0.values().next(),
            None => None,
        };

        found.ok_or_else(|| self.not_found(name))
    }

    fn not_found(&self, name: Option<&str>) -> CallError {
        let message = match name {
            Some(name) => format!("there is no upstream `{}`", printable(name)),
            None if self.0.is_empty() => "no upstream is configured".into(),
            None => "there are several upstreams, and none is named".into(),
        };

        let names: Vec<_> = self.0.keys().map(AsRef::as_ref).collect();
        let hint = if names.is_empty() {
            "add an [upstream] to the daemon's configuration".into()
        } else {
            format!("use --upstream with one of: {}", names.join(", "))
        };

        CallError::new(CallErrorKind::UnknownUpstream, message, hint)
    }

    pub(crate) fn get(&self, id: UpstreamId) -> Option<&Arc<UpstreamHandle>> {
        self.0.values().nth(id.index())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<UpstreamHandle>> {
        self.0.values()
    }
}
