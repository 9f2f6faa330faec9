//! The local socket: bind it, serve its connections, dispatch their requests.

pub(crate) mod accept;
pub(crate) mod bind;
pub(crate) mod connection;
mod credentialed_stream;
mod dialogue;
pub(crate) mod dispatch;
mod journalled_command;
