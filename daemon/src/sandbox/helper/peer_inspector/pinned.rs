//! Processes whose inspection may be finished later, and that may be compared again.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::inspection::Inspection;
use super::procfs::{ProcReader, program_file};

/// By the id of the request that pinned the process.
pub(super) struct PinnedProcesses {
    processes: BTreeMap<u64, PinnedProcess>,
    capacity: usize,
}

struct PinnedProcess {
    pid: i32,
    memory: Option<ProcessMemory>,
    /// Device and inode of its program.
    file: Option<(u64, u64)>,
    /// Until the inspection is finished.
    reader: Option<ProcReader>,
}

/// A view of a process's address space, which ends with exec and with exit (proc_pid_pagemap(5), proc_pid_maps(5)).
struct ProcessMemory(File);

impl PinnedProcesses {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            processes: BTreeMap::new(),
            capacity,
        }
    }

    /// Pins a process, and reads it alone: most pinned processes need no more. Drops the oldest one over capacity.
    pub(super) fn pin(&mut self, id: u64, pid: i32) {
        // The memory comes first. While it is valid, all that is read belongs to one program.
        let memory = ProcessMemory::open(pid);
        let reader = ProcReader::pinned(pid);
        let process = PinnedProcess {
            pid,
            memory,
            file: reader.first_file(),
            reader: Some(reader),
        };

        if self.processes.len() >= self.capacity {
            self.processes.pop_first();
        }
        self.processes.insert(id, process);
    }

    /// An unknown process is not inspected now: it may run another program by now.
    pub(super) fn finish(&mut self, id: u64) -> Inspection {
        let process = self.processes.get_mut(&id);
        let reader = process.and_then(|process| process.reader.take());
        reader.unwrap_or_default().finish()
    }

    /// Whether a process still runs the program that was inspected. The file is compared, too: a child that shares the
    /// memory (`CLONE_VM`) keeps it alive after the process has called exec.
    pub(super) fn is_unchanged(&self, id: u64) -> bool {
        self.processes.get(&id).is_some_and(|process| {
            let memory = process.memory.as_ref();
            program_file(process.pid) == process.file && memory.is_some_and(ProcessMemory::is_alive)
        })
    }

    pub(super) fn release(&mut self, id: u64) {
        self.processes.remove(&id);
    }
}

impl ProcessMemory {
    /// Of another user's process the pagemap cannot be opened, but the maps, with `CAP_SYS_PTRACE`.
    fn open(pid: i32) -> Option<Self> {
        let mut files = ["pagemap", "maps"].into_iter();
        let file = files.find_map(|file| File::open(format!("/proc/{pid}/{file}")).ok());
        file.map(Self)
    }

    fn is_alive(&self) -> bool {
        // The pagemap refuses to read a single byte, and does so before it waits for the process's memory lock.
        match rustix::io::pread(self.0.as_fd(), &mut [0; 1], 0) {
            Ok(length) => length > 0,
            Err(error) => error == Errno::INVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn pinned_process_is_stored_until_it_is_released() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut pinned = PinnedProcesses::new(2);
        pinned.pin(1, me);
        let inspection = pinned.finish(1);
        assert_eq!(inspection.programs[0].process.pid, me);
        assert!(pinned.is_unchanged(1) && !pinned.is_unchanged(2));
        for unknown in [1, 2] {
            assert!(pinned.finish(unknown).programs.is_empty());
        }
        pinned.release(1);
        assert!(!pinned.is_unchanged(1));

        for id in [4, 5, 6] {
            pinned.pin(id, me);
        }
        let is_stored = [4, 5, 6].map(|id| !pinned.finish(id).programs.is_empty());
        assert_eq!(is_stored, [false, true, true], "capacity is two");
    }

    #[test]
    fn exec_with_the_memory_still_in_use_is_a_change() {
        let mut child = Command::new("sh")
            .args(["-c", "read x; exec sleep 60"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut pinned = PinnedProcesses::new(2);
        pinned.pin(1, pid);
        // As a child with CLONE_VM keeps it alive.
        let alive = ProcessMemory::open(std::process::id().try_into().unwrap());
        pinned.processes.get_mut(&1).unwrap().memory = alive;
        assert!(pinned.is_unchanged(1));

        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        while pinned.is_unchanged(1) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
