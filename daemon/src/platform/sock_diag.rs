//! Who is at the other end of a TCP connection on this machine, as the kernel tells (sock_diag(7)): on Linux alone. It is
//! known for as long as the other end is open, and costs the same however many connections there are.

use std::net::SocketAddr;

/// The other end of a connection, from which it came, and this one.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub from: SocketAddr,
    pub here: SocketAddr,
}

/// A socket, as the kernel counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    pub uid: u32,
    pub inode: u32,
}

impl Ends {
    /// The socket at the other end, unless it is closed by now, or this cannot be told here.
    #[cfg(target_os = "linux")]
    pub fn other(&self) -> Option<Socket> {
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
        // It is there once the request is sent.
        let (length, _) = recv(&kernel, &mut reply, RecvFlags::DONTWAIT).ok()?;
        socket(reply.get(..length)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub fn other(&self) -> Option<Socket> {
        None
    }
}

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// What comes before the body of a message: its length, type, flags, number and sender.
const HEADER: usize = 16;

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, for the one socket whose own address is `local`.
fn request(local: SocketAddr, remote: SocketAddr) -> Option<Vec<u8>> {
    const IPV4: u8 = 2;
    const TCP: u8 = 6;
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) else {
        return None;
    };
    let mut text = Vec::with_capacity(72);
    text.extend(72_u32.to_ne_bytes());
    text.extend(BY_FAMILY.to_ne_bytes());
    // `NLM_F_REQUEST`, then the number and the sender.
    text.extend(1_u16.to_ne_bytes());
    text.extend([0; 8]);
    // Nothing more than is always told, in whatever state it is.
    text.extend([IPV4, TCP, 0, 0]);
    text.extend(u32::MAX.to_ne_bytes());
    text.extend(local.port().to_be_bytes());
    text.extend(remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        text.extend(address.octets());
        text.extend([0; 12]);
    }
    // Whichever interface, and no cookie.
    text.extend([0; 4]);
    text.extend([0xff; 8]);
    Some(text)
}

/// `struct inet_diag_msg`. A socket that is nobody's any more has no inode, and the user 0.
fn socket(reply: &[u8]) -> Option<Socket> {
    let word = |at: usize| Some(u32::from_ne_bytes(reply.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(reply.get(4..6)?.try_into().ok()?);
    // Behind the header: family, state and timer, both addresses, the timer's end, both queues.
    let (uid, inode) = (word(HEADER + 4 + 48 + 12)?, word(HEADER + 4 + 48 + 16)?);
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
    fn the_other_end_is_found_with_its_user_and_process() {
        let (client, here) = connected("127.0.0.1");
        let socket = ends(&here).other().unwrap();
        assert_eq!(socket.uid, rustix::process::geteuid().as_raw());
        assert_eq!(
            u64::from(socket.inode),
            rustix::fs::fstat(&client).unwrap().st_ino
        );
    }

    #[test]
    fn a_socket_for_both_kinds_of_addresses_is_found_too() {
        let (_client, here) = connected("[::ffff:127.0.0.1]");
        assert!(ends(&here).other().is_some());
    }

    #[test]
    fn an_end_that_is_closed_is_nobodys_and_not_roots() {
        let (client, here) = connected("127.0.0.1");
        let ends = ends(&here);
        drop(client);
        assert_eq!(ends.other(), None);
    }

    #[test]
    fn what_is_no_socket_is_none() {
        for reply in [&[][..], &[0; 16], &[0; 200]] {
            assert_eq!(socket(reply), None);
        }
    }
}
