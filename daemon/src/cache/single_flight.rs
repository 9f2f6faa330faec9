//! Single-flight: however many wait for a profile's session, one piece of work fetches it.
//!
//! The work is a task of its own, so it outlives whoever asked first, and its result is shared: twenty waiters on a
//! failing upstream learn of one failure.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::sync::lock;

/// The place of a flight that may be under way. `None` in the channel means that it has not landed.
#[derive(Debug)]
pub struct SingleFlight<T>(Mutex<Option<watch::Receiver<Option<T>>>>);

/// A place from which a flight's end can be awaited.
#[derive(Debug)]
pub struct FlightHandle<T>(watch::Receiver<Option<T>>);

/// The work ended without a result: it panicked, or the daemon is stopping.
#[derive(Debug)]
pub struct Aborted;

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Joins the flight of `owner` that is under way, or starts one. Whoever drops the landing leaves; the work goes on.
    /// The work is done in `runtime`.
    pub fn join<O, F>(
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
        if let Some(flying) = current
            .as_ref()
            .filter(|flight| flight.borrow().is_none() && flight.has_changed().is_ok())
        {
            return FlightHandle(flying.clone());
        }
        let (tell, landing) = watch::channel(None);
        let (work, owner) = (work(), Arc::clone(owner));
        runtime.spawn(async move {
            tell.send_replace(Some(work.await));
            flight(&owner).clear();
        });
        *current = Some(landing.clone());
        FlightHandle(landing)
    }

    /// Keeps nothing of a flight that has landed.
    fn clear(&self) {
        let mut current = lock(&self.0);
        if current
            .as_ref()
            .is_some_and(|flight| flight.borrow().is_some())
        {
            *current = None;
        }
    }
}

impl<T: Clone> FlightHandle<T> {
    /// Waits for the work's result.
    pub async fn result(mut self) -> Result<T, Aborted> {
        let result = self
            .0
            .wait_for(Option::is_some)
            .await
            .map_err(|_| Aborted)?;
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
    async fn many_joiners_share_one_piece_of_work_and_its_failure() {
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
    async fn the_work_goes_on_when_the_first_to_ask_leaves() {
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
    async fn a_landed_flight_is_not_joined_and_a_crashed_one_is_replaced() {
        let flight = Arc::new(SingleFlight::<u8>::default());
        assert_eq!(join(&flight, || async { 1 }).result().await.unwrap(), 1);
        assert_eq!(join(&flight, || async { 2 }).result().await.unwrap(), 2);
        assert!(
            join(&flight, || async {
                panic!("work that crashes, for this test")
            })
            .result()
            .await
            .is_err()
        );
        assert_eq!(join(&flight, || async { 3 }).result().await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_nobody_waits_for_lands_all_the_same() {
        let flight = Arc::new(SingleFlight::<u8>::default());
        drop(join(&flight, || async { 1 }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(join(&flight, || async { 2 }).result().await.unwrap(), 2);
    }
}
