//! The lookout's own process, and what crosses the socket between it and the daemon: what is to be done, and one answer for each
//! peer that somebody wants to know of.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use rustix::net::{RecvFlags, SendFlags, recv};
use serde::{Deserialize, Serialize};

use super::inspection::{Inspection, ProcessPin};
use super::procfs::{Hashes, ProcReader, Program, holder_of};
use crate::platform::sys::connection_cap;
use crate::sandbox::helper::ipc;

/// How the daemon starts one.
pub const ARGUMENT: &str = "--stand-lookout";
/// The longest message, in bytes: a few paths.
const LONGEST: usize = 64 * 1024;
/// The longest question.
const QUESTION: usize = 256;
/// How many questions are taken up before the first is answered.
const TOGETHER: usize = 64;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum InspectTarget {
    Pid(i32),
    Inode(u32),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Query {
    pub(super) id: u64,
    pub(super) task: Task,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Task {
    ProcReader {
        whom: InspectTarget,
        hash: bool,
    },
    /// Pins a process and looks at what it runs. That is kept until the same id asks for more, and is not answered.
    Begin(i32),
    Finish,
    /// Nobody will ask.
    Forget,
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
        crate::platform::sys::ignore(signal);
    }
    if let Ok(socket) = socket.as_fd().try_clone_to_owned() {
        stand(&socket);
    }
}

/// Answers until nobody asks any longer. Of all who wait, what may be gone soonest is looked at first.
pub(super) fn stand(socket: &OwnedFd) {
    let (to_hash, hashing) = mpsc::channel();
    if let Ok(socket) = socket.try_clone() {
        // Reading a large program takes a while, in which others are looked at.
        thread::spawn(move || {
            let mut hashes = Hashes::default();
            for (id, look) in hashing {
                answer(&socket, id, look, Some(&mut hashes));
            }
        });
    }
    let (mut kept, most) = (BTreeMap::new(), connection_cap());
    while let Some(first) = question(socket, RecvFlags::empty()) {
        let more = std::iter::from_fn(|| question(socket, RecvFlags::DONTWAIT));
        let queries = std::iter::once(first).chain(more).take(TOGETHER);
        let begun: Vec<_> = queries
            .filter_map(|query| Some((query.id, begin(&query, &mut kept, most)?)))
            .collect();
        for (id, (look, hash)) in begun {
            if hash {
                let _ = to_hash.send((id, look));
            } else if !answer(socket, id, look, None) {
                return;
            }
        }
    }
}

/// What is to be answered now, and whether with hashes.
fn begin(
    query: &Query,
    kept: &mut BTreeMap<u64, ProcReader>,
    most: usize,
) -> Option<(ProcReader, bool)> {
    match query.task {
        Task::ProcReader {
            whom: InspectTarget::Pid(pid),
            hash,
        } => Some((ProcReader::begin(Some(pid)), hash)),
        Task::ProcReader {
            whom: InspectTarget::Inode(inode),
            hash,
        } => Some((ProcReader::begin(holder_of(inode)), hash)),
        Task::Begin(pid) => {
            // The oldest: somebody who should have said so has not said that nobody will ask.
            if kept.len() >= most {
                kept.pop_first();
            }
            kept.insert(query.id, ProcReader::pinned(pid));
            None
        }
        Task::Finish => Some((kept.remove(&query.id).unwrap_or_default(), false)),
        Task::Forget => {
            kept.remove(&query.id);
            None
        }
    }
}

fn question(socket: &OwnedFd, flags: RecvFlags) -> Option<Query> {
    let mut text = [0; QUESTION];
    let (length, _) = recv(socket.as_fd(), &mut text, flags).ok()?;
    serde_json::from_slice(text.get(..length)?).ok()
}

/// Whether somebody still reads.
fn answer(socket: &OwnedFd, id: u64, look: ProcReader, hashes: Option<&mut Hashes>) -> bool {
    let report = look.finish(hashes);
    let mut answer = Answer {
        id,
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
    ipc::send(socket, &text, &pins, SendFlags::empty()).is_ok()
}

/// The next answer, or nothing if there will be none.
pub(super) fn receive(socket: &OwnedFd) -> Option<(u64, Inspection)> {
    let mut text = vec![0; LONGEST];
    loop {
        let (length, descriptors) = ipc::receive(socket, &mut text)?;
        let pin = descriptors.into_iter().next().map(ProcessPin::new);
        let answer = text
            .get(..length)
            .and_then(|text| serde_json::from_slice(text).ok());
        let Some(answer) = answer else { continue };
        let Answer {
            id,
            programs,
            units,
            has_terminal,
            is_whole,
            is_here,
        } = answer;
        return Some((
            id,
            Inspection {
                programs,
                units,
                has_terminal,
                is_whole,
                is_here,
                pin,
            },
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_pinned_is_kept_until_somebody_asks_or_nobody_will() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut kept = BTreeMap::new();
        let mut told =
            |id, task| begin(&Query { id, task }, &mut kept, 2).map(|(look, _)| look.finish(None));
        assert!(told(1, Task::Begin(me)).is_none() && told(2, Task::Begin(me)).is_none());
        let report = told(1, Task::Finish).unwrap();
        assert!(
            report
                .programs
                .first()
                .is_some_and(|first| first.process.pid == me)
                && report.pin.is_some()
        );
        assert!(told(2, Task::Forget).is_none());
        for id in [1, 2, 3] {
            // Nobody is looked at only now: it may be another program by now.
            assert!(told(id, Task::Finish).unwrap().programs.is_empty());
        }
        // Of three there is only room for the last two.
        for id in [4, 5, 6] {
            assert!(told(id, Task::Begin(me)).is_none());
        }
        let are_known = [4, 5, 6].map(|id| !told(id, Task::Finish).unwrap().programs.is_empty());
        assert_eq!(are_known, [false, true, true]);
        assert!(kept.is_empty());
    }
}
