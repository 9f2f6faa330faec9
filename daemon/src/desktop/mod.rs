//! The user's desktop: notifications, approval dialogs, and the lock and sleep signals that end sessions. It is reached by
//! D-Bus, on Linux only.

mod approval_dialog;
mod logind;
mod notify;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::access::Access;
use crate::cache::{Cache, CacheEntry};
use crate::config::callers::Confirm;
use crate::revocation::RevocationService;

/// Starts what the configuration needs. The daemon serves without it, too.
pub(crate) fn start(
    access: &Arc<Access>,
    revocation: &Arc<RevocationService>,
    cache: &Cache,
    runtime: &Handle,
) {
    runtime.spawn(notify::show_all(revocation.notifications.open()));

    if any(cache, |entry| {
        entry.profile.callers.confirm != Confirm::Never
    }) {
        let requests = access.approvals.subscribe();
        runtime.spawn(approval_dialog::show_all(Arc::clone(access), requests));
    }

    let delays_sleep = any(cache, |entry| entry.profile.revoke_on.sleep);
    if delays_sleep || any(cache, |entry| entry.profile.revoke_on.lock) {
        runtime.spawn(logind::follow(Arc::clone(revocation), delays_sleep));
    }
}

fn any(cache: &Cache, is_it: impl Fn(&CacheEntry) -> bool) -> bool {
    cache.entries().iter().any(|entry| is_it(entry))
}
