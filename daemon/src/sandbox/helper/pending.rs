//! Requests to a helper process whose responses have still to arrive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::sync::lock;

/// The most requests without a response, and the most of one user. Later ones fail: an inspection would come too late to be
/// true.
const MAX_PENDING: usize = 8192;
const MAX_PENDING_OF_USER: usize = MAX_PENDING / 2;

/// How long a request waits for a response. Helpers respond in microseconds.
const WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Pending<R> {
    responses: HashMap<u64, Arc<PendingResponse<R>>>,
    users: HashMap<u32, Arc<UserState>>,
}

/// The requests of one user. Another user's do not wait behind them.
#[derive(Debug, Default)]
struct UserState {
    pending: AtomicUsize,
    /// A request has waited in vain. Until the next response no other one waits.
    is_stuck: AtomicBool,
}

impl<R> Default for Pending<R> {
    fn default() -> Self {
        Self {
            responses: HashMap::new(),
            users: HashMap::new(),
        }
    }
}

impl<R> Pending<R> {
    /// None if too many requests are pending.
    pub(super) fn insert(&mut self, uid: u32, id: u64) -> Option<Arc<PendingResponse<R>>> {
        if self.responses.len() >= MAX_PENDING {
            return None;
        }

        let user = self.users.entry(uid).or_default();
        if user.pending.load(Ordering::Relaxed) >= MAX_PENDING_OF_USER {
            return None;
        }

        user.pending.fetch_add(1, Ordering::Relaxed);
        let response = Arc::new(PendingResponse::new(uid, user));
        self.responses.insert(id, Arc::clone(&response));

        Some(response)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Arc<PendingResponse<R>>> {
        self.responses.get(&id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<PendingResponse<R>>> {
        let response = self.responses.remove(&id)?;
        let left = response.user.pending.fetch_sub(1, Ordering::Relaxed) - 1;
        if left == 0 {
            self.users.remove(&response.uid);
        }

        Some(response)
    }

    /// Ends every wait.
    pub(super) fn clear(&mut self) {
        self.users.clear();
        for (_, unanswered) in self.responses.drain() {
            unanswered.resolve(None);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.responses.is_empty() && self.users.is_empty()
    }
}

/// A response that may still have to arrive.
#[derive(Debug)]
pub(crate) struct PendingResponse<R> {
    uid: u32,
    user: Arc<UserState>,
    /// There were too many requests for this one.
    is_rejected: bool,
    interim: OnceLock<R>,
    response: OnceLock<Option<R>>,
    arrived: Notify,
    waiting: Mutex<()>,
    woken: Condvar,
}

impl<R> PendingResponse<R> {
    fn new(uid: u32, user: &Arc<UserState>) -> Self {
        Self {
            uid,
            user: Arc::clone(user),
            is_rejected: false,
            interim: OnceLock::new(),
            response: OnceLock::new(),
            arrived: Notify::new(),
            waiting: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    /// No response, and no need to wait for it.
    pub(crate) fn unavailable() -> Arc<Self> {
        Self::settled(false)
    }

    /// The same, since there are too many requests: a later one may have a response.
    pub(crate) fn rejected() -> Arc<Self> {
        Self::settled(true)
    }

    fn settled(is_rejected: bool) -> Arc<Self> {
        let pending = Self {
            is_rejected,
            ..Self::new(0, &Arc::default())
        };
        pending.resolve(None);
        Arc::new(pending)
    }

    /// The first call decides.
    pub(super) fn resolve(&self, response: Option<R>) {
        if response.is_some() {
            self.user.is_stuck.store(false, Ordering::Relaxed);
        }
        let _ = self.response.set(response);
        self.arrived.notify_waiters();
        drop(lock(&self.waiting));
        self.woken.notify_all();
    }

    pub(super) fn set_interim(&self, response: R) {
        let _ = self.interim.set(response);
    }

    /// The response before the last one, if there is one and it has arrived.
    pub(super) fn interim(&self) -> Option<&R> {
        self.interim.get()
    }

    /// The response, if it has arrived.
    pub(crate) fn get(&self) -> Option<&R> {
        self.response.get()?.as_ref()
    }

    /// Whether the helper has not responded, but may do so later or to another request.
    pub(crate) fn is_overdue(&self) -> bool {
        self.is_rejected || self.response.get().is_none()
    }

    /// Whether a request of this user has waited in vain, and no response has arrived since then.
    pub(super) fn is_stuck(&self) -> bool {
        self.user.is_stuck.load(Ordering::Relaxed)
    }

    fn set_stuck(&self) {
        self.user.is_stuck.store(true, Ordering::Relaxed);
    }

    /// Waits for the response. None if the helper has exited or the work was cancelled.
    pub(super) async fn response(&self) -> Option<&R> {
        let mut arrived = std::pin::pin!(self.arrived.notified());
        arrived.as_mut().enable();
        if self.response.get().is_none() {
            arrived.await;
        }
        self.get()
    }

    /// Waits for the response. None also if it takes longer than two seconds.
    pub(super) async fn response_in_time(&self) -> Option<&R> {
        if self.is_stuck() {
            return self.get();
        }

        if timeout(WAIT, self.response()).await.is_err() {
            self.set_stuck();
        }
        self.get()
    }

    /// The same in a thread that may block.
    pub(crate) fn wait(&self) -> Option<&R> {
        if self.is_stuck() {
            return self.get();
        }

        let is_missing = |_: &mut ()| self.response.get().is_none();
        let waited = self
            .woken
            .wait_timeout_while(lock(&self.waiting), WAIT, is_missing);
        if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            self.set_stuck();
        }

        self.get()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let mut pending = Pending::<()>::default();
        let of_one = (0..9_000).filter(|id| pending.insert(1000, *id).is_some());
        assert_eq!(of_one.count(), MAX_PENDING_OF_USER);
        assert!(pending.insert(1001, 10_000).is_some());

        for id in 0..9_000 {
            pending.remove(id);
        }
        assert!(pending.insert(1000, 10_001).is_some());
        pending.remove(10_000);
        pending.remove(10_001);
        assert!(pending.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_a_stuck_user_do_not_wait_and_others_do() {
        let mut pending = Pending::default();
        let [stuck, same, other] =
            [(1000, 1), (1000, 2), (1001, 3)].map(|(uid, id)| pending.insert(uid, id).unwrap());
        assert!(stuck.response_in_time().await.is_none() && stuck.is_overdue());

        assert_eq!(same.response_in_time().now_or_never(), Some(None));
        assert!(same.wait().is_none() && !other.is_stuck());

        stuck.resolve(Some(7));
        assert!(!same.is_stuck() && stuck.wait() == Some(&7));
    }
}
