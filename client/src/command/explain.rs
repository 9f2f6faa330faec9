//! `rolekeeper explain PROFILE`: why a profile's role can or cannot be assumed.

use std::fmt::Write as _;
use std::path::PathBuf;

use rolekeeper::connect;
use rolekeeper::protocol::{Check, Explanation, Failure, Outcome, Request};

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
    let who = principal.as_deref().unwrap_or("the holder of the token");
    let can = match verdict {
        Outcome::Yes => "can",
        Outcome::No => "cannot",
        Outcome::Unknown => "may or may not be able to",
    };
    let mut text =
        format!("profile {profile}: {who} {can} assume role {role} at upstream {upstream}\n\n");
    let wide = checks
        .iter()
        .map(|check| check.condition.len())
        .max()
        .unwrap_or_default();
    for Check {
        condition,
        outcome,
        reason,
        statement,
    } in checks
    {
        let outcome = match outcome {
            Outcome::Yes => "yes",
            Outcome::No => "no",
            Outcome::Unknown => "?",
        };
        let _ = writeln!(text, "{outcome:3}  {condition:wide$}  {reason}");
        if let Some(statement) = statement {
            let _ = writeln!(text, "{:3}  {:wide$}  {}", "", "", statement.text);
        }
    }
    if let Some(failure) = last_failure {
        let _ = writeln!(text, "\nThe daemon's last try failed: {failure}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::protocol::DecidingStatement;

    #[test]
    fn the_verdict_comes_first_and_the_statement_that_decides_below_its_condition() {
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
                    "role S3ReadOnly has none, so it trusts nobody",
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
no   trust policy  role S3ReadOnly has none, so it trusts nobody
"
        );
    }
}
