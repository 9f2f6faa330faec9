//! What differs between operating systems, behind one interface. Other modules have no `cfg(target_os)`, but for a few whole
//! modules that exist on one system alone (`desktop`, `sandbox::landlock`, `sandbox::seccomp`) and what constructs them.

pub(crate) mod descriptors;
pub(crate) mod limits;
pub(crate) mod lock_file;
pub(crate) mod memory;
pub(crate) mod peer_credentials;
pub(crate) mod private_file;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod removal;
pub(crate) mod signals;
pub(crate) mod sock_diag;
pub(crate) mod users;
