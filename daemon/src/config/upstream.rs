//! `[upstream.NAME]`.

use std::path::Path;
use std::sync::Arc;

use rolekeeper::protocol::is_name;

use super::raw::{Errors, Table};
use super::values::{NAME_RULE, duration_within, path};
use super::{
    CHECK_INTERVALS, DEFAULT_CHECK, Endpoint, HttpTransport, Proxy, UpstreamConfig, UpstreamKind,
    aws, token,
};

/// What has to be set, with examples.
const FOR_BYCLOUD: [(&str, &str); 3] = [
    ("kind", "\"bycloud\""),
    ("endpoint", "\"https://iam.example.test\""),
    ("token", "{ file = \"PATH\" }"),
];
const FOR_AWS: [(&str, &str); 2] = [
    ("region", "\"eu-central-1\""),
    ("keys", "{ keyring = \"NAME\" }"),
];

pub(super) fn parse(
    name: &Arc<str>,
    mut table: Table<'_>,
    folder: &Path,
    errors: &mut Errors,
) -> Option<UpstreamConfig> {
    check_name(name, &table, errors);
    let is_aws = table.peek("kind") == Some("aws");
    table.require(if is_aws { &FOR_AWS } else { &FOR_BYCLOUD }, errors);

    let kind = table.string("kind", errors, |text| match text {
        "bycloud" | "aws" => Ok(()),
        _ => Err("is not a kind of upstream; use \"aws\" or \"bycloud\"".into()),
    });

    let of_kind = if is_aws {
        aws::upstream(&mut table, folder, errors)
            .map(|(sts, settings)| (sts, UpstreamKind::Aws(Box::new(settings))))
    } else {
        let endpoint = table.string("endpoint", errors, Endpoint::parse);
        endpoint.map(|endpoint| (endpoint, UpstreamKind::ByCloud))
    };
    let token = table
        .table(if is_aws { "keys" } else { "token" }, errors)
        .and_then(|token| token::parse(token, folder, errors));
    let check_every = table.string("check_every", errors, |text| {
        duration_within(text, CHECK_INTERVALS, "1s to 2m30s")
    });

    let transport = transport(&mut table, folder, errors);
    table.finish(errors);

    kind?;
    let (endpoint, kind) = of_kind?;
    Some(UpstreamConfig {
        name: Arc::clone(name),
        endpoint,
        kind,
        token: token?,
        transport,
        check_every: check_every.unwrap_or(DEFAULT_CHECK),
        profiles: Vec::new(),
    })
}

pub(super) fn transport(
    table: &mut Table<'_>,
    folder: &Path,
    errors: &mut Errors,
) -> HttpTransport {
    let ca = table.string("ca", errors, |text| path(text, folder));
    let proxy = table.string("proxy", errors, proxy).unwrap_or_default();

    HttpTransport { ca, proxy }
}

/// `none`, or the URL of a proxy.
fn proxy(text: &str) -> Result<Proxy, String> {
    if text == "none" {
        return Ok(Proxy::Nothing);
    }

    let is_proxy = reqwest::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.path() == "/"
    });

    if is_proxy {
        Ok(Proxy::At(text.into()))
    } else {
        Err("is not a proxy; use \"http://HOST:PORT\" or \"none\"".into())
    }
}

/// For an upstream or a profile.
pub(super) fn check_name(name: &str, table: &Table<'_>, errors: &mut Errors) {
    if !is_name(name) {
        let path = &table.path;
        errors.add(
            &table.span,
            format!("`{path}` is not a valid name: use {NAME_RULE}"),
        );
    }
}
