use std::time::Duration;

/// A session is served until this long before its expiry, so that a request signed with it still arrives in time.
pub const MARGIN: Duration = Duration::from_secs(15);
