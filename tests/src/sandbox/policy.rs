//! Policies (A10): documents are validated when they are written and evaluated by [`decide`], which is pure. An
//! explicit deny wins; without an allow the answer is deny.

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
    #[serde(default = "everything")]
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
    #[serde(default = "everything")]
    actions: Vec<String>,
}

fn everything() -> Vec<String> {
    vec!["*".into()]
}

pub(super) const ASSUME_ROLE: &str = "sts:AssumeRole";
const VERSION: &str = "2024-01-01";
/// The most statements of a document, and entries of a list.
const MOST: usize = 100;
/// The longest pattern, in characters.
const LONGEST: usize = 1000;

impl Policy {
    /// A document, or a clause that says what is wrong with it.
    pub(super) fn parse(document: &Value) -> Result<Self, String> {
        let policy: Self =
            serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
        check_version(&policy.version)?;
        for (number, statement) in policy.statements.iter().enumerate() {
            check_sid(number, &statement.sid)?;
            check_list(number, "actions", &statement.actions)?;
            check_list(number, "resources", &statement.resources)?;
        }
        check_count(policy.statements.len()).map(|()| policy)
    }
}

impl TrustPolicy {
    pub(super) fn parse(document: &Value) -> Result<Self, String> {
        let policy: Self =
            serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
        check_version(&policy.version)?;
        for (number, statement) in policy.statements.iter().enumerate() {
            check_sid(number, &statement.sid)?;
            check_list(number, "principals", &statement.principals)?;
            check_list(number, "actions", &statement.actions)?;
        }
        check_count(policy.statements.len()).map(|()| policy)
    }

    /// May this principal assume the role, as far as the role has a say?
    pub(super) fn trusts(&self, principal: &Crns) -> bool {
        conclude(self.statements.iter().filter_map(|statement| {
            let applies =
                any(&statement.actions, ASSUME_ROLE) && principal.match_any(&statement.principals);
            applies.then_some(statement.effect)
        }))
    }
}

/// Do these policies allow the action on the resource?
pub(super) fn decide(policies: &[Policy], action: &str, resource: &Crns) -> bool {
    conclude(
        policies
            .iter()
            .flat_map(|policy| &policy.statements)
            .filter_map(|statement| {
                let applies =
                    any(&statement.actions, action) && resource.match_any(&statement.resources);
                applies.then_some(statement.effect)
            }),
    )
}

fn conclude(effects: impl Iterator<Item = Effect>) -> bool {
    let mut allowed = false;
    for effect in effects {
        match effect {
            Effect::Deny => return false,
            Effect::Allow => allowed = true,
        }
    }
    allowed
}

fn any(patterns: &[String], action: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, action))
}

fn check_version(version: &str) -> Result<(), String> {
    if version == VERSION {
        Ok(())
    } else {
        Err(format!(
            "version `{version}` is not known; write `{VERSION}`"
        ))
    }
}

fn check_count(statements: usize) -> Result<(), String> {
    match statements {
        0 => Err("there are no statements".into()),
        1..=MOST => Ok(()),
        _ => Err(format!(
            "there are {statements} statements, and {MOST} are allowed"
        )),
    }
}

fn check_sid(number: usize, sid: &str) -> Result<(), String> {
    if sid.chars().count() > 128 {
        Err(format!(
            "statements[{number}].sid is longer than 128 characters"
        ))
    } else {
        Ok(())
    }
}

fn check_list(number: usize, key: &str, list: &[String]) -> Result<(), String> {
    if list.is_empty() || list.iter().any(String::is_empty) {
        return Err(format!(
            "statements[{number}].{key} is empty or has an empty entry"
        ));
    }
    if list.len() > MOST || list.iter().any(|entry| entry.chars().count() > LONGEST) {
        return Err(format!(
            "statements[{number}].{key}: {MOST} entries of {LONGEST} characters are allowed"
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
        Crns::new("iam", "org", "role", ["id-1", name])
    }

    #[test]
    fn without_an_allow_the_answer_is_deny_and_an_explicit_deny_wins() {
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
    fn a_resource_matches_by_id_or_by_name() {
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
    fn a_role_trusts_whom_it_allows_less_whom_it_denies() {
        let trust = TrustPolicy::parse(&json!({ "version": "2024-01-01", "statements": [
            { "effect": "allow", "principals": ["crn:bycloud:iam:*:user/*"] },
            { "effect": "deny", "principals": ["*:user/mallory"] },
            { "effect": "allow", "principals": ["*"], "actions": ["iam:GetRole"] },
        ] }))
        .unwrap();
        let user = |name| Crns::new("iam", "org", "user", [name]);
        assert!(trust.trusts(&user("ada")));
        assert!(!trust.trusts(&user("mallory")));
        assert!(!trust.trusts(&Crns::new("iam", "org", "service-account", ["ci"])));
    }

    #[test]
    fn a_document_is_refused_with_what_is_wrong() {
        let good = json!([{ "effect": "allow", "actions": ["*"] }]);
        let cases = [
            (
                json!({ "version": "2012-10-17", "statements": good }),
                "version `2012-10-17` is not known",
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
            let why = Policy::parse(&document).unwrap_err();
            assert!(why.contains(want), "{document}: {why}");
        }
    }
}
