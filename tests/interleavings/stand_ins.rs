//! The few types that the daemon's source needs, without what the search does not need.

use std::sync::Arc as StdArc;

use shuttle::sync::Arc;

use crate::session_state::Generation;

/// The time plays no part in the search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BootTime;

#[derive(Debug)]
pub(crate) struct SessionEnded;

/// A session, and the generation under which its fetch started.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: StdArc<str>,
    pub(crate) fetched_under: Generation,
}

#[derive(Debug)]
pub(crate) struct SupersededSession {
    pub(crate) session_id: StdArc<str>,
}

impl Session {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl SupersededSession {
    pub(crate) fn append(list: &mut Vec<Arc<Self>>, session: &Session, _now: BootTime) {
        list.push(Arc::new(Self {
            session_id: StdArc::clone(&session.id),
        }));
    }
}
