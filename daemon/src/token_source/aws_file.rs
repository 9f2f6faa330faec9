//! Access keys in a file of AWS, as `KEYID:SECRET`.

use std::path::Path;

use rolekeeper::aws_file::Ini;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{TokenErrorKind, from_utf8};
use crate::platform::private_file;

pub(super) fn read(file: &Path, header: &str) -> Result<SecretString, TokenErrorKind> {
    let bytes = private_file::read_bytes(file).map_err(TokenErrorKind::File)?;
    let text = from_utf8(&Zeroizing::new(bytes))?;
    let ini = Ini::parse(text.expose_secret())
        .map_err(|_| TokenErrorKind::AwsFile("AWS tools cannot read the file"))?;
    let section = ini
        .plain_sections()
        .find(|section| section.header == header)
        .ok_or(TokenErrorKind::AwsFile("it does not exist any more"))?;

    let value = |key| ini.text(section, key).filter(|value| !value.is_empty());
    if value("aws_session_token").is_some() {
        return Err(TokenErrorKind::AwsFile("its keys are those of a session"));
    }
    let (Some(id), Some(secret)) = (value("aws_access_key_id"), value("aws_secret_access_key"))
    else {
        return Err(TokenErrorKind::AwsFile("it has no access keys any more"));
    };

    Ok(Zeroizing::new(format!("{id}:{secret}")).as_str().into())
}
