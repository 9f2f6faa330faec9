//! A program on a terminal of its own, as a person sits before it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::home::{Home, Run, code};

impl Home {
    /// Runs a command on a terminal of this width, on which `typed` is typed. What it shows is in `stdout`.
    ///
    /// # Panics
    /// When there are no terminals, or it does not start.
    pub fn on_terminal(&self, command: Command, columns: u16, typed: &str) -> Run {
        self.at_terminal(command, columns, "", typed)
    }

    /// The same, typed once a question is there.
    ///
    /// # Panics
    /// When there are no terminals, it does not start, or does not ask.
    pub fn on_terminal_when(&self, command: Command, question: &str, typed: &str) -> Run {
        self.at_terminal(command, 120, question, typed)
    }

    fn at_terminal(&self, mut command: Command, columns: u16, question: &str, typed: &str) -> Run {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let open = || rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it opens");
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
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
        terminal.write_all(typed.as_bytes()).expect("it can be typed on");
        // It ends with an error when nobody is left on the other side.
        let _ = terminal.read_to_end(&mut bytes);
        let run = Run {
            code: code(child.wait().expect("it ends")),
            stdout: String::from_utf8(bytes).expect("it prints UTF-8").replace("\r\n", "\n"),
            stderr: String::new(),
        };
        self.printed(&shown, &run.stdout);
        run
    }
}
