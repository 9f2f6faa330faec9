//! `rolekeeper explain`: why a profile's role can or cannot be assumed. The upstream's explainer evaluates the conditions.

use rolekeeper::protocol;

use crate::access::OwnerGrant;
use crate::error::{RequestError, WAIT};
use crate::upstream::{Check, Outcome};

pub(crate) async fn explain(grant: &OwnerGrant) -> Result<protocol::Explanation, RequestError> {
    let entry = grant.entry();
    let upstream = &entry.upstream;
    let explainer = upstream.require(upstream.client.explainer(), "explain")?;

    let session = entry.session();
    let principal = session.as_ref().map(|session| &*session.issued.principal);
    let role = &entry.profile.role;
    let explanation = tokio::time::timeout(WAIT, explainer.explain(role, principal))
        .await
        .map_err(|_elapsed| RequestError::too_slow(upstream))?;

    let last_failure =
        entry.backoff(|backoff| backoff.state().map(|state| state.error.to_string()));

    Ok(protocol::Explanation {
        profile: entry.profile.name.to_string(),
        upstream: entry.profile.upstream.to_string(),
        role_id: role.role.id().into(),
        verdict: outcome(explanation.verdict()),
        role_name: explanation.role_name,
        principal: explanation.principal,
        checks: explanation.checks.into_iter().map(check).collect(),
        last_failure,
    })
}

fn check(check: Check) -> protocol::Check {
    protocol::Check {
        condition: check.condition.into(),
        outcome: outcome(check.outcome),
        reason: check.reason,
        statement: check
            .statement
            .map(|statement| protocol::DecidingStatement {
                document: statement.document,
                number: statement.number,
                text: statement.text,
            }),
    }
}

fn outcome(outcome: Outcome) -> protocol::Outcome {
    match outcome {
        Outcome::Yes => protocol::Outcome::Yes,
        Outcome::No => protocol::Outcome::No,
        Outcome::Unknown => protocol::Outcome::Unknown,
    }
}
