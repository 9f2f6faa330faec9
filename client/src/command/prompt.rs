//! A secret from whoever runs a command: typed without an echo on a terminal, or else a line of standard input.

use std::io::{self, BufRead, IsTerminal, Read};

use rolekeeper::protocol::{Code, Failure};

/// The most that is read, in bytes: more than the longest token.
const CAP: usize = 64 * 1024;

/// No core file, and nobody who traces this process, gets what is typed.
pub(super) fn hide() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let _ = setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        );
    }
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Whether somebody sees the question.
pub(super) fn is_asked() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a text that nobody is to see. The last line's end is not part of it.
pub(super) fn secret(question: &str) -> Result<String, Failure> {
    let text = if is_asked() { typed(question) } else { piped() };
    let text = text.map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("it cannot be read: {error}"),
            "type it at the prompt, or give it on standard input: rolekeeper login < FILE",
        )
    })?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "nothing was typed",
            "the same again, with what was asked for",
        ));
    }
    Ok(text.to_owned())
}

fn piped() -> io::Result<String> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(CAP as u64 + 1)
        .read_line(&mut text)?;
    if text.len() > CAP {
        Err(io::Error::other("it is longer than any token"))
    } else {
        Ok(text)
    }
}

/// Byte by byte, because a line that a terminal edits has 4,096 bytes at the most.
#[cfg(unix)]
fn typed(question: &str) -> io::Result<String> {
    const CANCEL: u8 = 3;
    const END: u8 = 4;
    const ERASE: [u8; 2] = [8, 127];
    const ERASE_ALL: u8 = 21;

    let silence = silent::Silence::begin()?;
    eprint(question);
    let mut bytes: Vec<u8> = Vec::new();
    let read = loop {
        let mut byte = [0];
        match io::stdin().lock().read(&mut byte) {
            Ok(0) => break Ok(()),
            Ok(_) => match byte[0] {
                b'\n' | b'\r' | END => break Ok(()),
                CANCEL => break Err(io::Error::other("it was given up")),
                each if ERASE.contains(&each) => drop(bytes.pop()),
                ERASE_ALL => bytes.clear(),
                _ if bytes.len() == CAP => {
                    break Err(io::Error::other("it is longer than any token"));
                }
                each => bytes.push(each),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    drop(silence);
    eprint("\n");
    read?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// A terminal that shows nothing of what is typed.
#[cfg(unix)]
mod silent {
    use std::io;
    use std::sync::{Mutex, MutexGuard, Once, PoisonError};
    use std::thread;

    use rustix::termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
    };
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    use crate::command::signals::heeded;

    /// Until it is dropped, or a signal ends this program: then the terminal is as it was before.
    pub(super) struct Silence(());

    struct Modes {
        before: Termios,
        silent: Termios,
    }

    /// While a question stands.
    static MODES: Mutex<Option<Modes>> = Mutex::new(None);
    /// Signals have been listened for ever since: what is no longer listened for would be ignored.
    static LISTENER: Once = Once::new();

    impl Silence {
        pub(super) fn begin() -> io::Result<Self> {
            let mut failed = None;
            LISTENER.call_once(|| failed = listen().err());
            if let Some(error) = failed {
                return Err(error);
            }
            let before = tcgetattr(io::stdin())?;
            let mut silent = before.clone();
            silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
            silent.special_codes[SpecialCodeIndex::VMIN] = 1;
            silent.special_codes[SpecialCodeIndex::VTIME] = 0;
            let mut modes = lock();
            set(&silent)?;
            *modes = Some(Modes { before, silent });
            Ok(Self(()))
        }
    }

    impl Drop for Silence {
        fn drop(&mut self) {
            if let Some(modes) = lock().take() {
                let _ = set(&modes.before);
            }
        }
    }

    fn listen() -> io::Result<()> {
        let mut signals = Signals::new(heeded([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP]))?;
        thread::spawn(move || {
            for signal in signals.forever() {
                let modes = lock();
                let _ = modes.as_ref().map(|modes| set(&modes.before));
                let _ = emulate_default_handler(signal);
                // It was stopped, and goes on.
                let _ = modes.as_ref().map(|modes| set(&modes.silent));
            }
        });
        Ok(())
    }

    fn lock() -> MutexGuard<'static, Option<Modes>> {
        MODES.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(modes: &Termios) -> io::Result<()> {
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, modes)?)
    }
}

#[cfg(not(unix))]
fn typed(_question: &str) -> io::Result<String> {
    Err(io::Error::other("it would be shown on this terminal"))
}

/// Where there is no standard error nobody sees the question, and may answer it all the same.
#[cfg(unix)]
fn eprint(text: &str) {
    use std::io::Write;
    let _ = io::stderr().write_all(text.as_bytes());
}
