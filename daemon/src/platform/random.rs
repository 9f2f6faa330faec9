//! Random tokens, and bytes in hexadecimal digits.

use std::fmt::Write as _;
use std::io;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The length of a random token in bytes. Its text has two hexadecimal digits a byte.
pub(crate) const LENGTH: usize = 32;

/// 256 bits of the system's random generator, in hexadecimal digits.
pub(crate) fn random_token() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    SystemRandom::new()
        .fill(&mut *bytes)
        .map_err(|_| io::Error::other("the system's random generator failed"))?;
    Ok(Zeroizing::new(hex(&*bytes)))
}

/// Two lower-case hexadecimal digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
