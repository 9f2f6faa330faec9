//! Container credentials (AWS SDKs and Tools Reference, "Container credential provider"): `GET /credentials/PROFILE` with the
//! profile's token in `Authorization`. Every response has `AccessKeyId`, `SecretAccessKey`, `Token` and `Expiration`, since
//! SDKs fail without one of them, and `AccountId` if it is known. An error is never a 2xx: some SDKs would parse it as
//! credentials.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, StatusCode};
use rolekeeper::protocol::Code;

use super::CONTAINER_TIMEOUT;
use super::connection::HttpConnection;
use super::response::{CredentialFields, HttpResponse, failed, json, plain, refused, wrong_method};
use crate::config::ProfileName;
use crate::error::RequestError;

pub(super) const PATH: &str = "/credentials/";

/// The suffix of a profile's path for a report that a service rejected the credentials.
const REJECTED: &str = "/rejected";

pub(super) async fn respond(
    connection: &HttpConnection,
    request: &Request<Incoming>,
) -> HttpResponse {
    let Some(rest) = request.uri().path().strip_prefix(PATH) else {
        return unknown_path();
    };

    let (name, is_report) = match rest.strip_suffix(REJECTED) {
        Some(name) => (name, true),
        None => (rest, false),
    };

    let Some(profile) = ProfileName::parse(name) else {
        return unknown_path();
    };

    match (request.method(), is_report) {
        (&Method::GET, false) | (&Method::POST, true) => {}
        (_, false) => return wrong_method("GET"),
        (_, true) => return wrong_method("POST"),
    }

    if !has_valid_token(connection, request, &profile) {
        let peer = connection.unauthenticated_peer();
        let access = &connection.context.services.access;
        let has_token = request.headers().contains_key(AUTHORIZATION);
        let error = access.refuse_token(&peer, profile, has_token);
        return refused(&(&error).into());
    }

    if is_report {
        report_rejected(connection, &profile).await
    } else {
        credentials(connection, &profile).await
    }
}

fn has_valid_token(
    connection: &HttpConnection,
    request: &Request<Incoming>,
    profile: &ProfileName,
) -> bool {
    let header = request.headers().get(AUTHORIZATION);
    let given = header.map(HeaderValue::as_bytes).unwrap_or_default();
    let now = connection.context.services.clock.now().boot;

    connection
        .context
        .endpoints
        .tokens
        .check(profile, given, now)
}

async fn credentials(connection: &HttpConnection, profile: &ProfileName) -> HttpResponse {
    match connection.lease(profile).await {
        Ok(lease) => json(&CredentialFields::of(&lease)),
        Err(failure) => refused(&failure),
    }
}

/// The daemon polls the upstream for the session's revocation. The response has the result, or says that the poll takes
/// longer.
async fn report_rejected(connection: &HttpConnection, profile: &ProfileName) -> HttpResponse {
    let services = connection.context.services.clone();
    let peer = Arc::clone(&connection.peer);
    let profile = profile.clone();

    // A task continues after the client disconnects.
    let report = tokio::spawn(async move {
        let grant = services
            .access
            .authorize_view(&peer, profile.as_str())
            .await?;
        services.revocation.report_rejected(&peer, &grant).await
    });

    match tokio::time::timeout(CONTAINER_TIMEOUT, report).await {
        Ok(Ok(Ok(update))) => json(&update),
        Ok(Ok(Err(error))) => refused(&error.failure()),
        Ok(Err(_panicked)) => refused(&RequestError::Aborted.failure()),
        Err(_elapsed) => plain(
            StatusCode::ACCEPTED,
            "{\"message\":\"polling the upstream for a revocation\"}",
            "application/json",
        ),
    }
}

fn unknown_path() -> HttpResponse {
    let message = "unknown path; try: use the URL that rolekeeper exec or rolekeeper env prints";

    failed(StatusCode::NOT_FOUND, Code::BadRequest, message)
}
