//! What this process may use: descriptors, locked memory, capabilities, processor time.

use std::io;

/// The most connections, if the limit on descriptors allows them.
const MAX_CONNECTIONS: usize = 8192;

const MIN_CONNECTIONS: usize = 16;

/// Descriptors for upstreams, files and the runtime.
const RESERVED: u64 = 64;

/// Raises the soft limits to the hard limits. A limit that stays low allows fewer connections, or less locked memory.
#[cfg(unix)]
pub(super) fn raise() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    for resource in [Resource::Nofile, Resource::Memlock] {
        let maximum = getrlimit(resource).maximum;
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        let _ = setrlimit(resource, raised);
    }
}

/// The most connections at once. Each has one descriptor.
pub(crate) fn connection_cap() -> usize {
    #[cfg(unix)]
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let descriptors = None;

    let Some(limit) = descriptors else {
        return MAX_CONNECTIONS;
    };

    let left = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX);

    left.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

/// Drops the capabilities that only the peer inspector needs. Root stays root.
#[cfg(target_os = "linux")]
pub(crate) fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }

    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };

    set_capabilities(None, sets)?;

    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_capabilities() -> io::Result<()> {
    Ok(())
}

/// Lowers the priority of this thread, so that the threads that serve requests run first.
pub(crate) fn lower_priority() {
    // On Linux alone nice(2) is about a thread. A failure costs microseconds.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(5);
}
