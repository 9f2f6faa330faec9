//! Who may have what.

pub mod approvals;
pub mod peer;
pub mod policy;
