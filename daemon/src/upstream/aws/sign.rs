//! Signatures (SigV4), by the server's time: AWS refuses a signature that is more than minutes off.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use jiff::Timestamp;
use reqwest::Request;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::keys::Keys;

/// A service in a region, for which a signature is valid.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub service: &'a str,
    pub region: &'a str,
}

/// Adds the headers of a signature to a request whose body is `body`.
///
/// # Errors
/// When the request is not one that can be signed, which is an error of this program.
pub fn sign_request(
    request: &mut Request,
    body: &[u8],
    keys: &Keys,
    scope: Scope<'_>,
    time: Timestamp,
) -> Result<(), String> {
    let session_token = keys.session_token.as_ref();
    let identity = Credentials::new(
        &*keys.id,
        keys.secret.expose_secret(),
        session_token.map(|token| token.expose_secret().to_owned()),
        None,
        "rolekeeper",
    )
    .into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(SystemTime::from(time))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();

    let headers = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.url().as_str(),
        headers,
        SignableBody::Bytes(body),
    )
    .map_err(|error| error.to_string())?;

    let output = sign(signable, &parameters).map_err(|error| error.to_string())?;
    let (instructions, _) = output.into_parts();
    let (headers, _) = instructions.into_parts();
    for header in headers {
        let mut value = HeaderValue::from_str(header.value()).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        request
            .headers_mut()
            .insert(HeaderName::from_static(header.name()), value);
    }

    Ok(())
}
