//! The doors of the daemon: what is accepted, how many at once, and how they close.

pub mod error_map;
pub mod http;
pub mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::traits::tokio::Listener as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::peer::Peer;
use crate::credentials::Broker;
use crate::sandbox::helper::peer_inspector::PeerInspector;
use crate::sync::{Mutex, lock};
use http::Endpoints;
use socket::bind::BoundSocket;
#[cfg(fuzzing)]
pub(crate) use {socket::connection::rest, socket::dispatch::parse};

/// How long requests under way may take once the daemon is told to stop.
pub const DRAIN: Duration = Duration::from_secs(5);
/// How long a request under way may go on once the daemon is told to stop: a little less than the drain, so that its
/// answer gets out.
const LAST_CALL: Duration = Duration::from_secs(4);

/// How many connections are open, and how many may be: in all, and of one user's where there are several.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    places: Arc<Semaphore>,
    cap: usize,
    share: usize,
    taken: Arc<Mutex<BTreeMap<u32, usize>>>,
}

/// Of what is shared, one user's processes get no more than this part.
const SHARES: usize = 4;

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    _place: OwnedSemaphorePermit,
    uid: u32,
    taken: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl ConnectionLimit {
    /// For one user's processes.
    pub fn new(cap: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(cap)),
            cap,
            share: cap,
            taken: Arc::default(),
        }
    }

    /// For several users', of whom none is to keep the others out.
    pub fn shared(cap: usize) -> Self {
        Self {
            share: (cap / SHARES).max(1),
            ..Self::new(cap)
        }
    }

    pub fn open(&self) -> usize {
        self.cap.saturating_sub(self.places.available_permits())
    }

    fn take(&self, uid: u32) -> Option<ConnectionPermit> {
        let mut taken = lock(&self.taken);
        let of_user = taken.entry(uid).or_default();
        if *of_user >= self.share {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        *of_user += 1;
        Some(ConnectionPermit {
            _place: place,
            uid,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(of_user) = taken.get_mut(&self.uid) {
            *of_user -= 1;
            if *of_user == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

/// The word that serving is over.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    told: CancellationToken,
    /// Another process comes next: who waits may as well ask that one.
    succeeded: CancellationToken,
}

impl Shutdown {
    pub fn tell(&self, is_succeeded: bool) {
        if is_succeeded {
            self.succeeded.cancel();
        }
        self.told.cancel();
    }

    pub(crate) fn was_told(&self) -> bool {
        self.told.is_cancelled()
    }

    pub(crate) async fn is_told(&self) {
        self.told.cancelled().await;
    }

    /// The moment from which a request under way can only be told that it will not be answered.
    pub(crate) async fn last_call(&self) {
        self.told.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    }

    /// The same for what may be asked twice.
    pub(crate) async fn last_call_to_ask_again(&self) {
        tokio::select! {
            () = self.succeeded.cancelled() => {}
            () = self.last_call() => {}
        }
    }
}

/// What every connection needs.
#[derive(Debug)]
pub struct ServerContext {
    pub broker: Arc<Broker>,
    pub endpoints: Arc<Endpoints>,
    pub lookout: Arc<PeerInspector>,
    gauge: ConnectionLimit,
    pub stop: Shutdown,
    tasks: TaskTracker,
}

impl ServerContext {
    pub fn new(
        broker: Arc<Broker>,
        endpoints: Arc<Endpoints>,
        lookout: Arc<PeerInspector>,
        connections: usize,
    ) -> Arc<Self> {
        let gauge = if broker.policy.is_shared() {
            ConnectionLimit::shared(connections)
        } else {
            ConnectionLimit::new(connections)
        };
        let (stop, tasks) = (Shutdown::default(), TaskTracker::new());
        Arc::new(Self {
            broker,
            endpoints,
            lookout,
            gauge,
            stop,
            tasks,
        })
    }
}

/// What has stopped accepting.
#[derive(Debug)]
pub struct Stopped {
    door: BoundSocket,
    desk: Arc<ServerContext>,
}

/// Accepts until it is told to stop.
pub async fn run(door: BoundSocket, desk: Arc<ServerContext>) -> Stopped {
    for (line, opened) in desk.endpoints.all() {
        http::accept(&desk, line, opened);
    }
    loop {
        let accepted = tokio::select! {
            accepted = door.listener.accept() => accepted,
            () = desk.stop.is_told() => return Stopped { door, desk },
        };
        match accepted {
            Ok(stream) => welcome(stream, &desk),
            Err(error) => {
                // Out of descriptors, most likely: waiting lets some connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Stopped {
    /// Nobody new may connect from here on, and the requests under way are ended.
    pub async fn close(self) {
        let Self { door, desk } = self;
        drop(door);
        desk.endpoints.close();
        drain(&desk).await;
    }

    /// The requests under way are ended. Who connects from here on waits for whoever serves next.
    pub async fn drain(self) -> BoundSocket {
        drain(&self.desk).await;
        self.door
    }
}

/// Gives the requests under way [`DRAIN`] to end.
async fn drain(desk: &ServerContext) {
    desk.tasks.close();
    if tokio::time::timeout(DRAIN, desk.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = desk.gauge.open(),
            "stopped before every request was answered"
        );
    }
}

fn welcome(stream: Stream, desk: &Arc<ServerContext>) {
    let peer = match Peer::of(&stream, &desk.lookout, desk.broker.policy.is_shared()) {
        Ok(peer) => peer,
        Err(error) => {
            return tracing::debug!(%error, "a peer left before it could be told who it is");
        }
    };
    let Some(place) = desk.gauge.take(peer.uid) else {
        tracing::warn!(pid = ?peer.pid, "refused: too many connections");
        desk.tasks.spawn(socket::connection::refuse_busy(stream));
        return;
    };
    let desk = Arc::clone(desk);
    desk.tasks.clone().spawn(async move {
        let (_place, pid) = (place, peer.pid);
        if let Err(error) = socket::connection::serve(stream, peer, &desk).await {
            tracing::debug!(?pid, %error, "a connection ended early");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_of_several_keeps_the_others_out() {
        let gauge = ConnectionLimit::shared(16);
        let of_one: Vec<_> = std::iter::from_fn(|| gauge.take(1001)).collect();
        assert_eq!((of_one.len(), gauge.open()), (4, 4));
        let another = gauge.take(1002).unwrap();
        drop((of_one, another));
        assert_eq!((gauge.open(), lock(&gauge.taken).len()), (0, 0));
        let own = ConnectionLimit::new(16);
        assert_eq!(
            std::iter::from_fn(|| own.take(1000))
                .take(100)
                .collect::<Vec<_>>()
                .len(),
            16
        );
    }
}
