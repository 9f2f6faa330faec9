//! The lookout's own process, and what crosses the socket between it and the daemon: a message each way for each peer.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use rustix::net::{RecvFlags, SendFlags, recv};
use serde::{Deserialize, Serialize};

use super::look::{Hashes, Look, Program, holder_of};
use super::sight::{Pin, Seen};
use crate::passing;

/// How the daemon starts one.
pub const ARGUMENT: &str = "--stand-lookout";
/// The longest message, in bytes: a few paths.
const LONGEST: usize = 64 * 1024;
/// The longest question.
const QUESTION: usize = 256;
/// How many questions are taken up before the first is answered.
const TOGETHER: usize = 64;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Whom {
    Pid(i32),
    Inode(u32),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Query {
    pub(super) id: u64,
    pub(super) whom: Whom,
    pub(super) pin: bool,
    pub(super) hash: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    id: u64,
    programs: Vec<Program>,
    units: Vec<String>,
    has_terminal: bool,
    is_whole: bool,
    is_here: bool,
}

/// Stands lookout for whoever started this process. It goes when the daemon has gone, and not when somebody tells both to.
pub fn stand_at(socket: impl AsFd) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        crate::process::ignore(signal);
    }
    if let Ok(socket) = socket.as_fd().try_clone_to_owned() {
        stand(&socket);
    }
}

/// Answers until nobody asks any longer. Of all who wait, what may be gone soonest is looked at first.
pub(super) fn stand(socket: &OwnedFd) {
    let (to_hash, hashing) = mpsc::channel::<(Look, Query)>();
    if let Ok(socket) = socket.try_clone() {
        // Reading a large program takes a while, in which others are looked at.
        thread::spawn(move || {
            let mut hashes = Hashes::default();
            for (look, query) in hashing {
                answer(&socket, look, &query, Some(&mut hashes));
            }
        });
    }
    while let Some(first) = question(socket, RecvFlags::empty()) {
        let more = std::iter::from_fn(|| question(socket, RecvFlags::DONTWAIT));
        let begun: Vec<_> = std::iter::once(first)
            .chain(more)
            .take(TOGETHER)
            .map(|query| {
                let pid = match query.whom {
                    Whom::Pid(pid) => Some(pid),
                    Whom::Inode(inode) => holder_of(inode),
                };
                (Look::begin(pid, query.pin), query)
            })
            .collect();
        for (look, query) in begun {
            if query.hash {
                let _ = to_hash.send((look, query));
            } else if !answer(socket, look, &query, None) {
                return;
            }
        }
    }
}

fn question(socket: &OwnedFd, flags: RecvFlags) -> Option<Query> {
    let mut text = [0; QUESTION];
    let (length, _) = recv(socket.as_fd(), &mut text, flags).ok()?;
    serde_json::from_slice(text.get(..length)?).ok()
}

/// Whether somebody still reads.
fn answer(socket: &OwnedFd, look: Look, query: &Query, hashes: Option<&mut Hashes>) -> bool {
    let report = look.finish(hashes);
    let mut answer = Answer {
        id: query.id,
        programs: report.programs,
        units: report.units,
        has_terminal: report.has_terminal,
        is_whole: report.is_whole,
        is_here: report.is_here,
    };
    let mut text = serde_json::to_vec(&answer).unwrap_or_default();
    // Paths of a kilobyte in all generations still fit; whatever does not is not shown.
    if text.len() > LONGEST {
        answer.programs.truncate(1);
        answer.units.clear();
        answer.is_whole = false;
        text = serde_json::to_vec(&answer).unwrap_or_default();
    }
    let pins: Vec<_> = report.pin.iter().map(AsFd::as_fd).collect();
    passing::send(socket, &text, &pins, SendFlags::empty()).is_ok()
}

/// The next answer, or nothing if there will be none.
pub(super) fn receive(socket: &OwnedFd) -> Option<(u64, Seen)> {
    let mut text = vec![0; LONGEST];
    loop {
        let (length, descriptors) = passing::receive(socket, &mut text)?;
        let pin = descriptors.into_iter().next().map(Pin::new);
        let answer = text.get(..length).and_then(|text| serde_json::from_slice(text).ok());
        let Some(answer) = answer else { continue };
        let Answer { id, programs, units, has_terminal, is_whole, is_here } = answer;
        return Some((id, Seen { programs, units, has_terminal, is_whole, is_here, pin }));
    }
}
