//! Signing keys, and the chain of signatures of a body in chunks.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, AuthParams, Scope, mismatch};
use crate::hex;
use crate::sandbox::error::ApiError;

/// The key of a secret for a scope. It has no `Debug`.
pub(in crate::sandbox) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    pub(in crate::sandbox) fn new(secret: &str, scope: &Scope) -> Result<Self, ApiError> {
        let mut key = hmac(format!("AWS4{secret}").as_bytes())?;
        for text in [&scope.date, &scope.region, &scope.service, "aws4_request"] {
            key = hmac(&key.chain_update(text).finalize().into_bytes())?;
        }

        Ok(Self(key))
    }

    /// Compares in constant time.
    pub(in crate::sandbox) fn has_signed(&self, text: &str, signature: &str) -> bool {
        let mac = self.0.clone().chain_update(text);
        hex::decode(signature).is_some_and(|signature| mac.verify_slice(&signature).is_ok())
    }
}

fn hmac(key: &[u8]) -> Result<Hmac<Sha256>, ApiError> {
    Hmac::new_from_slice(key).map_err(|error| ApiError::internal(error.to_string()))
}

impl AuthParams {
    /// The chain of the chunks' signatures, which starts with the request's signature.
    pub(in crate::sandbox) fn chain<'a>(&self, key: &'a SigningKey) -> SignatureChain<'a> {
        SignatureChain {
            key,
            time_and_scope: format!("{}\n{}", self.signed_at, self.scope.text()),
            previous: self.signature.clone(),
        }
    }
}

/// Each chunk's signature includes the previous one.
pub(in crate::sandbox) struct SignatureChain<'a> {
    key: &'a SigningKey,
    time_and_scope: String,
    previous: String,
}

impl SignatureChain<'_> {
    pub(in crate::sandbox) fn verify_chunk(
        &mut self,
        data: &[u8],
        signature: &str,
    ) -> Result<(), ApiError> {
        let empty_hash = hex::encode(&Sha256::digest(b""));
        let data_hash = hex::encode(&Sha256::digest(data));

        self.verify("PAYLOAD", &format!("{empty_hash}\n{data_hash}"), signature)
    }

    /// The headers behind the last chunk, each as `name:value` and a line feed.
    pub(in crate::sandbox) fn verify_trailer(
        &mut self,
        headers: &str,
        signature: &str,
    ) -> Result<(), ApiError> {
        let hash = hex::encode(&Sha256::digest(headers));

        self.verify("TRAILER", &hash, signature)
    }

    fn verify(&mut self, kind: &str, signed: &str, signature: &str) -> Result<(), ApiError> {
        let text = format!(
            "{ALGORITHM}-{kind}\n{}\n{}\n{signed}",
            self.time_and_scope, self.previous
        );
        if !self.key.has_signed(&text, signature) {
            return Err(mismatch(
                "the signature of a chunk or of the trailer is wrong",
            ));
        }

        signature.clone_into(&mut self.previous);
        Ok(())
    }
}
