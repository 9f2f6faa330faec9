//! Single flight: however many callers wait for a profile's session, one task fetches it.
//!
//! The task outlives the caller that started it, and its result is shared: twenty callers that wait for a failing
//! upstream get one failure.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::sync::lock;

/// The flight that may be under way. The channel holds `None` until it has ended.
#[derive(Debug)]
pub(crate) struct SingleFlight<T>(Mutex<Option<watch::Receiver<Option<T>>>>);

/// Awaits the result of a flight.
#[derive(Debug)]
pub(crate) struct FlightHandle<T>(watch::Receiver<Option<T>>);

/// The task ended without a result: it panicked, or the daemon is stopping.
#[derive(Debug)]
pub(crate) struct Aborted;

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Joins the flight of `owner` that is under way, or starts one in `runtime`. Dropping the handle does not cancel the
    /// flight.
    pub(crate) fn join<O, F>(
        runtime: &Handle,
        owner: &Arc<O>,
        flight: fn(&O) -> &Self,
        work: impl FnOnce() -> F,
    ) -> FlightHandle<T>
    where
        O: Send + Sync + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut current = lock(&flight(owner).0);
        if let Some(receiver) = current.as_ref().filter(|receiver| is_under_way(receiver)) {
            return FlightHandle(receiver.clone());
        }

        let (sender, receiver) = watch::channel(None);
        let work = work();
        let owner = Arc::clone(owner);
        runtime.spawn(async move {
            sender.send_replace(Some(work.await));
            flight(&owner).clear();
        });

        *current = Some(receiver.clone());

        FlightHandle(receiver)
    }

    pub(crate) fn is_under_way(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(is_under_way)
    }

    /// Frees the result of a flight that has ended.
    fn clear(&self) {
        let mut current = lock(&self.0);
        let has_ended = current
            .as_ref()
            .is_some_and(|receiver| receiver.borrow().is_some());

        if has_ended {
            *current = None;
        }
    }
}

/// It has no result yet, and the task that will send one still runs.
fn is_under_way<T>(receiver: &watch::Receiver<Option<T>>) -> bool {
    receiver.borrow().is_none() && receiver.has_changed().is_ok()
}

impl<T: Clone> FlightHandle<T> {
    pub(crate) async fn result(mut self) -> Result<T, Aborted> {
        let result = self
            .0
            .wait_for(Option::is_some)
            .await
            .map_err(|_closed| Aborted)?;

        result.clone().ok_or(Aborted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn join<T: Clone + Send + Sync + 'static, F: Future<Output = T> + Send + 'static>(
        flight: &Arc<SingleFlight<T>>,
        work: impl FnOnce() -> F,
    ) -> FlightHandle<T> {
        SingleFlight::join(&Handle::current(), flight, |flight| flight, work)
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_share_one_task_and_its_failure() {
        let flight = Arc::new(SingleFlight::<Result<u8, &str>>::default());
        let starts = AtomicUsize::new(0);
        let joined: Vec<_> = (0..100)
            .map(|_| {
                join(&flight, || {
                    starts.fetch_add(1, Ordering::Relaxed);
                    async {
                        tokio::time::sleep(Duration::from_secs(10)).await;
                        Err("down")
                    }
                })
            })
            .collect();
        for waiter in joined {
            assert_eq!(waiter.result().await.unwrap(), Err("down"));
        }
        assert_eq!(starts.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn task_outlives_the_caller_that_started_it() {
        let flight = Arc::new(SingleFlight::<u8>::default());
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            7
        };
        let first = tokio::spawn(join(&flight, slow).result());
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.abort();
        let second = join(&flight, || async { 8 });
        assert_eq!(second.result().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn ended_or_panicked_flight_is_replaced() {
        let flight = Arc::new(SingleFlight::<u8>::default());
        assert_eq!(join(&flight, || async { 1 }).result().await.unwrap(), 1);
        assert_eq!(join(&flight, || async { 2 }).result().await.unwrap(), 2);
        assert!(
            join(&flight, || async { panic!("panic for this test") })
                .result()
                .await
                .is_err()
        );
        assert_eq!(join(&flight, || async { 3 }).result().await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn flight_without_waiters_completes() {
        let flight = Arc::new(SingleFlight::<u8>::default());
        drop(join(&flight, || async { 1 }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(join(&flight, || async { 2 }).result().await.unwrap(), 2);
    }
}
