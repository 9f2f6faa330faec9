//! `rolekeeper credential-process PROFILE`: prints the credentials for the `credential_process` setting (AWS SDKs and Tools Reference, "Process credential provider"): `Version` is the number 1, `Expiration` ends in `Z`.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Failure, Lease};
use serde::Serialize;

use super::lease;
use crate::command;

pub(crate) fn run(profile: &str, socket: Option<PathBuf>) -> Result<(), Failure> {
    let document = lease::ask(profile, socket, document)?;
    command::print(&command::escaped_json(&document))
}

/// One line: a part of it is never valid JSON.
fn document(lease: &Lease<'_>) -> Result<String, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document<'a> {
        version: u8,
        access_key_id: &'a str,
        secret_access_key: &'a str,
        // aws-config would sign with an empty token.
        #[serde(skip_serializing_if = "str::is_empty")]
        session_token: &'a str,
        expiration: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        account_id: Option<&'a str>,
    }

    serde_json::to_string(&Document {
        version: 1,
        access_key_id: &lease.access_key_id,
        secret_access_key: &lease.secret_access_key,
        session_token: &lease.session_token,
        expiration: &lease.expires_at,
        account_id: lease.account_id.as_deref(),
    })
    .map(|json| json + "\n")
    .map_err(|_| connect::unexpected_reply())
}

#[cfg(test)]
mod tests {
    use super::super::lease::example;
    use super::*;

    #[test]
    fn document_is_one_line_with_the_documented_keys() {
        let lease = Lease {
            account_id: Some("012345678901".into()),
            ..example()
        };
        assert_eq!(
            document(&lease).unwrap(),
            "{\"Version\":1,\"AccessKeyId\":\"BYIA1\",\"SecretAccessKey\":\"canary-secret\",\
            \"SessionToken\":\"canary-token\",\"Expiration\":\"2026-01-01T00:00:00Z\",\"AccountId\":\"012345678901\"}\n"
        );
    }

    #[test]
    fn missing_values_have_no_key() {
        let text = document(&Lease {
            session_token: "".into(),
            ..example()
        })
        .unwrap();
        assert!(
            !text.contains("SessionToken") && !text.contains("AccountId") && !text.contains("null"),
            "{text}"
        );
    }

    #[test]
    fn document_with_a_long_token_is_below_8_kib() {
        let lease = Lease {
            session_token: "t".repeat(4096).into(),
            account_id: Some("1".repeat(12).into()),
            ..example()
        };
        assert!(document(&lease).unwrap().len() < 8 * 1024);
    }
}
