//! Checksums that clients send, in a header or in a trailer. An unsupported one is refused:
//! accepting it unverified would hide a client's mistake.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use crate::sandbox::error::ApiError;

pub(super) const PREFIX: &str = "x-amz-checksum-";

/// A verified checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) header: String,
    /// In base64.
    pub(super) value: String,
}

pub(super) fn verify(header: &str, value: &str, body: &[u8]) -> Result<Checksum, ApiError> {
    let algorithm = header.strip_prefix(PREFIX).unwrap_or(header);
    let Some(computed) = compute(algorithm, body) else {
        let message = format!("the sandbox does not support the checksum {header}");
        return Err(ApiError::new(501, "NotImplemented", message));
    };

    if computed != value {
        let message = format!("the body does not have the checksum of {header}");
        return Err(ApiError::new(400, "BadDigest", message));
    }
    Ok(Checksum {
        header: header.into(),
        value: computed,
    })
}

fn compute(algorithm: &str, body: &[u8]) -> Option<String> {
    match algorithm {
        "crc32" => Some(BASE64.encode(crc32(CRC32, body))),
        "crc32c" => Some(BASE64.encode(crc32(CRC32C, body))),
        "crc64nvme" => Some(BASE64.encode(crc(CRC64_NVME, u64::MAX, body).to_be_bytes())),
        "sha256" => Some(BASE64.encode(Sha256::digest(body))),
        _ => None,
    }
}

// Polynomials with reversed bits.
const CRC32: u32 = 0xedb8_8320;
const CRC32C: u32 = 0x82f6_3b78;
const CRC64_NVME: u64 = 0x9a6c_9329_ac4b_c9b5;

fn crc32(polynomial: u32, body: &[u8]) -> [u8; 4] {
    let [.., a, b, c, d] = crc(polynomial.into(), u32::MAX.into(), body).to_be_bytes();
    [a, b, c, d]
}

/// A reflected CRC. The mask has the width of the CRC: it is the initial value, and inverts the
/// result.
fn crc(polynomial: u64, mask: u64, body: &[u8]) -> u64 {
    let table: [u64; 256] = std::array::from_fn(|byte| {
        (0..8).fold(byte as u64, |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ polynomial
            } else {
                crc >> 1
            }
        })
    });

    let crc = body.iter().fold(mask, |crc, byte| {
        let index = crc.to_le_bytes()[0] ^ byte;
        crc >> 8 ^ table[usize::from(index)]
    });
    crc ^ mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_have_their_published_check_values() {
        let text = b"123456789";

        assert_eq!(crc32(CRC32, text), 0xcbf4_3926_u32.to_be_bytes());
        assert_eq!(crc32(CRC32C, text), 0xe306_9283_u32.to_be_bytes());
        assert_eq!(crc(CRC64_NVME, u64::MAX, text), 0xae8b_1486_0a79_9888);
    }

    #[test]
    fn wrong_or_unsupported_checksum_is_refused() {
        let header = "x-amz-checksum-crc32";
        let checksum = verify(header, "y/Q5Jg==", b"123456789").unwrap();
        assert_eq!(checksum.value, "y/Q5Jg==");

        let wrong = verify(header, "y/Q5Jg==", b"12345678").unwrap_err();
        assert_eq!(wrong.code, "BadDigest");

        let unsupported = verify("x-amz-checksum-sha1", "", b"").unwrap_err();
        assert_eq!(unsupported.code, "NotImplemented");
    }
}
