//! What is sent to a helper process. Its socket holds few messages, and all users share it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::ipc::send_text;
use crate::sync::lock;

#[derive(Debug)]
pub(super) struct Outbox {
    socket: OwnedFd,
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

/// The messages that the socket has no room for. Each user's stay in order.
#[derive(Debug, Default)]
struct Waiting {
    users: BTreeMap<u32, VecDeque<Vec<u8>>>,
    last: u32,
}

impl Outbox {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            waiting: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    pub(super) fn try_clone_socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Sends a message now, or once there is room. One with descriptors is sent now, or fails.
    pub(super) fn send(
        &self,
        uid: u32,
        text: Vec<u8>,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut waiting = lock(&self.waiting);

        if waiting.users.is_empty() || !descriptors.is_empty() {
            match send_text(&self.socket, &text, descriptors, SendFlags::DONTWAIT) {
                Err(error) if is_full(&error) && descriptors.is_empty() => {}
                sent => return sent,
            }
        }

        waiting.users.entry(uid).or_default().push_back(text);
        self.filled.notify_one();

        Ok(())
    }

    /// Sends the messages that wait, until the helper has exited.
    pub(super) fn run(&self) {
        while self.send_waiting().is_ok() {}
    }

    fn send_waiting(&self) -> io::Result<()> {
        let waiting = lock(&self.waiting);
        let is_empty = |waiting: &mut Waiting| waiting.users.is_empty();
        let filled = self.filled.wait_while(waiting, is_empty);
        drop(filled.unwrap_or_else(PoisonError::into_inner));

        match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], None) {
            Err(Errno::INTR) => return Ok(()),
            polled => polled?,
        };

        let mut waiting = lock(&self.waiting);
        while let Some((uid, text)) = waiting.pop() {
            match send_text(&self.socket, &text, &[], SendFlags::DONTWAIT) {
                Err(error) if is_full(&error) => {
                    waiting.users.entry(uid).or_default().push_front(text);
                    break;
                }
                sent => sent?,
            }
        }

        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Waiting {
    /// The first message of the next user.
    fn pop(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut later = self.users.range(self.last.saturating_add(1)..);
        let next = later.next().or_else(|| self.users.iter().next());
        let uid = *next?.0;

        let messages = self.users.get_mut(&uid)?;
        let text = messages.pop_front()?;
        if messages.is_empty() {
            self.users.remove(&uid);
        }
        self.last = uid;

        Some((uid, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::helper::ipc;

    #[test]
    fn messages_wait_for_room_in_turn_for_each_user() {
        let (ours, theirs) = ipc::pair().unwrap();
        let outbox = Outbox::new(ours);
        for number in 0..5_000_u64 {
            let text = number.to_string().into_bytes();
            outbox.send(1000, text, &[]).unwrap();
        }
        outbox.send(1001, b"another".to_vec(), &[]).unwrap();

        std::thread::scope(|scope| {
            scope.spawn(|| outbox.run());
            let mut received = Vec::new();
            let mut buffer = [0; 64];
            while received.len() < 5_001 {
                let length = rustix::io::read(&theirs, &mut buffer).unwrap();
                received.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }

            let of_another = received.iter().position(|text| text == "another").unwrap();
            assert!(
                of_another < 4_000,
                "before most of the others: {of_another}"
            );
            received.remove(of_another);
            assert!(
                received
                    .iter()
                    .enumerate()
                    .all(|(number, text)| *text == number.to_string())
            );

            // As when the helper exits.
            drop(theirs);
            let _ = outbox.send(1000, b"the last".to_vec(), &[]);
            lock(&outbox.waiting)
                .users
                .entry(0)
                .or_default()
                .push_back(Vec::new());
            outbox.filled.notify_one();
        });
    }
}
