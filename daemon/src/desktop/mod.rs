//! The person at the machine: what they are shown, and what they do that ends sessions. By D-Bus, which is there on Linux
//! desktops; elsewhere there is the log, and `revoke_on` knows only `stop`.

mod ask;
mod logind;
mod notify;

use std::sync::Arc;

use crate::cache::CacheEntry;
use crate::config::callers::Confirm;
use crate::credentials::Broker;

/// Starts what the configuration needs. Nothing of it is needed to serve.
pub fn start(broker: &Arc<Broker>) {
    let background = broker.background();
    background.spawn(notify::show(broker.notifications.open()));
    let has =
        |what: fn(&CacheEntry) -> bool| broker.cache.entries().iter().any(|entry| what(entry));
    if has(|entry| entry.profile.callers.confirm != Confirm::Never) {
        background.spawn(ask::show(Arc::clone(broker), broker.approvals.open()));
    }
    if has(|entry| entry.profile.revoke_on.lock || entry.profile.revoke_on.sleep) {
        background.spawn(logind::follow(Arc::clone(broker)));
    }
}
