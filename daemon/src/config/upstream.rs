//! `[upstream.NAME]`.

use std::path::Path;
use std::sync::Arc;

use rolekeeper::protocol::is_name;

use super::raw::{Errors, Table};
use super::values::{NAME_RULE, duration_within, path};
use super::{
    CHECK_INTERVALS, DEFAULT_CHECK, Endpoint, HttpTransport, Proxy, UpstreamConfig, token,
};

pub(super) fn parse(
    name: &Arc<str>,
    mut table: Table<'_>,
    folder: &Path,
    errors: &mut Errors,
) -> Option<UpstreamConfig> {
    check_name(name, &table, errors);
    let required = [
        ("kind", "\"bycloud\""),
        ("endpoint", "\"https://iam.example.test\""),
        ("token", "{ file = \"PATH\" }"),
    ];

    table.require(&required, errors);

    let kind = table.string("kind", errors, |text| match text {
        "bycloud" => Ok(()),
        _ => Err("is not a kind of upstream; use \"bycloud\"".into()),
    });

    let endpoint = table.string("endpoint", errors, Endpoint::parse);
    let token = table
        .table("token", errors)
        .and_then(|token| token::parse(token, folder, errors));
    let check_every = table.string("check_every", errors, |text| {
        duration_within(text, CHECK_INTERVALS, "1s to 2m30s")
    });

    let ca = table.string("ca", errors, |text| path(text, folder));
    let proxy = table.string("proxy", errors, proxy).unwrap_or_default();
    table.finish(errors);

    kind?;
    Some(UpstreamConfig {
        name: Arc::clone(name),
        endpoint: endpoint?,
        token: token?,
        transport: HttpTransport { ca, proxy },
        check_every: check_every.unwrap_or(DEFAULT_CHECK),
        profiles: Vec::new(),
    })
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
