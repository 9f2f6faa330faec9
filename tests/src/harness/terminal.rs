//! Programs on a pseudoterminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::Home;
use super::run::{Run, exit_code, utf8};

const COLUMNS: u16 = 120;

impl Home {
    /// Runs a command on a terminal of a width, and types a text. `stdout` is everything that the
    /// terminal shows.
    ///
    /// # Panics
    /// Without a terminal, or if the program does not start.
    pub fn on_terminal(&self, command: Command, columns: u16, typed: &str) -> Run {
        self.at_terminal(command, columns, "", |terminal, _| type_on(terminal, typed))
            .0
    }

    /// Like [`Self::on_terminal`]; types once the terminal shows the question.
    ///
    /// # Panics
    /// Without a terminal, or if the program does not ask.
    pub fn on_terminal_when(&self, command: Command, question: &str, typed: &str) -> Run {
        self.at_terminal(command, 120, question, |terminal, _| {
            type_on(terminal, typed);
        })
        .0
    }

    /// Once the terminal shows the question, calls `first` and sends a signal. The flag says
    /// whether the terminal echoes again after the program has ended.
    ///
    /// # Panics
    /// Without a terminal, or if the program does not ask.
    pub fn on_terminal_until(
        &self,
        command: Command,
        question: &str,
        first: impl FnOnce(&mut File),
        signal: Signal,
    ) -> (Run, bool) {
        self.at_terminal(command, COLUMNS, question, |terminal, child| {
            first(terminal);
            kill_process(Pid::from_child(child), signal).expect("the program runs");
        })
    }

    fn at_terminal(
        &self,
        mut command: Command,
        columns: u16,
        question: &str,
        act: impl FnOnce(&mut File, &Child),
    ) -> (Run, bool) {
        let mut terminal = open_terminal(columns);
        command
            .stdin(Stdio::from(open_other_end(&terminal)))
            .stdout(Stdio::from(open_other_end(&terminal)))
            .stderr(Stdio::from(open_other_end(&terminal)));
        let mut child = command.spawn().expect("the program starts");
        let source = format!("{command:?}");
        // Only the child may hold the other end, or reading would never end.
        drop(command);

        let mut bytes = read_until(&mut terminal, question);
        act(&mut terminal, &child);
        // Linux reports an error when the other end is closed.
        let _ = terminal.read_to_end(&mut bytes);

        let run = Run {
            code: exit_code(child.wait().expect("the program ends")),
            stdout: utf8(bytes).replace("\r\n", "\n"),
            stderr: String::new(),
        };
        self.leaks.add_output(&source, &run.stdout);

        let modes = tcgetattr(&terminal).expect("terminal modes").local_modes;
        (run, modes.contains(LocalModes::ECHO | LocalModes::ICANON))
    }
}

fn open_terminal(columns: u16) -> File {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("a terminal");
    unlockpt(&terminal).expect("a terminal");

    let size = Winsize {
        ws_row: 40,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).expect("a size");

    File::from(terminal)
}

fn open_other_end(terminal: &File) -> OwnedFd {
    let name = ptsname(terminal, Vec::new()).expect("a name");
    rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("the other end")
}

fn read_until(terminal: &mut File, question: &str) -> Vec<u8> {
    let mut bytes = Vec::new();

    while !String::from_utf8_lossy(&bytes).contains(question) {
        let mut buffer = [0; 1024];
        let length = terminal.read(&mut buffer).expect("the program asks");
        bytes.extend(&buffer[..length]);
    }
    bytes
}

fn type_on(terminal: &mut File, text: &str) {
    terminal
        .write_all(text.as_bytes())
        .expect("the terminal takes input");
}
