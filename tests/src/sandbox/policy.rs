//! Policies (A10). Documents are validated when they are stored, and evaluated by [`decide`] and
//! [`TrustPolicy::trusts`]. A deny wins over an allow. Without an allow the decision is deny.

use serde::Deserialize;
use serde_json::Value;

use super::crn::{Crns, matches};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Effect {
    Allow,
    Deny,
}

/// What a principal may do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    version: String,
    statements: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(default)]
    sid: String,
    effect: Effect,
    actions: Vec<String>,
    #[serde(default = "any")]
    resources: Vec<String>,
}

/// Who may assume a role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustPolicy {
    version: String,
    statements: Vec<TrustStatement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustStatement {
    #[serde(default)]
    sid: String,
    effect: Effect,
    principals: Vec<String>,
    #[serde(default = "any")]
    actions: Vec<String>,
}

fn any() -> Vec<String> {
    vec!["*".into()]
}

pub(super) const ASSUME_ROLE: &str = "sts:AssumeRole";
const VERSION: &str = "2024-01-01";
/// Statements of a document, and entries of a list.
const MAX_ENTRIES: usize = 100;
/// Characters of a pattern.
const MAX_PATTERN: usize = 1000;
/// Characters of a statement id.
const MAX_SID: usize = 128;

impl Policy {
    /// The error is a clause for a message.
    pub(super) fn parse(document: &Value) -> Result<Self, String> {
        let policy = Self::deserialize(document).map_err(|error| error.to_string())?;
        check_document(&policy.version, policy.statements.len())?;

        for (index, statement) in policy.statements.iter().enumerate() {
            check_sid(index, &statement.sid)?;
            check_list(index, "actions", &statement.actions)?;
            check_list(index, "resources", &statement.resources)?;
        }
        Ok(policy)
    }
}

impl TrustPolicy {
    /// The error is a clause for a message.
    pub(super) fn parse(document: &Value) -> Result<Self, String> {
        let policy = Self::deserialize(document).map_err(|error| error.to_string())?;
        check_document(&policy.version, policy.statements.len())?;

        for (index, statement) in policy.statements.iter().enumerate() {
            check_sid(index, &statement.sid)?;
            check_list(index, "principals", &statement.principals)?;
            check_list(index, "actions", &statement.actions)?;
        }
        Ok(policy)
    }

    /// Whether the principal may assume the role, if its own policies allow that too.
    pub(super) fn trusts(&self, principal: &Crns) -> bool {
        let effects = self
            .statements
            .iter()
            .filter(|statement| matches_any(&statement.actions, ASSUME_ROLE))
            .filter(|statement| principal.match_any(&statement.principals))
            .map(|statement| statement.effect);

        combine(effects)
    }
}

/// Whether the policies allow the action on the resource.
pub(super) fn decide(policies: &[Policy], action: &str, resource: &Crns) -> bool {
    let effects = policies
        .iter()
        .flat_map(|policy| &policy.statements)
        .filter(|statement| matches_any(&statement.actions, action))
        .filter(|statement| resource.match_any(&statement.resources))
        .map(|statement| statement.effect);

    combine(effects)
}

fn combine(effects: impl Iterator<Item = Effect>) -> bool {
    let mut is_allowed = false;
    for effect in effects {
        match effect {
            Effect::Deny => return false,
            Effect::Allow => is_allowed = true,
        }
    }
    is_allowed
}

fn matches_any(patterns: &[String], action: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, action))
}

fn check_document(version: &str, statements: usize) -> Result<(), String> {
    if version != VERSION {
        return Err(format!("unknown version `{version}`; use `{VERSION}`"));
    }
    match statements {
        0 => Err("the document has no statements".into()),
        1..=MAX_ENTRIES => Ok(()),
        _ => Err(format!(
            "{statements} statements; the limit is {MAX_ENTRIES}"
        )),
    }
}

fn check_sid(index: usize, sid: &str) -> Result<(), String> {
    if sid.chars().count() > MAX_SID {
        return Err(format!(
            "statements[{index}].sid is longer than {MAX_SID} characters"
        ));
    }
    Ok(())
}

fn check_list(index: usize, key: &str, list: &[String]) -> Result<(), String> {
    if list.is_empty() || list.iter().any(String::is_empty) {
        return Err(format!(
            "statements[{index}].{key} is empty or has an empty entry"
        ));
    }
    if list.len() > MAX_ENTRIES || list.iter().any(|entry| entry.chars().count() > MAX_PATTERN) {
        return Err(format!(
            "statements[{index}].{key}: the limit is {MAX_ENTRIES} entries of {MAX_PATTERN} characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(statements: &Value) -> Policy {
        Policy::parse(&json!({ "version": "2024-01-01", "statements": statements })).unwrap()
    }

    fn role(name: &str) -> Crns {
        Crns::new("iam", "org", "role", &["id-1", name])
    }

    #[test]
    fn deny_wins_over_allow_and_is_the_default() {
        let allow = policy(&json!([{ "effect": "allow", "actions": ["iam:*"] }]));
        let deny = policy(
            &json!([{ "effect": "deny", "actions": ["iam:Delete*"], "resources": ["*:role/S3*"] }]),
        );
        assert!(!decide(&[], "iam:GetRole", &role("S3")));
        let both = [allow, deny];
        assert!(decide(&both, "iam:GetRole", &role("S3")));
        assert!(!decide(&both, "iam:DeleteRole", &role("S3")));
        assert!(decide(&both, "iam:DeleteRole", &role("EC2")));
        assert!(!decide(&both, "sts:AssumeRole", &role("S3")));
    }

    #[test]
    fn resource_matches_by_id_or_by_name() {
        for pattern in [
            "crn:bycloud:iam:org:role/id-1",
            "crn:bycloud:iam:org:role/S3",
        ] {
            let policies = [policy(
                &json!([{ "effect": "allow", "actions": ["*"], "resources": [pattern] }]),
            )];
            assert!(decide(&policies, "iam:GetRole", &role("S3")), "{pattern}");
        }
    }

    #[test]
    fn trust_policy_trusts_allowed_principals_except_denied_ones() {
        let trust = TrustPolicy::parse(&json!({ "version": "2024-01-01", "statements": [
            { "effect": "allow", "principals": ["crn:bycloud:iam:*:user/*"] },
            { "effect": "deny", "principals": ["*:user/mallory"] },
            { "effect": "allow", "principals": ["*"], "actions": ["iam:GetRole"] },
        ] }))
        .unwrap();
        let user = |name| Crns::new("iam", "org", "user", &[name]);
        assert!(trust.trusts(&user("ada")));
        assert!(!trust.trusts(&user("mallory")));
        assert!(!trust.trusts(&Crns::new("iam", "org", "service-account", &["ci"])));
    }

    #[test]
    fn invalid_document_is_refused_with_the_reason() {
        let good = json!([{ "effect": "allow", "actions": ["*"] }]);
        let cases = [
            (
                json!({ "version": "2012-10-17", "statements": good }),
                "unknown version `2012-10-17`",
            ),
            (
                json!({ "version": "2024-01-01", "statements": [] }),
                "no statements",
            ),
            (
                json!({ "version": "2024-01-01" }),
                "missing field `statements`",
            ),
            (
                json!({ "version": "2024-01-01", "statements": good, "x": 1 }),
                "unknown field `x`",
            ),
            (
                json!({ "version": "2024-01-01", "statements": [{ "effect": "maybe", "actions": ["*"] }] }),
                "maybe",
            ),
            (
                json!({ "version": "2024-01-01", "statements": [{ "effect": "deny", "actions": [] }] }),
                "statements[0].actions",
            ),
            (json!([]), "invalid"),
        ];
        for (document, want) in cases {
            let reason = Policy::parse(&document).unwrap_err();
            assert!(reason.contains(want), "{document}: {reason}");
        }
    }
}
