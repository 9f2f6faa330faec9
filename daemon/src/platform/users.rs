//! Users and groups.

/// The user that this process acts for.
#[cfg(unix)]
pub(crate) fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The number of a user, by name.
#[cfg(unix)]
pub(crate) fn uid_of(name: &str) -> Option<u32> {
    let user = nix::unistd::User::from_name(name).ok()??;
    Some(user.uid.as_raw())
}

/// The number of a group, by name.
#[cfg(unix)]
pub(crate) fn gid_of(name: &str) -> Option<u32> {
    let group = nix::unistd::Group::from_name(name).ok()??;
    Some(group.gid.as_raw())
}

/// On Windows the access list of the named pipe decides.
#[cfg(not(unix))]
pub(crate) fn uid_of(_name: &str) -> Option<u32> {
    None
}

#[cfg(not(unix))]
pub(crate) fn gid_of(_name: &str) -> Option<u32> {
    None
}
