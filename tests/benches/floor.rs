//! The floor for `credential-process`: the smallest program with the standard library. It connects, sends one frame and prints
//! the reply. `tests/bench` builds it with rustc.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn main() {
    let socket = std::env::var_os("ROLEKEEPER_SOCKET").expect("a socket");
    let text = br#"{"v":1,"request":{"lease":{"profile":"p0000"}}}"#;
    let mut frame = (text.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(text);
    let mut stream = UnixStream::connect(socket).expect("a daemon");
    stream.write_all(&frame).expect("it is sent");
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a header");
    let mut reply = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut reply).expect("a reply");
    reply.push(b'\n');
    std::io::stdout().write_all(&reply).expect("it is printed");
}
