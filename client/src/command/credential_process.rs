//! `rolekeeper credential-process PROFILE`: the credentials as AWS SDKs expect them of a `credential_process`
//! (AWS SDKs and Tools Reference, "Process credential provider"): `Version` is the number 1, `Expiration` ends in `Z`.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Failure, Lease, Reply, Request};
use serde::Serialize;

use crate::{autostart, command};

pub(crate) fn run(profile: &str, socket: Option<PathBuf>) -> Result<(), Failure> {
    let socket = connect::socket_path(socket)?;
    let document = autostart::ask(&socket, |stream| {
        let text = connect::ask(stream, Request::Lease { profile: profile.into() })?;
        match connect::reply(&text)? {
            Reply::Lease(lease) => document(&lease),
            _ => Err(connect::out_of_place()),
        }
    })?;
    command::print(&command::for_standard_output(document))
}

fn document(lease: &Lease<'_>) -> Result<String, Failure> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document<'a> {
        version: u8,
        access_key_id: &'a str,
        secret_access_key: &'a str,
        session_token: &'a str,
        expiration: &'a str,
    }
    serde_json::to_string(&Document {
        version: 1,
        access_key_id: &lease.access_key_id,
        secret_access_key: &lease.secret_access_key,
        session_token: &lease.session_token,
        expiration: &lease.expires_at,
    })
    .map(|json| json + "\n")
    .map_err(|_| connect::out_of_place())
}
