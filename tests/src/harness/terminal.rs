//! A program on a terminal of its own, as a person sits before it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::home::{Home, Run, code};

impl Home {
    /// Runs a command on a terminal of this width, on which `typed` is typed. What it shows is in `stdout`.
    ///
    /// # Panics
    /// When there are no terminals, or it does not start.
    pub fn on_terminal(&self, command: Command, columns: u16, typed: &str) -> Run {
        self.at_terminal(command, columns, "", |terminal, _| type_on(terminal, typed))
            .0
    }

    /// The same, typed once a question is there.
    ///
    /// # Panics
    /// When there are no terminals, it does not start, or does not ask.
    pub fn on_terminal_when(&self, command: Command, question: &str, typed: &str) -> Run {
        self.at_terminal(command, 120, question, |terminal, _| {
            type_on(terminal, typed);
        })
        .0
    }

    /// Sends a command a signal once a question is there and this is done, and tells whether the terminal then shows what is
    /// typed.
    ///
    /// # Panics
    /// When there are no terminals, it does not start, or does not ask.
    pub fn on_terminal_until(
        &self,
        command: Command,
        question: &str,
        first: impl FnOnce(&mut File),
        signal: Signal,
    ) -> (Run, bool) {
        self.at_terminal(command, 120, question, |terminal, child| {
            first(terminal);
            kill_process(Pid::from_child(child), signal).expect("it runs");
        })
    }

    fn at_terminal(
        &self,
        mut command: Command,
        columns: u16,
        question: &str,
        act: impl FnOnce(&mut File, &Child),
    ) -> (Run, bool) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master)
            .and_then(|()| unlockpt(&master))
            .expect("it is ours");
        tcsetwinsize(
            &master,
            Winsize {
                ws_row: 40,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .expect("a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let open = || {
            rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
                .expect("it opens")
        };
        command
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()));
        let mut child = command.spawn().expect("it starts");
        let shown = format!("{command:?}");
        // The last hold on the other side, but for the child's.
        drop(command);
        let mut terminal = File::from(master);
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(question) {
            let mut some = [0; 1024];
            let length = terminal.read(&mut some).expect("it asks");
            bytes.extend(&some[..length]);
        }
        act(&mut terminal, &child);
        // It ends with an error when nobody is left on the other side.
        let _ = terminal.read_to_end(&mut bytes);
        let run = Run {
            code: code(child.wait().expect("it ends")),
            stdout: String::from_utf8(bytes)
                .expect("it prints UTF-8")
                .replace("\r\n", "\n"),
            stderr: String::new(),
        };
        self.printed(&shown, &run.stdout);
        let modes = tcgetattr(&terminal).expect("it is there").local_modes;
        (run, modes.contains(LocalModes::ECHO | LocalModes::ICANON))
    }
}

fn type_on(terminal: &mut File, text: &str) {
    terminal
        .write_all(text.as_bytes())
        .expect("it can be typed on");
}
