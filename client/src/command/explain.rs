//! `rolekeeper explain PROFILE`: why a profile's role can or cannot be assumed.

use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Check, Explanation, Failure, Outcome, Request};

use super::table;
use crate::{autostart, command};

pub(crate) fn run(profile: &str, json: bool, socket: Option<PathBuf>) -> Result<(), Failure> {
    let ask = |stream: &mut _| {
        connect::document(
            stream,
            Request::Explain {
                profile: profile.into(),
            },
        )
    };

    let text = autostart::ask(&connect::socket_path(socket)?, ask)?;

    command::print_report(&text, json, prose)
}

fn prose(explanation: &Explanation) -> String {
    let Explanation {
        profile,
        upstream,
        role_id,
        role_name,
        principal,
        verdict,
        checks,
        last_failure,
    } = explanation;

    let role = role_name
        .as_ref()
        .map_or_else(|| role_id.clone(), |name| format!("{name} ({role_id})"));
    let principal = principal.as_deref().unwrap_or("the token's owner");
    let can = match verdict {
        Outcome::Yes => "can",
        Outcome::No => "cannot",
        Outcome::Unknown => "may be able to",
    };

    let mut text = format!(
        "profile {profile}: {principal} {can} assume role {role} at upstream {upstream}\n\n"
    );

    text += &table::text(checks.iter().flat_map(rows));
    if let Some(failure) = last_failure {
        text += &format!("\nThe daemon's last attempt failed: {failure}\n");
    }

    text
}

/// A condition, and below it the statement that decides it.
fn rows(check: &Check) -> Vec<[String; 3]> {
    let Check {
        condition,
        outcome,
        reason,
        statement,
    } = check;

    let outcome = match outcome {
        Outcome::Yes => "yes",
        Outcome::No => "no",
        Outcome::Unknown => "?",
    };

    let mut rows = vec![[outcome.into(), condition.clone(), reason.clone()]];
    if let Some(statement) = statement {
        rows.push([String::new(), String::new(), statement.text.to_string()]);
    }

    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::protocol::DecidingStatement;

    #[test]
    fn verdict_is_first_and_statements_follow_conditions() {
        let check = |what: &str, outcome, reason: &str| Check {
            condition: what.into(),
            outcome,
            reason: reason.into(),
            statement: None,
        };
        let mut own = check(
            "own policies",
            Outcome::Yes,
            "statement 1 of policy Assume allows it",
        );
        own.statement = Some(DecidingStatement {
            document: "policy Assume".into(),
            number: 1,
            text: serde_json::json!({ "effect": "allow", "actions": ["sts:*"] }),
        });
        let explanation = Explanation {
            profile: "dev".into(),
            upstream: "bycloud".into(),
            role_id: "r-1".into(),
            role_name: Some("S3ReadOnly".into()),
            principal: Some("user/dev@example.test".into()),
            verdict: Outcome::No,
            checks: vec![
                own,
                check(
                    "trust policy",
                    Outcome::No,
                    "role S3ReadOnly has no trust policy, so it trusts no one",
                ),
            ],
            last_failure: None,
        };
        assert_eq!(
            prose(&explanation),
            "\
profile dev: user/dev@example.test cannot assume role S3ReadOnly (r-1) at upstream bycloud

yes  own policies  statement 1 of policy Assume allows it
                   {\"effect\":\"allow\",\"actions\":[\"sts:*\"]}
no   trust policy  role S3ReadOnly has no trust policy, so it trusts no one
"
        );
    }
}
