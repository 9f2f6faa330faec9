//! Reads a secret from the user: typed without echo on a terminal, or else a line of standard input.

use std::io::{self, BufRead, IsTerminal, Read};

use rolekeeper::protocol::{Code, Failure};
use rolekeeper::text::printable;

/// The maximum length of a secret, in bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// Disables core dumps, and tracing by processes of the same user.
pub(super) fn disable_core_dumps() {
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

/// Whether standard input is a terminal.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a secret. The result has no line end.
pub(super) fn secret(question: &str) -> Result<String, Failure> {
    let text = if is_interactive() {
        typed(&printable(question))
    } else {
        piped()
    };

    let text = text.map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("cannot read the secret: {error}"),
            "type it at the prompt, or pass it on standard input, as one line of UTF-8",
        )
    })?;

    // Editors and PowerShell put a byte order mark before a text.
    let text = text.trim_start_matches('\u{feff}');
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "the secret is empty",
            "run the command again, and type the secret",
        ));
    }

    Ok(text.to_owned())
}

fn piped() -> io::Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_LENGTH as u64 + 1)
        .read_until(b'\n', &mut bytes)?;
    if bytes.len() > MAX_LENGTH {
        return Err(io::Error::other("it is too long"));
    }

    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if is_utf16 {
        return Err(io::Error::other("it is UTF-16 text; save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// Reads byte by byte, because the terminal's own line editing is limited to 4,096 bytes.
#[cfg(unix)]
fn typed(question: &str) -> io::Result<String> {
    const CANCEL: u8 = 3;
    const END: u8 = 4;
    const ERASE: [u8; 2] = [8, 127];
    const ERASE_ALL: u8 = 21;

    let echo_off = no_echo::EchoOff::start()?;

    eprint(question);
    let mut bytes: Vec<u8> = Vec::new();
    let read = loop {
        let mut byte = [0];
        match io::stdin().lock().read(&mut byte) {
            Ok(0) => break Ok(()),
            Ok(_) => match byte[0] {
                b'\n' | b'\r' | END => break Ok(()),
                CANCEL => break Err(io::Error::other("cancelled")),
                each if ERASE.contains(&each) => drop(bytes.pop()),
                ERASE_ALL => bytes.clear(),
                _ if bytes.len() == MAX_LENGTH => {
                    break Err(io::Error::other("it is too long"));
                }
                each => bytes.push(each),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };

    drop(echo_off);
    eprint("\n");
    read?;

    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// A terminal without echo.
#[cfg(unix)]
mod no_echo {
    use std::io;
    use std::sync::{Mutex, MutexGuard, Once, PoisonError};
    use std::thread;

    use rustix::termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
    };
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    use crate::command::signals::not_ignored;

    /// Turns the echo off until it is dropped, or a signal stops this program.
    pub(super) struct EchoOff(());

    struct Modes {
        before: Termios,
        no_echo: Termios,
    }

    /// Set while the echo is off.
    static MODES: Mutex<Option<Modes>> = Mutex::new(None);
    /// The signal handler stays installed, because an uninstalled one would ignore the signal.
    static LISTENER: Once = Once::new();

    impl EchoOff {
        pub(super) fn start() -> io::Result<Self> {
            let mut failed = None;
            LISTENER.call_once(|| failed = listen().err());
            if let Some(error) = failed {
                return Err(error);
            }

            let before = tcgetattr(io::stdin())?;
            let mut no_echo = before.clone();
            no_echo.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
            no_echo.special_codes[SpecialCodeIndex::VMIN] = 1;
            no_echo.special_codes[SpecialCodeIndex::VTIME] = 0;
            let mut modes = lock();
            set(&no_echo)?;
            *modes = Some(Modes { before, no_echo });

            Ok(Self(()))
        }
    }

    impl Drop for EchoOff {
        fn drop(&mut self) {
            if let Some(modes) = lock().take() {
                let _ = set(&modes.before);
            }
        }
    }

    fn listen() -> io::Result<()> {
        let mut signals = Signals::new(not_ignored([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP]))?;
        thread::spawn(move || {
            for signal in signals.forever() {
                let modes = lock();
                let _ = modes.as_ref().map(|modes| set(&modes.before));
                let _ = emulate_default_handler(signal);
                // The program was stopped and continues.
                let _ = modes.as_ref().map(|modes| set(&modes.no_echo));
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
    Err(io::Error::other("this terminal cannot hide it"))
}

/// Prints to standard error. A failure is ignored: the user can still answer.
#[cfg(unix)]
fn eprint(text: &str) {
    use std::io::Write;
    let _ = io::stderr().write_all(text.as_bytes());
}
