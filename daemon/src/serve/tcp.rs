//! Who is at the other end of a TCP connection on this machine, by the kernel's tables (proc(5), `/proc/net/tcp`): on Linux
//! alone. It is known for as long as the other end is open.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

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
    inode: u64,
}

impl Ends {
    /// The socket at the other end, unless it is closed by now.
    pub fn other(&self) -> Option<Socket> {
        let find = |table: &str, shown: fn(SocketAddr) -> String| {
            let text = std::fs::read_to_string(table).ok()?;
            socket(&text, &shown(self.from), &shown(self.here))
        };
        // A socket for both kinds of addresses is in the second table.
        find("/proc/net/tcp", shown_v4).or_else(|| find("/proc/net/tcp6", shown_v6))
    }
}

impl Socket {
    /// A process that has it open, of those that may be looked at.
    pub fn process(&self) -> Option<i32> {
        let wanted = format!("socket:[{}]", self.inode);
        let has_it = |process: &Path| {
            let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            open.map(|entry| entry.path())
                .any(|path| std::fs::read_link(path).is_ok_and(|target| target.as_os_str() == wanted.as_str()))
        };
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let mut numbered =
            processes.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
        numbered.find(|(_, path)| has_it(path)).map(|(pid, _)| pid)
    }
}

/// The line of one end. One that is nobody's any more has no inode, and the user 0.
fn socket(table: &str, local: &str, remote: &str) -> Option<Socket> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = fields.next() == Some(local) && fields.next() == Some(remote);
        // Behind them: state, queues, timer, retransmissions.
        let mut fields = fields.skip(4).filter(|_| is_it);
        let uid = fields.next()?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok().filter(|inode| *inode != 0)?;
        Some(Socket { uid, inode })
    })
}

/// In the order that the bytes have in memory, as numbers of this machine.
fn shown_v4(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()),
        IpAddr::V6(_) => String::new(),
    }
}

fn shown_v6(address: SocketAddr) -> String {
    let ip: Ipv6Addr = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let octets = ip.octets();
    let text: String =
        octets.as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect();
    format!("{text}:{:04X}", address.port())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connected(listen: &str, to: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let address: SocketAddr = format!("{to}:{port}").parse().unwrap();
        let client = TcpStream::connect(address).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn ends(here: &TcpStream) -> Ends {
        Ends { from: here.peer_addr().unwrap(), here: here.local_addr().unwrap() }
    }

    #[test]
    fn the_other_end_is_found_with_its_user_and_process() {
        let (_client, here) = connected("127.0.0.1:0", "127.0.0.1");
        let socket = ends(&here).other().unwrap();
        assert_eq!(socket.uid, rustix::process::geteuid().as_raw());
        assert_eq!(socket.process(), Some(i32::try_from(std::process::id()).unwrap()));
    }

    #[test]
    fn a_socket_for_both_kinds_of_addresses_is_found_too() {
        let (_client, here) = connected("127.0.0.1:0", "[::ffff:127.0.0.1]");
        assert!(ends(&here).other().is_some());
    }

    #[test]
    fn an_end_that_is_closed_is_nobodys_and_not_roots() {
        let (client, here) = connected("127.0.0.1:0", "127.0.0.1");
        let ends = ends(&here);
        drop(client);
        assert_eq!(ends.other(), None);
    }

    #[test]
    fn a_line_is_read_by_its_fields() {
        let table = "  sl  local_address rem_address   st\n   \
                     0: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 77 1 x\n";
        assert_eq!(socket(table, "0100007F:C350", "0100007F:1F90"), Some(Socket { uid: 1000, inode: 77 }));
        assert_eq!(socket(table, "0100007F:1F90", "0100007F:C350"), None);
        assert_eq!(socket(&table.replace(" 77 ", " 0 "), "0100007F:C350", "0100007F:1F90"), None);
    }
}
