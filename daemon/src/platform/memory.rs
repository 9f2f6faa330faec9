//! Memory that other processes cannot read and that the kernel does not swap out.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of secrets whose pages could not be locked.
static UNLOCKED: AtomicUsize = AtomicUsize::new(0);

/// Turns off core files and, on Linux, tracing by processes of the same user. The program that replaces this one must call it
/// again.
pub(crate) fn hide_memory() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        let _ = setrlimit(Resource::Core, none);
    }

    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Locks the pages of a secret, within the limit on locked memory. They stay locked: the allocator may put another secret
/// there.
#[cfg(unix)]
#[allow(unsafe_code, reason = "locking pages has no safe form")]
pub(crate) fn lock_in_memory(bytes: &[u8]) {
    let start = bytes.as_ptr().cast_mut().cast();
    // SAFETY: the range is that of a living slice, and locking does not change its contents.
    if unsafe { rustix::mm::mlock(start, bytes.len()) }.is_err() {
        UNLOCKED.fetch_add(bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(not(unix))]
pub(crate) fn lock_in_memory(_bytes: &[u8]) {}

/// For `rolekeeper status`: `active`, or `off: ` and the reason.
pub(crate) fn protection() -> String {
    if !is_hidden() {
        return "off: processes of the same user can trace rolekeeperd".into();
    }
    match UNLOCKED.load(Ordering::Relaxed) {
        0 => "active".into(),
        bytes => format!("off: {bytes} bytes of secrets may be swapped out; raise ulimit -l"),
    }
}

fn is_hidden() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::dumpable_behavior()
        .is_ok_and(|behavior| behavior == rustix::process::DumpableBehavior::NotDumpable);
    #[cfg(not(target_os = "linux"))]
    false
}
