//! What the user is notified of without having asked.

use tokio::sync::mpsc;

use crate::model::SessionEnded;
use crate::sync::{Mutex, lock};

/// The most notifications that wait to be shown. Further ones are dropped.
const MAX_WAITING: usize = 256;

/// Sends notifications to the desktop, once it has opened the channel.
#[derive(Debug, Default)]
pub(crate) struct Notifications(Mutex<Option<mpsc::Sender<Notification>>>);

/// A session of a profile has ended.
#[derive(Debug, Clone)]
pub(crate) struct Notification {
    pub(crate) profile: String,
    pub(crate) ended: SessionEnded,
    pub(crate) is_held: bool,
}

impl Notifications {
    pub(crate) fn open(&self) -> mpsc::Receiver<Notification> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        *lock(&self.0) = Some(sender);

        receiver
    }

    pub(crate) fn send(&self, profile: &str, ended: &SessionEnded, is_held: bool) {
        if let Some(sender) = &*lock(&self.0) {
            let notification = Notification {
                profile: profile.into(),
                ended: ended.clone(),
                is_held,
            };
            let _ = sender.try_send(notification);
        }
    }
}
