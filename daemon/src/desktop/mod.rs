//! The person at the machine: what they are shown, and what they do that ends sessions. By D-Bus, which is there on Linux
//! desktops; elsewhere there is the log, and `revoke_on` knows only `stop`.

mod ask;
mod logind;
mod notify;

use std::sync::Arc;

use crate::broker::Broker;
use crate::cache::Slot;
use crate::config::callers::Confirm;

/// Starts what the configuration needs. Nothing of it is needed to serve.
pub fn start(broker: &Arc<Broker>) {
    let background = broker.background();
    background.spawn(notify::show(broker.notices.open()));
    let has = |what: fn(&Slot) -> bool| broker.cache.slots().iter().any(|slot| what(slot));
    if has(|slot| slot.profile.callers.confirm != Confirm::Never) {
        background.spawn(ask::show(Arc::clone(broker), broker.approvals.open()));
    }
    if has(|slot| slot.profile.revoke_on.lock || slot.profile.revoke_on.sleep) {
        background.spawn(logind::follow(Arc::clone(broker)));
    }
}
