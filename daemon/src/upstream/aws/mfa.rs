//! Multi-factor authentication: one code of the device buys a session of the user, which assumes all roles.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use totp_rs::{Builder, Secret};
use zeroize::Zeroizing;

use super::Aws;
use super::error::AwsError;
use super::keys::Keys;
use super::sts::{MfaCode, SessionKeys};
use crate::config::{MfaCodeSource, MfaSettings};
use crate::sync::lock;
use crate::token_source::{RunningTokenCommand, TokenSource};

/// A session with less time left is not used any more.
const MIN_LEFT: Duration = Duration::from_secs(120);
/// A code is valid for one step of this length, and is accepted once.
const STEP: u64 = 30;

/// The MFA of one user.
#[derive(Debug)]
pub(super) struct Mfa {
    pub(super) settings: MfaSettings,
    /// Where codes or their seed come from, unless a person is asked.
    source: Option<TokenSource>,
    /// The session of the user. Whoever finds none fetches it, and others wait.
    session: tokio::sync::Mutex<Option<SessionKeys>>,
    /// The code that was sent last, and the step in which that was.
    last_code: std::sync::Mutex<Option<(String, u64)>>,
}

impl Mfa {
    /// The command that prints codes, while it runs.
    pub(super) fn running_command(&self) -> Option<RunningTokenCommand> {
        self.source.as_ref()?.running_command()
    }

    pub(super) fn new(settings: MfaSettings, source: Option<TokenSource>) -> Self {
        Self {
            settings,
            source,
            session: tokio::sync::Mutex::default(),
            last_code: std::sync::Mutex::default(),
        }
    }
}

impl Aws {
    /// The keys of the user's session, which has passed MFA.
    pub(super) async fn mfa_session(&self, mfa: &Mfa, length: Duration) -> Result<Keys, AwsError> {
        let mut session = mfa.session.lock().await;
        if let Some(current) = session.as_ref()
            && current.left(self.server_now()) >= MIN_LEFT
        {
            return Ok(current.keys.clone());
        }

        let keys = self.user_keys().await?;
        let code = self.machine_code(mfa).await?;
        let fetched = self.get_session_token(length, &code, &keys).await?;
        let keys = fetched.keys.clone();
        fetched.keys.lock_in_memory();
        *session = Some(fetched);

        Ok(keys)
    }

    /// Starts a session of the user with a code that a person has entered. Returns its end.
    pub(super) async fn start_mfa_session(
        &self,
        mfa: &Mfa,
        code: &SecretString,
    ) -> Result<Timestamp, AwsError> {
        let Some(length) = mfa.settings.session else {
            return Err(AwsError::WrongCode {
                what: format!(
                    "upstream {} keeps no MFA session: each role needs a code of its own",
                    self.name
                ),
            });
        };

        let code = code.expose_secret().trim();
        check_code(code)?;
        let now = self.server_now();
        if let Some(seconds) = mfa.seconds_until_next(code, now) {
            return Err(AwsError::WrongCode {
                what: format!("this code was used already; the next one appears in {seconds} s"),
            });
        }

        let code = mfa.use_code(code.into(), now);
        let keys = self.user_keys().await?;
        let fetched = self.get_session_token(length, &code, &keys).await?;
        let expires_at = fetched.expires_at;
        fetched.keys.lock_in_memory();
        *mfa.session.lock().await = Some(fetched);

        Ok(expires_at)
    }

    /// AWS does not accept the session any more.
    pub(super) async fn drop_mfa_session(&self, mfa: &Mfa, keys: &Keys) {
        let mut session = mfa.session.lock().await;
        if session
            .as_ref()
            .is_some_and(|session| session.keys.id == keys.id)
        {
            *session = None;
        }
    }

    /// A code without a person's help.
    pub(super) async fn machine_code(&self, mfa: &Mfa) -> Result<MfaCode, AwsError> {
        let Some(source) = &mfa.source else {
            return Err(AwsError::MfaNeeded {
                upstream: self.name.to_string(),
                serial: mfa.settings.serial.clone(),
            });
        };

        let text = source.token().await?;
        let is_seed = matches!(mfa.settings.code, MfaCodeSource::Totp(_));
        let code = |now| match is_seed {
            true => totp(&text, now),
            false => Ok(text.expose_secret().to_owned()),
        };

        let mut next = code(self.server_now())?;
        check_code(&next)?;
        // A seed has the next code when the next step begins.
        while is_seed && let Some(seconds) = mfa.seconds_until_next(&next, self.server_now()) {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            next = code(self.server_now())?;
        }

        let now = self.server_now();
        match mfa.seconds_until_next(&next, now) {
            Some(seconds) => Err(AwsError::WrongCode {
                what: format!(
                    "{} has printed a code that was used already; the next one appears in {seconds} s",
                    source.location()
                ),
            }),
            None => Ok(mfa.use_code(next, now)),
        }
    }
}

/// A session, for the daemon process that comes next.
#[derive(Serialize, Deserialize)]
struct PackedSession<S> {
    serial: String,
    access_key_id: String,
    secret_access_key: S,
    session_token: S,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl Mfa {
    pub(super) fn needs_person(&self) -> bool {
        matches!(self.settings.code, MfaCodeSource::Ask)
    }

    /// The keys of the session that is held.
    pub(super) fn held_keys(&self) -> Option<Keys> {
        let session = self.session.try_lock().ok()?;
        Some(session.as_ref()?.keys.clone())
    }

    /// None also while a session is being fetched.
    pub(super) fn packed_session(&self) -> Option<SecretString> {
        let session = self.session.try_lock().ok()?;
        let session = session.as_ref()?;
        let packed = PackedSession {
            serial: self.settings.serial.clone(),
            access_key_id: session.keys.id.to_string(),
            secret_access_key: session.keys.secret.expose_secret(),
            session_token: session.keys.session_token.as_ref()?.expose_secret(),
            issued_at: session.issued_at,
            expires_at: session.expires_at,
        };

        Some(serde_json::to_string(&packed).ok()?.into())
    }

    pub(super) fn restore_session(&self, text: &SecretString) {
        let packed: Option<PackedSession<SecretString>> =
            serde_json::from_str(text.expose_secret()).ok();
        let packed = packed.filter(|packed| packed.serial == self.settings.serial);

        if let (Some(packed), Ok(mut session)) = (packed, self.session.try_lock()) {
            let keys = Keys {
                id: packed.access_key_id.into(),
                secret: packed.secret_access_key,
                session_token: Some(packed.session_token),
            };
            keys.lock_in_memory();
            *session = Some(SessionKeys {
                keys,
                issued_at: packed.issued_at,
                expires_at: packed.expires_at,
            });
        }
    }

    /// A code is never sent twice: AWS refuses it, and counts it as a failure.
    fn seconds_until_next(&self, code: &str, now: Timestamp) -> Option<u64> {
        let (last, step) = lock(&self.last_code).clone()?;
        let second = seconds(now);
        let is_repeated = last == code && second / STEP <= step + 1;

        is_repeated.then(|| STEP - second % STEP)
    }

    fn use_code(&self, code: String, now: Timestamp) -> MfaCode {
        *lock(&self.last_code) = Some((code.clone(), seconds(now) / STEP));
        MfaCode {
            serial: self.settings.serial.clone(),
            code,
        }
    }
}

impl SessionKeys {
    fn left(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.expires_at.duration_since(now)).unwrap_or_default()
    }
}

fn check_code(code: &str) -> Result<(), AwsError> {
    if code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }

    Err(AwsError::WrongCode {
        what: "a code of an MFA device has six digits".into(),
    })
}

fn totp(seed: &SecretString, now: Timestamp) -> Result<String, AwsError> {
    // As AWS shows it: in groups, and in any case.
    let text: Zeroizing<String> = seed
        .expose_secret()
        .chars()
        .filter(|each| !matches!(each, ' ' | '-'))
        .map(|each| each.to_ascii_uppercase())
        .collect::<String>()
        .into();
    let totp = Secret::try_from_base32(text.as_str())
        .ok()
        .and_then(|secret| Builder::new().with_secret(secret).build().ok());
    let Some(totp) = totp else {
        return Err(AwsError::WrongCode {
            what: "the seed of the MFA device is not base32 text of 128 bits or more".into(),
        });
    };

    Ok(totp.generate(seconds(now)).to_string())
}

fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or_default()
}
