//! Container credentials (AWS SDKs and Tools Reference, "Container credential provider"): `GET /credentials/PROFILE` with the
//! profile's token in `Authorization`. All of `AccessKeyId`, `SecretAccessKey`, `Token` and `Expiration` are in every answer,
//! since SDKs fail on the lack of one; `AccountId` where it is known. An error is never a 2xx: some SDKs would take it for
//! credentials.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, StatusCode};
use rolekeeper::protocol::Code;

use super::response::{Answer, Keys, failed, json, plain, refused, wrong_method};
use super::{ANSWER, Caller};
use crate::config::ProfileName;
use crate::error::RequestError;

pub(super) const PATH: &str = "/credentials/";
/// Behind a profile's path: a service has refused its credentials.
const REJECTED: &str = "/rejected";

pub(super) async fn answer(caller: &Caller, request: &Request<Incoming>) -> Answer {
    let Some(rest) = request.uri().path().strip_prefix(PATH) else {
        return unknown();
    };
    let (name, is_report) = rest
        .strip_suffix(REJECTED)
        .map_or((rest, false), |name| (name, true));
    let Some(profile) = ProfileName::parse(name) else {
        return unknown();
    };
    match (request.method(), is_report) {
        (&Method::GET, false) | (&Method::POST, true) => {}
        (_, false) => return wrong_method("GET"),
        (_, true) => return wrong_method("POST"),
    }
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let now = caller.context.services.clock.now().boot;
    if !caller.context.endpoints.tokens.check(&profile, given, now) {
        let peer = caller.unauthenticated_peer();
        let error = caller.context.services.access.refuse_token(&peer, profile);
        return refused(&(&error).into());
    }
    if is_report {
        rejected(caller, &profile).await
    } else {
        credentials(caller, &profile).await
    }
}

async fn credentials(caller: &Caller, profile: &ProfileName) -> Answer {
    match caller.lease(profile).await {
        Err(failure) => refused(&failure),
        Ok(lease) => json(&Keys::of(&lease)),
    }
}

/// The upstream is asked whether the session is revoked. Who reports it learns that in time, or else that it is being asked.
async fn rejected(caller: &Caller, profile: &ProfileName) -> Answer {
    let services = caller.context.services.clone();
    let peer = Arc::clone(&caller.peer);
    let profile = profile.clone();

    // It continues when the caller stops waiting.
    let report = tokio::spawn(async move {
        let grant = services
            .access
            .authorize_view(&peer, profile.as_str())
            .await?;
        services.revocation.report_rejected(&peer, &grant).await
    });

    match tokio::time::timeout(ANSWER, report).await {
        Ok(Ok(Ok(watched))) => json(&watched),
        Ok(Ok(Err(error))) => refused(&error.failure()),
        Ok(Err(_crashed)) => refused(&RequestError::Aborted.failure()),
        Err(_elapsed) => plain(
            StatusCode::ACCEPTED,
            "{\"message\":\"the upstream is being asked\"}",
            "application/json",
        ),
    }
}

fn unknown() -> Answer {
    let message =
        "there is nothing here; try: the URL that rolekeeper exec or rolekeeper env gives";
    failed(StatusCode::NOT_FOUND, Code::BadRequest, message)
}
