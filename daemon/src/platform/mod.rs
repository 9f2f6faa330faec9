//! What differs between operating systems, behind one interface.

pub mod private_file;
pub(crate) mod random;
pub(crate) mod sock_diag;
pub mod sys;
