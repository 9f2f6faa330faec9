//! What `rolekeeper login` does with AWS: it checks access keys, and starts the session that passes MFA.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;

use super::Aws;
use super::error::AwsError;
use super::keys::Keys;
use super::mfa::Mfa;
use crate::config::RoleRequest;
use crate::token_source::TokenSource;
use crate::upstream::{CallError, CallErrorKind, Login, MfaLogin};

impl Login for Aws {
    fn endpoint(&self) -> String {
        self.sts.endpoint().to_string()
    }

    fn token_source(&self) -> &TokenSource {
        &self.token_source
    }

    fn token_form(&self) -> &'static str {
        "access key (KEYID:SECRET)"
    }

    fn check_token<'a>(
        &'a self,
        token: &'a SecretString,
        _role: Option<&'a RoleRequest>,
    ) -> BoxFuture<'a, Result<Option<String>, CallError>> {
        async move {
            let keys = Keys::parse(token).map_err(|why| {
                let message = format!("what was entered {why}");
                CallError::new(
                    CallErrorKind::Invalid,
                    message,
                    "enter the access key id, a colon, and the secret access key",
                )
            })?;
            let identity = self.get_caller_identity(&keys).await;

            match identity {
                Ok(identity) => Ok(Some(identity.arn)),
                Err(error) => Err(error.into_call_error(&self.token_source, false)),
            }
        }
        .boxed()
    }
}

impl MfaLogin for Aws {
    fn serial(&self) -> &str {
        self.mfa.as_ref().map_or("", |mfa| &mfa.settings.serial)
    }

    fn asks_person(&self) -> bool {
        self.mfa.as_ref().is_some_and(Mfa::needs_person)
    }

    fn start<'a>(&'a self, code: &'a SecretString) -> BoxFuture<'a, Result<Timestamp, CallError>> {
        async move {
            let Some(mfa) = &self.mfa else {
                return Err(AwsError::WrongCode {
                    what: format!("upstream {} has no MFA device", self.name),
                }
                .into_call_error(&self.token_source, false));
            };

            self.start_mfa_session(mfa, code)
                .await
                .map_err(|error| error.into_call_error(&self.token_source, false))
        }
        .boxed()
    }

    fn session(&self) -> Option<SecretString> {
        self.mfa.as_ref()?.packed_session()
    }

    fn restore(&self, session: &SecretString) {
        if let Some(mfa) = &self.mfa {
            mfa.restore_session(session);
        }
    }
}
