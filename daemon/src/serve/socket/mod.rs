//! The local socket: bind it, serve its connections, dispatch their requests.

pub mod bind;
pub(crate) mod connection;
mod credentialed_stream;
pub(crate) mod dispatch;
