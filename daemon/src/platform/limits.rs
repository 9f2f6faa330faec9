//! What this process may use: descriptors, locked memory, capabilities, processor time.

use std::io;

/// The most connections, if the limit on descriptors allows them.
const MAX_CONNECTIONS: usize = 8192;

const MIN_CONNECTIONS: usize = 16;

/// Descriptors for upstreams, files and the runtime.
const RESERVED: u64 = 64;

/// For these, and two for each of the fewest connections.
pub(crate) const MIN_DESCRIPTORS: u64 = 96;

/// The hard limit on descriptors that systemd gives a service.
#[cfg(unix)]
const USUAL_DESCRIPTORS: u64 = 524_288;

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

/// Undoes what the process that asked for this one may have set for itself: limits, priority, processors and when the
/// system ends it for lack of memory. What this user may not undo stays.
#[cfg(unix)]
pub fn reset() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    for resource in [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Rss,
        Resource::Nproc,
        Resource::As,
    ] {
        let maximum = getrlimit(resource).maximum;
        let reset = Rlimit {
            current: maximum,
            maximum,
        };
        let _ = setrlimit(resource, reset);
    }

    // Only root may raise a hard limit.
    let hard = getrlimit(Resource::Nofile).maximum;
    let usual = hard.map(|hard| hard.max(USUAL_DESCRIPTORS));
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: usual,
            maximum: usual,
        },
    );

    let _ = rustix::process::setpriority_process(None, 0);

    #[cfg(target_os = "linux")]
    {
        let mut all = rustix::thread::CpuSet::new();
        for processor in 0..rustix::thread::CpuSet::MAX_CPU {
            all.set(processor);
        }
        let _ = rustix::thread::sched_setaffinity(None, &all);
        reset_scheduling();
        let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    }
}

/// A caller of the idle class would starve the daemon.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the scheduling class has no safe form")]
fn reset_scheduling() {
    let usual = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives through the call, and the call changes this process's class alone.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const usual) };
}

/// The limit on descriptors, if it is too low to serve.
pub(crate) fn too_few_descriptors() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .filter(|&limit| limit < MIN_DESCRIPTORS);
    #[cfg(not(unix))]
    None
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
