//! The user and the socket at the other end of a local TCP connection (sock_diag(7), Linux only). The kernel finds it while the
//! other end is open, in constant time.

use std::net::SocketAddr;

/// The addresses of a connection: of the other end, and of this one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) from: SocketAddr,
    pub(crate) here: SocketAddr,
}

/// A socket with its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) uid: u32,
    pub(crate) inode: u32,
}

impl Ends {
    /// The socket at the other end. None if it is closed, and on other systems than Linux.
    #[cfg(target_os = "linux")]
    pub(crate) fn other(&self) -> Option<Socket> {
        use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
        use rustix::net::{
            AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
        };

        let (netlink, datagram) = (AddressFamily::NETLINK, SocketType::DGRAM);
        let kernel = socket_with(netlink, datagram, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).ok()?;
        sendto(
            &kernel,
            &request(self.from, self.here)?,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )
        .ok()?;
        let mut reply = [0; 512];
        // The kernel replies before the send returns.
        let (length, _) = recv(&kernel, &mut reply, RecvFlags::DONTWAIT).ok()?;

        socket(reply.get(..length)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn other(&self) -> Option<Socket> {
        None
    }
}

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// The length of a message's header: length, type, flags, sequence number and sender.
const HEADER: usize = 16;

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, for the socket whose own address is `local`.
fn request(local: SocketAddr, remote: SocketAddr) -> Option<Vec<u8>> {
    const IPV4: u8 = 2;
    const TCP: u8 = 6;
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) else {
        return None;
    };

    let mut text = Vec::with_capacity(72);
    text.extend(72_u32.to_ne_bytes());
    text.extend(BY_FAMILY.to_ne_bytes());
    // `NLM_F_REQUEST`, then the sequence number and the sender.
    text.extend(1_u16.to_ne_bytes());
    text.extend([0; 8]);
    // No extensions, and any state.
    text.extend([IPV4, TCP, 0, 0]);
    text.extend(u32::MAX.to_ne_bytes());
    text.extend(local.port().to_be_bytes());
    text.extend(remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        text.extend(address.octets());
        text.extend([0; 12]);
    }

    // Any interface, no cookie.
    text.extend([0; 4]);
    text.extend([0xff; 8]);

    Some(text)
}

/// From `struct inet_diag_msg`. A closed socket has no inode, and the user 0.
fn socket(reply: &[u8]) -> Option<Socket> {
    let word = |at: usize| Some(u32::from_ne_bytes(reply.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(reply.get(4..6)?.try_into().ok()?);
    // Family, state and timer (4), both addresses (48), the timer's expiry and both queues (12).
    let uid = word(HEADER + 4 + 48 + 12)?;
    let inode = word(HEADER + 4 + 48 + 16)?;
    (kind == BY_FAMILY && inode != 0).then_some(Socket { uid, inode })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connected(to: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address: SocketAddr = format!("{to}:{port}").parse().unwrap();
        let client = TcpStream::connect(address).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn ends(here: &TcpStream) -> Ends {
        Ends {
            from: here.peer_addr().unwrap(),
            here: here.local_addr().unwrap(),
        }
    }

    #[test]
    fn peer_socket_is_found_with_user_and_inode() {
        let (client, here) = connected("127.0.0.1");
        let socket = ends(&here).other().unwrap();
        assert_eq!(socket.uid, rustix::process::geteuid().as_raw());
        assert_eq!(
            u64::from(socket.inode),
            rustix::fs::fstat(&client).unwrap().st_ino
        );
    }

    #[test]
    fn dual_stack_peer_socket_is_found() {
        let (_client, here) = connected("[::ffff:127.0.0.1]");
        assert!(ends(&here).other().is_some());
    }

    #[test]
    fn closed_peer_socket_has_no_user() {
        let (client, here) = connected("127.0.0.1");
        let ends = ends(&here);
        drop(client);
        assert_eq!(ends.other(), None);
    }

    #[test]
    fn malformed_reply_is_no_socket() {
        for reply in [&[][..], &[0; 16], &[0; 200]] {
            assert_eq!(socket(reply), None);
        }
    }
}
