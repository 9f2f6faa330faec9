//! Virtual MFA devices: time-based one-time passwords (RFC 6238, SHA-1, 6 digits, 30 s). A code is
//! accepted once, in its own step and the ones before and after it.

use ring::hmac;

use super::error::AwsError;
use super::store::Store;
use crate::sandbox::clock::Millis;

/// In milliseconds.
const STEP: Millis = 30_000;

#[derive(Debug)]
pub(super) struct MfaDevice {
    pub(super) serial: String,
    /// The ARN of the user.
    pub(super) owner: String,
    pub(super) seed: Vec<u8>,
    pub(super) created_at: Millis,
    /// The step of the newest code that was used. Older codes are not accepted either.
    last_step: i64,
}

impl MfaDevice {
    pub(super) fn new(serial: String, owner: String, seed: Vec<u8>, now: Millis) -> Self {
        Self {
            serial,
            owner,
            seed,
            created_at: now,
            last_step: 0,
        }
    }

    pub(super) fn code(&self, now: Millis) -> String {
        code_of_step(&self.seed, now / STEP)
    }

    fn use_code(&mut self, code: &str, now: Millis) -> bool {
        let step = now / STEP;
        let found = (step - 1..=step + 1)
            .filter(|step| *step > self.last_step)
            .find(|step| code_of_step(&self.seed, *step) == code);

        if let Some(step) = found {
            self.last_step = step;
        }
        found.is_some()
    }
}

impl Store {
    /// Verifies a code, which is then used up. Returns whether the request has one. `user` is the
    /// ARN of the caller, if that is a user.
    pub(super) fn verify_mfa(
        &mut self,
        serial: Option<&str>,
        code: Option<&str>,
        user: Option<&str>,
        now: Millis,
    ) -> Result<bool, AwsError> {
        let (serial, code) = match (serial, code) {
            (None, None) => return Ok(false),
            (Some(serial), Some(code)) => (serial, code),
            _ => {
                let message = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";
                return Err(AwsError::denied(message));
            }
        };

        let device = self
            .mfa_devices
            .iter_mut()
            .find(|device| device.serial == serial && Some(device.owner.as_str()) == user);
        let Some(device) = device else {
            let message = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.";
            return Err(AwsError::denied(message));
        };

        if device.use_code(code, now) {
            Ok(true)
        } else {
            let message = "MultiFactorAuthentication failed with invalid MFA one time pass code. ";
            Err(AwsError::denied(message))
        }
    }
}

fn code_of_step(seed: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();

    let offset = bytes.last().map_or(0, |byte| usize::from(byte & 15));
    let number = bytes
        .iter()
        .skip(offset)
        .take(4)
        .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"12345678901234567890";

    #[test]
    fn rfc_6238_vectors() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (2_000_000_000, "279037"),
        ] {
            assert_eq!(code_of_step(SEED, seconds / 30), code);
        }
    }

    #[test]
    fn code_is_accepted_once_and_within_one_step() {
        let now = 1_000_000_000_000;
        let device = || MfaDevice::new("serial".into(), "user".into(), SEED.into(), now);
        let code = device().code(now);

        for (steps, is_accepted) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let mut device = device();
            assert_eq!(device.use_code(&code, now + steps * STEP), is_accepted);
            assert!(!is_accepted || !device.use_code(&code, now));
        }
    }

    #[test]
    fn older_code_is_refused_after_a_newer_one() {
        let now = 1_000_000_000_000;
        let mut device = MfaDevice::new("serial".into(), "user".into(), SEED.into(), now);
        let older = device.code(now);
        let newer = device.code(now + STEP);

        assert!(device.use_code(&newer, now));
        assert!(!device.use_code(&older, now));
    }
}
