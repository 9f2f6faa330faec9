//! Who is calling, as the kernel describes the process at the other end.

use std::io;

use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::traits::StreamCommon;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Effective user when the connection was made.
    pub uid: u32,
    pub pid: Option<i32>,
}

impl Peer {
    #[cfg(unix)]
    pub fn of(stream: &Stream) -> io::Result<Self> {
        let credentials = stream.peer_creds()?;
        let uid = credentials.euid().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        Ok(Self { uid, pid: credentials.pid() })
    }
}
