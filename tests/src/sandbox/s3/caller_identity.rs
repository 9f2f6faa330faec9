//! STS `GetCallerIdentity`.

use super::Reply;
use super::verify::Signer;
use crate::sandbox::xml::document;

pub(super) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// A placeholder: ByCloud has no AWS accounts.
const ACCOUNT: &str = "000000000000";

pub(super) fn show(signer: &Signer, request_id: &str) -> Reply {
    let Signer {
        session_id,
        role_id,
        role_name,
        ..
    } = signer;
    let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}/{session_id}");

    Reply::xml(document(
        "GetCallerIdentityResponse",
        Some(NAMESPACE),
        |xml| {
            xml.element("GetCallerIdentityResult", |xml| {
                xml.text("Arn", &arn);
                xml.text("UserId", &format!("{role_id}:{session_id}"));
                xml.text("Account", ACCOUNT);
            });
            xml.element("ResponseMetadata", |xml| xml.text("RequestId", request_id));
        },
    ))
}
