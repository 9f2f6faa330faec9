//! Words that nobody can guess, and bytes as words.

use std::fmt::Write as _;
use std::io;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// In bytes; twice as many hexadecimal digits.
pub(crate) const LENGTH: usize = 32;

pub(crate) fn unguessable() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    SystemRandom::new()
        .fill(&mut *bytes)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(Zeroizing::new(hex(&*bytes)))
}

/// Two hexadecimal digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // A text takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
