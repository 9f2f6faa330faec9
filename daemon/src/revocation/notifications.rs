//! What a person at the machine is told without having asked.

use rolekeeper::protocol::SessionEnded;
use tokio::sync::mpsc;

use crate::sync::{Mutex, lock};

/// The most that wait to be told.
const WAITING: usize = 256;

/// Where notifications go, once there is somebody who shows them.
#[derive(Debug, Default)]
pub struct Notifications(Mutex<Option<mpsc::Sender<Notification>>>);

#[derive(Debug, Clone)]
pub struct Notification {
    pub profile: String,
    pub ending: SessionEnded,
    pub holds: bool,
}

impl Notifications {
    pub fn open(&self) -> mpsc::Receiver<Notification> {
        let (sender, receiver) = mpsc::channel(WAITING);
        *lock(&self.0) = Some(sender);
        receiver
    }

    pub(crate) fn tell(&self, profile: &str, ending: &SessionEnded, holds: bool) {
        if let Some(sender) = &*lock(&self.0) {
            // Nobody reads hundreds of them.
            let _ = sender.try_send(Notification {
                profile: profile.into(),
                ending: ending.clone(),
                holds,
            });
        }
    }
}
