//! Policy documents (A10): which statement decides. Pure.
//!
//! It is for explanations only: the upstream decides what is allowed. An uncertain answer, because a name could not be read
//! or a statement has unknown fields, is reported as unknown.

use serde::Deserialize;
use serde_json::{Map, Value};
use wildmatch::WildMatch;

use super::crn::{Entity, Match};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Allow,
    Deny,
}

/// A parsed document.
#[derive(Debug, Clone)]
pub struct Document {
    /// For people: `policy AssumeProjectRoles`.
    pub(crate) name: String,
    statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
struct Statement {
    effect: Effect,
    /// Absent: every action.
    actions: Option<Vec<String>>,
    /// Patterns of the principals or resources that it applies to; absent: all.
    targets: Option<Vec<String>>,
    /// It has a field that is not known here, such as a condition.
    has_unknown_fields: bool,
    text: Value,
}

#[derive(Deserialize)]
struct RawStatement {
    effect: Effect,
    actions: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    principals: Option<Vec<String>>,
    #[serde(rename = "sid")]
    _sid: Option<String>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// What all documents together decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision<'a> {
    /// By the first statement that allows it.
    Allowed(StatementRef<'a>),
    Denied(StatementRef<'a>),
    /// No statement allows it, which means no.
    NotAllowed,
    /// It is uncertain whether this statement applies, and it would decide.
    Unknown(StatementRef<'a>),
}

/// A statement of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementRef<'a> {
    /// The document's name.
    pub(crate) document: &'a str,
    /// Counted from 1.
    pub number: usize,
    pub text: &'a Value,
    /// The statement applies if the caller's organisation matches this pattern.
    pub organization: Option<String>,
}

impl Document {
    /// Parses a document of the API. A trust policy's statements apply to the principals that they name, and to no others.
    ///
    /// # Errors
    /// When a statement is not understood. The message is for people.
    pub fn parse(name: &str, document: &Value, is_trust: bool) -> Result<Self, String> {
        let statements = document
            .get("statements")
            .and_then(Value::as_array)
            .ok_or_else(|| format!("{name} has no list of statements"))?
            .iter()
            .enumerate()
            .map(|(index, text)| {
                Statement::parse(text, is_trust).map_err(|error| {
                    format!(
                        "statement {} of {name} is not understood: {error}",
                        index + 1
                    )
                })
            })
            .collect::<Result<_, String>>()?;

        Ok(Self {
            name: name.into(),
            statements,
        })
    }
}

impl Statement {
    fn parse(text: &Value, is_trust: bool) -> Result<Self, serde_json::Error> {
        let raw = RawStatement::deserialize(text)?;
        let (targets, other) = if is_trust {
            (Some(raw.principals.unwrap_or_default()), raw.resources)
        } else {
            (raw.resources, raw.principals)
        };

        let has_unknown_fields = other.is_some() || !raw.unknown.is_empty();

        Ok(Self {
            effect: raw.effect,
            actions: raw.actions,
            targets,
            has_unknown_fields,
            text: text.clone(),
        })
    }

    fn applies(&self, action: &str, target: &Entity) -> Match {
        let acts = self.actions.as_ref().is_none_or(|actions| {
            actions
                .iter()
                .any(|pattern| WildMatch::new(pattern).matches(action))
        });

        if !acts {
            return Match::No;
        }

        let best = match &self.targets {
            None => Match::Yes,
            Some(patterns) => patterns
                .iter()
                .map(|pattern| target.matches(pattern))
                .min_by_key(Match::rank)
                .unwrap_or(Match::No),
        };

        if self.has_unknown_fields && best != Match::No {
            Match::Uncertain
        } else {
            best
        }
    }
}

/// Decides by A10: an explicit deny wins, and without an allow the decision is "not allowed".
pub fn decide<'a>(documents: &'a [Document], action: &str, target: &Entity) -> Decision<'a> {
    let mut allowed = None;
    let mut uncertain = None;
    for document in documents {
        for (index, statement) in document.statements.iter().enumerate() {
            let by = |organization| StatementRef {
                document: &document.name,
                number: index + 1,
                text: &statement.text,
                organization,
            };
            let by = match statement.applies(action, target) {
                Match::No => continue,
                Match::Uncertain => {
                    // A possible deny matters even if another statement allows.
                    if statement.effect == Effect::Deny || uncertain.is_none() {
                        uncertain = Some((statement.effect, by(None)));
                    }
                    continue;
                }
                Match::Yes => by(None),
                Match::IfOrganization(organization) => by(Some(organization)),
            };

            match statement.effect {
                Effect::Deny => return Decision::Denied(by),
                Effect::Allow => allowed = allowed.or(Some(by)),
            }
        }
    }

    match (allowed, uncertain) {
        (Some(by), None | Some((Effect::Allow, _))) => Decision::Allowed(by),
        (_, Some((_, by))) => Decision::Unknown(by),
        (None, None) => Decision::NotAllowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(name: &str, statements: &Value) -> Document {
        Document::parse(
            name,
            &json!({ "version": "2024-01-01", "statements": statements }),
            false,
        )
        .unwrap()
    }

    fn role(name: &str) -> Entity {
        Entity {
            kind: "role",
            names: vec!["id-1".into(), name.into()],
            is_complete: true,
            organization: None,
        }
    }

    fn said(decision: &Decision<'_>) -> String {
        let by = |by: &StatementRef<'_>| {
            let condition = by
                .organization
                .as_ref()
                .map(|name| format!(" in {name}"))
                .unwrap_or_default();
            format!("{} {}{condition}", by.document, by.number)
        };
        match decision {
            Decision::Allowed(it) => format!("allowed by {}", by(it)),
            Decision::Denied(it) => format!("denied by {}", by(it)),
            Decision::Unknown(it) => format!("unknown by {}", by(it)),
            Decision::NotAllowed => "not allowed".into(),
        }
    }

    #[test]
    fn decision_names_its_statement() {
        let documents = [
            policy("a", &json!([{ "effect": "allow", "actions": ["s3:*"] }])),
            policy(
                "b",
                &json!([
                    { "effect": "allow", "actions": ["iam:*"] },
                    { "sid": "Some", "effect": "allow", "actions": ["sts:AssumeRole"], "resources": ["*:role/S3*"] },
                ]),
            ),
            policy(
                "c",
                &json!([{ "effect": "deny", "actions": ["sts:*"], "resources": ["crn:*:role/S3Full"] }]),
            ),
        ];
        let decide = |name| said(&decide(&documents, "sts:AssumeRole", &role(name)));
        assert_eq!(decide("S3ReadOnly"), "allowed by b 2");
        assert_eq!(decide("S3Full"), "denied by c 1");
        assert_eq!(decide("EC2"), "not allowed");
    }

    #[test]
    fn organisation_in_a_pattern_is_a_condition_unless_known() {
        let within = |organization: Option<&str>| Entity {
            organization: organization.map(Into::into),
            ..role("S3")
        };
        let table = [
            (
                "crn:bycloud:iam:*:role/S3",
                "allowed by p 1",
                "allowed by p 1",
            ),
            ("*:role/S3", "allowed by p 1", "allowed by p 1"),
            (
                "crn:bycloud:iam:org-1:role/S3",
                "allowed by p 1 in org-1",
                "allowed by p 1",
            ),
            (
                "crn:bycloud:iam:org-*:role/S3",
                "allowed by p 1 in org-*",
                "allowed by p 1",
            ),
            (
                "*:org-1:role/S3",
                "allowed by p 1 in org-1",
                "allowed by p 1",
            ),
            (
                "crn:*:org-1:role/S3",
                "allowed by p 1 in org-1",
                "allowed by p 1",
            ),
            (
                "crn:bycloud:iam:org-2:role/S3",
                "allowed by p 1 in org-2",
                "not allowed",
            ),
            ("*g*3*3*", "allowed by p 1 in *g*3*", "not allowed"),
            ("*o*1*:role/S3", "allowed by p 1 in *1*", "allowed by p 1"),
            ("*:i*1:role/S3", "allowed by p 1 in *1", "allowed by p 1"),
            ("*?1:role/S3", "unknown by p 1", "allowed by p 1"),
            (
                "crn:bycloud:iam:?:role/S3",
                "allowed by p 1 in ?",
                "not allowed",
            ),
            (
                "crn:bycloud:iam:org-1:role/EC2",
                "not allowed",
                "not allowed",
            ),
        ];
        for (pattern, unknown, known) in table {
            let documents = [policy(
                "p",
                &json!([{ "effect": "allow", "actions": ["*"], "resources": [pattern] }]),
            )];
            assert_eq!(
                said(&decide(&documents, "x", &within(None))),
                unknown,
                "{pattern}"
            );
            assert_eq!(
                said(&decide(&documents, "x", &within(Some("org-1")))),
                known,
                "{pattern}"
            );
        }
    }

    #[test]
    fn unknown_name_makes_other_patterns_uncertain() {
        let partly = Entity {
            names: vec!["id-1".into()],
            is_complete: false,
            ..role("")
        };
        let statement = |effect: &str, resource: &str| json!({ "effect": effect, "actions": ["*"], "resources": [resource] });
        let table = [
            (vec![statement("allow", "*:role/S3")], "unknown by p 1"),
            (vec![statement("allow", "*:role/id-1")], "allowed by p 1"),
            (
                vec![statement("allow", "*"), statement("deny", "*:role/S3")],
                "unknown by p 2",
            ),
            (
                vec![
                    statement("allow", "*:role/S3"),
                    statement("deny", "*:role/S3"),
                ],
                "unknown by p 2",
            ),
            (
                vec![
                    statement("allow", "*:role/S3"),
                    statement("deny", "*:role/id-1"),
                ],
                "denied by p 2",
            ),
            (
                vec![statement("allow", "*"), statement("allow", "*:role/S3")],
                "allowed by p 1",
            ),
        ];
        for (statements, want) in table {
            let documents = [policy("p", &json!(statements))];
            assert_eq!(
                said(&decide(&documents, "x", &partly)),
                want,
                "{statements:?}"
            );
        }
    }

    #[test]
    fn statement_with_unknown_fields_is_uncertain() {
        let table = [
            (
                json!([{ "effect": "allow", "actions": ["*"], "conditions": { "mfa": true } }]),
                "unknown by p 1",
            ),
            (
                json!([{ "effect": "allow", "actions": ["s3:*"], "conditions": {} }]),
                "not allowed",
            ),
            (
                json!([{ "effect": "allow", "actions": ["*"] }, { "effect": "deny", "not_actions": ["x"] }]),
                "unknown by p 2",
            ),
        ];
        for (statements, want) in table {
            assert_eq!(
                said(&decide(&[policy("p", &statements)], "x", &role("S3"))),
                want,
                "{statements}"
            );
        }
    }

    #[test]
    fn trust_policy_without_principals_trusts_none() {
        let trust = |statement: Value| {
            Document::parse(
                "t",
                &json!({ "version": "2030-01-01", "statements": [statement], "x": 1 }),
                true,
            )
        };
        let user = Entity {
            kind: "user",
            ..role("ada")
        };
        let none = [trust(json!({ "effect": "allow" })).unwrap()];
        assert_eq!(decide(&none, "sts:AssumeRole", &user), Decision::NotAllowed);
        let ada = [trust(json!({ "effect": "allow", "principals": ["*:user/ada"] })).unwrap()];
        assert!(matches!(
            decide(&ada, "sts:AssumeRole", &user),
            Decision::Allowed(_)
        ));
        assert!(
            trust(json!({ "effect": "perhaps" }))
                .unwrap_err()
                .contains("statement 1 of t is not understood")
        );
    }
}
