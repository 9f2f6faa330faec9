//! Only one `rolekeeper setup` of a user changes files at a time: kubectl loses a change of another kubectl.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure};

const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Locks the home folder itself, which needs no file and no right to write. Other programs that change the same files do not
/// know this lock, so that each change is compared as well. Where a folder cannot be locked, that has to do.
pub(super) fn acquire() -> Result<Option<File>, Failure> {
    let folder = connect::variable("HOME").and_then(|home| File::open(home).ok());
    let Some(folder) = folder else {
        return Ok(None);
    };

    let start = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if start.elapsed() < DEADLINE => {
                std::thread::sleep(PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Code::Unexpected,
                    "another rolekeeper setup has been running for 30 s",
                    "wait until it has finished, and run the command again",
                ));
            }
        }
    }
}
