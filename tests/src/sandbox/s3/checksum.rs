//! The checksums that clients send along, in a header or behind the body. One of a kind that is not known here is refused:
//! accepting it unread would hide a client's mistake.

use sha2::{Digest, Sha256};

use crate::sandbox::error::ApiError;

pub(super) const PREFIX: &str = "x-amz-checksum-";

/// A checksum that a body has: the name of its header, and its value in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) header: String,
    pub(super) value: String,
}

/// The checksum that a client says the body has, once it has been compared.
pub(super) fn check(header: &str, value: &str, body: &[u8]) -> Result<Checksum, ApiError> {
    let algorithm = header.strip_prefix(PREFIX).unwrap_or(header);
    let Some(computed) = compute(algorithm, body) else {
        return Err(ApiError::new(
            501,
            "NotImplemented",
            format!("the sandbox does not know the checksum {header}"),
        ));
    };
    if computed != value {
        return Err(ApiError::new(
            400,
            "BadDigest",
            format!("the body does not have the checksum that {header} gives"),
        ));
    }
    Ok(Checksum {
        header: header.into(),
        value: computed,
    })
}

fn compute(algorithm: &str, body: &[u8]) -> Option<String> {
    Some(match algorithm {
        "crc32" => base64(crc32(0xedb8_8320, body).to_be_bytes().as_slice()),
        "crc32c" => base64(crc32(0x82f6_3b78, body).to_be_bytes().as_slice()),
        "crc64nvme" => base64(crc64(0x9a6c_9329_ac4b_c9b5, body).to_be_bytes().as_slice()),
        "sha256" => base64(&Sha256::digest(body)),
        _ => return None,
    })
}

/// The polynomial comes with its bits reversed; the register begins and ends inverted, as all of these have it.
fn crc32(polynomial: u32, body: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|byte| {
        let step = |crc: u32| {
            if crc & 1 == 1 {
                crc >> 1 ^ polynomial
            } else {
                crc >> 1
            }
        };
        (0..8).fold(u32::try_from(byte).unwrap_or(0), |crc, _| step(crc))
    });
    !body.iter().fold(!0, |crc: u32, byte| {
        crc >> 8 ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)]
    })
}

fn crc64(polynomial: u64, body: &[u8]) -> u64 {
    let table: [u64; 256] = std::array::from_fn(|byte| {
        let step = |crc: u64| {
            if crc & 1 == 1 {
                crc >> 1 ^ polynomial
            } else {
                crc >> 1
            }
        };
        (0..8).fold(u64::try_from(byte).unwrap_or(0), |crc, _| step(crc))
    });
    !body.iter().fold(!0, |crc: u64, byte| {
        crc >> 8 ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)]
    })
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | group.get(at).map_or(0, |byte| usize::from(*byte))
        });
        for at in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * at) & 63]);
            text.push(if at <= group.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_have_their_published_check_values() {
        let text = b"123456789";
        assert_eq!(crc32(0xedb8_8320, text), 0xcbf4_3926);
        assert_eq!(crc32(0x82f6_3b78, text), 0xe306_9283);
        assert_eq!(crc64(0x9a6c_9329_ac4b_c9b5, text), 0xae8b_1486_0a79_9888);
        assert_eq!(
            ["", "f", "fo", "foo"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v"]
        );
    }

    #[test]
    fn a_body_with_another_checksum_is_refused_and_so_is_an_unknown_kind() {
        assert_eq!(
            check("x-amz-checksum-crc32", "y/Q5Jg==", b"123456789")
                .unwrap()
                .value,
            "y/Q5Jg=="
        );
        assert_eq!(
            check("x-amz-checksum-crc32", "y/Q5Jg==", b"12345678")
                .unwrap_err()
                .code,
            "BadDigest"
        );
        assert_eq!(
            check("x-amz-checksum-sha1", "", b"").unwrap_err().code,
            "NotImplemented"
        );
    }
}
