//! Words that nobody can guess.

use std::fmt::Write as _;
use std::io;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// In bytes; twice as many hexadecimal digits.
pub(crate) const LENGTH: usize = 32;

pub(crate) fn unguessable() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let mut secret = Zeroizing::new(String::with_capacity(2 * LENGTH));
    for byte in bytes.iter() {
        // A text takes whatever is written to it.
        let _ = write!(*secret, "{byte:02x}");
    }
    Ok(secret)
}
