//! What a person at the machine is told without having asked.

use rolekeeper::protocol::Ending;
use tokio::sync::mpsc;

use crate::sync::{Mutex, lock};

/// The most that wait to be told.
const WAITING: usize = 256;

/// Where notices go, once there is somebody who shows them.
#[derive(Debug, Default)]
pub struct Notices(Mutex<Option<mpsc::Sender<Notice>>>);

#[derive(Debug, Clone)]
pub struct Notice {
    pub profile: String,
    pub ending: Ending,
    pub holds: bool,
}

impl Notices {
    pub fn open(&self) -> mpsc::Receiver<Notice> {
        let (sender, receiver) = mpsc::channel(WAITING);
        *lock(&self.0) = Some(sender);
        receiver
    }

    pub(crate) fn tell(&self, profile: &str, ending: &Ending, holds: bool) {
        if let Some(sender) = &*lock(&self.0) {
            // Nobody reads hundreds of them.
            let _ = sender.try_send(Notice {
                profile: profile.into(),
                ending: ending.clone(),
                holds,
            });
        }
    }
}
