//! A token as `rolekeeper login` stores it, in the keyring or an age file: the token, and on the next line the destination
//! that it belongs to. It is sent nowhere else, whatever the configuration says.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::TokenErrorKind;
use crate::config::Endpoint;
use crate::text::one_line;

pub(super) fn with_destination(token: &SecretString, destination: &str) -> SecretString {
    let text = Zeroizing::new(format!("{}\n{destination}\n", token.expose_secret()));

    SecretString::from(text.as_str())
}

/// The token of a stored text, if it belongs to this destination.
pub(super) fn token_for(
    text: &SecretString,
    destination: &str,
) -> Result<SecretString, TokenErrorKind> {
    let text = text.expose_secret().trim();
    let (token, stored) = text.split_once('\n').unwrap_or((text, ""));
    let stored = stored.trim();

    // Another text could be a part of a secret, which no error prints.
    let endpoint = stored.split(' ').next().unwrap_or_default();
    if Endpoint::parse(endpoint).is_err() {
        return Err(TokenErrorKind::NoDestination);
    }

    if stored != destination {
        return Err(TokenErrorKind::OtherDestination {
            stored: one_line(stored),
            configured: destination.into(),
        });
    }

    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://iam.example.test";

    #[test]
    fn token_is_read_for_its_own_destination_only() {
        let stored = with_destination(&"canary-token".into(), HERE);
        let token = token_for(&stored, HERE).unwrap();
        assert_eq!(token.expose_secret(), "canary-token");

        for other in [
            "https://iam.example.test.attacker.test",
            "https://iam.example.test/other",
            "https://iam.example.test ca-sha256=00",
        ] {
            let error = token_for(&stored, other).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("is for {HERE}, and the configuration names {other}")
            );
        }
    }

    #[test]
    fn text_without_a_destination_is_refused_and_not_printed() {
        for text in [
            "canary-token",
            "canary-token\n",
            "canary\ncanary",
            "user\ncanary https://iam.example.test",
        ] {
            let error = token_for(&text.into(), HERE).unwrap_err();
            assert!(matches!(error, TokenErrorKind::NoDestination), "{text:?}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    #[test]
    fn text_that_a_person_wrote_is_read() {
        let by_hand = format!("\u{feff}canary-token\r\n{HERE}\r\n");
        assert!(token_for(&by_hand.into(), HERE).is_ok());
    }
}
