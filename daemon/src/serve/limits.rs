//! The limit of open connections: in total, and for each user of a shared daemon.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::lock;

/// With several users, each gets at most one of this number of equal parts.
const SHARES: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    max: usize,
    max_per_user: usize,
    by_user: Arc<Mutex<BTreeMap<u32, usize>>>,
}

/// The right to one open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    uid: u32,
    by_user: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl ConnectionLimit {
    /// For the processes of one user.
    pub(super) fn new(max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max)),
            max,
            max_per_user: max,
            by_user: Arc::default(),
        }
    }

    /// For several users. One of them cannot use up the connections of the others.
    pub(super) fn shared(max: usize) -> Self {
        Self {
            max_per_user: (max / SHARES).max(1),
            ..Self::new(max)
        }
    }

    pub(super) fn open(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }

    pub(super) fn acquire(&self, uid: u32) -> Option<ConnectionPermit> {
        let mut by_user = lock(&self.by_user);
        let of_user = by_user.entry(uid).or_default();
        if *of_user >= self.max_per_user {
            return None;
        }

        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        *of_user += 1;

        Some(ConnectionPermit {
            _permit: permit,
            uid,
            by_user: Arc::clone(&self.by_user),
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut by_user = lock(&self.by_user);

        if let Some(of_user) = by_user.get_mut(&self.uid) {
            *of_user -= 1;
            if *of_user == 0 {
                by_user.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_users_gets_a_quarter() {
        let limit = ConnectionLimit::shared(16);
        let of_one: Vec<_> = std::iter::from_fn(|| limit.acquire(1001)).collect();
        assert_eq!(of_one.len(), 4);
        assert_eq!(limit.open(), 4);

        let of_another = limit.acquire(1002).unwrap();
        drop((of_one, of_another));
        assert_eq!(limit.open(), 0);
        assert!(lock(&limit.by_user).is_empty());
    }

    #[test]
    fn single_user_gets_all_connections() {
        let limit = ConnectionLimit::new(16);
        let all: Vec<_> = std::iter::from_fn(|| limit.acquire(1000))
            .take(100)
            .collect();
        assert_eq!(all.len(), 16);
    }
}
