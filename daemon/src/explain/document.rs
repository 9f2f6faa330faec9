//! Policy documents (A10): which statement decides. Pure.
//!
//! This is for explanations only: what is allowed is decided by the upstream. What cannot be told for sure, because a name
//! could not be read or a statement says more than is understood, is not guessed.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};
use wildmatch::WildMatch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Allow,
    Deny,
}

/// A document that is understood, and where it is from.
#[derive(Debug, Clone)]
pub struct Document {
    /// For people: `policy AssumeProjectRoles`.
    pub of: String,
    statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
struct Statement {
    effect: Effect,
    /// Absent: every action.
    actions: Option<Vec<String>>,
    /// Whom or what it is about; absent: everything.
    about: Option<Vec<String>>,
    /// It says something that is not understood here, such as a condition.
    says_more: bool,
    text: Value,
}

#[derive(Deserialize)]
struct Raw {
    effect: Effect,
    actions: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    principals: Option<Vec<String>>,
    #[serde(rename = "sid")]
    _sid: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A thing by every name that it has (A9).
#[derive(Debug, Clone)]
pub struct Named {
    /// `role`, `user`, `service-account`
    pub kind: &'static str,
    /// Its id, its name, an address.
    pub names: Vec<String>,
    /// Whether these are all of its names.
    pub is_complete: bool,
    /// No reply of the API names the organisation.
    pub organization: Option<String>,
}

/// What the documents say together.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision<'a> {
    /// By the first statement that does so.
    Allowed(By<'a>),
    Denied(By<'a>),
    /// Nothing allows it, so the answer is no.
    NotAllowed,
    /// This statement may decide, and it cannot be told whether it does.
    Unknown(By<'a>),
}

/// A statement of a document, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct By<'a> {
    pub of: &'a str,
    pub number: usize,
    pub text: &'a Value,
    /// It applies if the caller's organisation is called like this.
    pub organization: Option<String>,
}

/// Whether a pattern, or a statement, is about a thing.
#[derive(Debug, Clone, PartialEq)]
enum Match {
    Yes,
    /// If the organisation is called like this.
    In(String),
    /// By a name that is not known here, or under a condition that is not understood.
    Maybe,
    No,
}

impl Document {
    /// A document as the API shows it. A trust policy must say whom its statements are about.
    pub fn parse(of: &str, document: &Value, is_trust: bool) -> Result<Self, String> {
        let texts = document.get("statements").and_then(Value::as_array);
        let texts = texts.ok_or_else(|| format!("{of} has no list of statements"))?;
        let read = |(index, text): (usize, &Value)| {
            let raw: Raw = serde_json::from_value(text.clone()).map_err(|error| {
                format!("statement {} of {of} is not understood: {error}", index + 1)
            })?;
            let (about, other) = if is_trust {
                (Some(raw.principals.unwrap_or_default()), raw.resources)
            } else {
                (raw.resources, raw.principals)
            };
            let says_more = other.is_some() || !raw.more.is_empty();
            Ok(Statement {
                effect: raw.effect,
                actions: raw.actions,
                about,
                says_more,
                text: text.clone(),
            })
        };
        let statements = texts
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, String>>()?;
        Ok(Self {
            of: of.into(),
            statements,
        })
    }
}

impl Named {
    fn matches(&self, pattern: &str) -> Match {
        let about = |pattern: &str, organization: &str| {
            let glob = WildMatch::new(pattern);
            let crn =
                |name: &String| format!("crn:bycloud:iam:{organization}:{}/{name}", self.kind);
            self.names.iter().any(|name| glob.matches(&crn(name)))
        };
        let otherwise = if self.is_complete {
            Match::No
        } else {
            Match::Maybe
        };
        if let Some(organization) = &self.organization {
            return if about(pattern, organization) {
                Match::Yes
            } else {
                otherwise
            };
        }
        // Whatever it is called, of whatever length.
        if about(pattern, "\u{fffd}") && about(pattern, "\u{fffd}\u{fffd}") {
            return Match::Yes;
        }
        if pattern.len() > LONGEST {
            return Match::Maybe;
        }
        let ends = self
            .names
            .iter()
            .map(|name| format!(":{}/{name}", self.kind));
        let organizations: BTreeSet<_> = ends
            .flat_map(|end| organizations_in(pattern, &end))
            .collect();
        if organizations.is_empty() {
            return otherwise;
        }
        let is_widest = |wide: &&String| organizations.iter().all(|other| covers(wide, other));
        let widest = if organizations.len() > MOST {
            None
        } else {
            organizations.iter().find(is_widest)
        };
        widest.map_or(Match::Maybe, |widest| Match::In(widest.clone()))
    }
}

/// Whether the one pattern fits whatever the other fits, as far as can be told from the least and from a lot for each `*`.
fn covers(wide: &str, narrow: &str) -> bool {
    let glob = WildMatch::new(wide);
    [0, wide.len() + 1]
        .iter()
        .all(|count| glob.matches(&narrow.replace('*', &"\u{fffd}".repeat(*count))))
}

/// The longest pattern that is searched for an organisation, in bytes: longer than a CRN would be.
const LONGEST: usize = 512;
/// The most parts of it that are compared with each other.
const MOST: usize = 16;

/// The parts of a pattern of which one must fit the organisation for the pattern to fit a CRN that ends like this.
fn organizations_in(pattern: &str, end: &str) -> Vec<String> {
    // A `*` may end the beginning, stand for the organisation, and begin the end.
    let pattern = pattern.replace('*', "***");
    let cuts: Vec<_> = (0..=pattern.len())
        .filter_map(|at| pattern.split_at_checked(at))
        .collect();
    let fits = |part: &str, text| WildMatch::new(part).matches(text);
    let star = |text: &str| text.starts_with('*');
    let star_ends = |text: &str| text.ends_with('*');
    let mut begins: Vec<_> = cuts
        .iter()
        .filter(|(before, _)| fits(before, "crn:bycloud:iam:"))
        .collect();
    let mut ends: Vec<_> = cuts.iter().filter(|(_, after)| fits(after, end)).collect();
    // With a `*` before it a part fits all that it fits without, and all that fits what has more before that `*`.
    begins.drain(
        ..begins
            .iter()
            .rposition(|(_, after)| star(after))
            .unwrap_or(0),
    );
    begins.retain(|(before, after)| star(after) || !star_ends(before));
    ends.truncate(
        ends.iter()
            .position(|(before, _)| star_ends(before))
            .map_or(ends.len(), |first| first + 1),
    );
    ends.retain(|(before, after)| star_ends(before) || !star(after));
    let parts = begins
        .iter()
        .flat_map(|begin| ends.iter().filter_map(|end| end.0.get(begin.0.len()..)));
    let organizations = parts.filter(|part| !part.is_empty() && !part.contains([':', '/']));
    organizations
        .map(|part| part.replace("***", "*").replace("**", "*"))
        .collect()
}

/// An explicit deny wins; without an allow the answer is no.
pub fn decide<'a>(documents: &'a [Document], action: &str, about: &Named) -> Decision<'a> {
    let (mut allowed, mut unsure) = (None, None);
    for document in documents {
        for (index, statement) in document.statements.iter().enumerate() {
            let by = |organization| By {
                of: &document.of,
                number: index + 1,
                text: &statement.text,
                organization,
            };
            let by = match statement.applies(action, about) {
                Match::No => continue,
                Match::Maybe => {
                    // What may deny matters whatever allows.
                    let replaces = statement.effect == Effect::Deny || unsure.is_none();
                    unsure = if replaces {
                        Some((statement.effect, by(None)))
                    } else {
                        unsure
                    };
                    continue;
                }
                Match::Yes => by(None),
                Match::In(organization) => by(Some(organization)),
            };
            match statement.effect {
                Effect::Deny => return Decision::Denied(by),
                Effect::Allow => allowed = allowed.or(Some(by)),
            }
        }
    }
    match (allowed, unsure) {
        (Some(by), None | Some((Effect::Allow, _))) => Decision::Allowed(by),
        (_, Some((_, by))) => Decision::Unknown(by),
        (None, None) => Decision::NotAllowed,
    }
}

impl Statement {
    fn applies(&self, action: &str, about: &Named) -> Match {
        let acts = |actions: &Vec<String>| {
            actions
                .iter()
                .any(|pattern| WildMatch::new(pattern).matches(action))
        };
        if !self.actions.as_ref().is_none_or(acts) {
            return Match::No;
        }
        let best = self.about.as_ref().map_or(Match::Yes, |patterns| {
            let mut found: Vec<_> = patterns
                .iter()
                .map(|pattern| about.matches(pattern))
                .collect();
            found.sort_by_key(Match::rank);
            found.into_iter().next().unwrap_or(Match::No)
        });
        if self.says_more && best != Match::No {
            Match::Maybe
        } else {
            best
        }
    }
}

impl Match {
    /// The surest first.
    fn rank(&self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::In(_) => 1,
            Self::Maybe => 2,
            Self::No => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(of: &str, statements: &Value) -> Document {
        Document::parse(
            of,
            &json!({ "version": "2024-01-01", "statements": statements }),
            false,
        )
        .unwrap()
    }

    fn role(name: &str) -> Named {
        Named {
            kind: "role",
            names: vec!["id-1".into(), name.into()],
            is_complete: true,
            organization: None,
        }
    }

    fn said(decision: &Decision<'_>) -> String {
        let by = |by: &By<'_>| {
            let condition = by
                .organization
                .as_ref()
                .map(|name| format!(" in {name}"))
                .unwrap_or_default();
            format!("{} {}{condition}", by.of, by.number)
        };
        match decision {
            Decision::Allowed(it) => format!("allowed by {}", by(it)),
            Decision::Denied(it) => format!("denied by {}", by(it)),
            Decision::Unknown(it) => format!("unknown by {}", by(it)),
            Decision::NotAllowed => "not allowed".into(),
        }
    }

    #[test]
    fn the_statement_that_decides_is_named() {
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
    fn an_organisation_that_a_pattern_names_is_a_condition_unless_it_is_known() {
        let within = |organization: Option<&str>| Named {
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
    fn a_name_that_is_not_known_leaves_open_what_names_something_else() {
        let partly = Named {
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
    fn a_statement_that_says_more_than_is_understood_decides_nothing_for_sure() {
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
    fn a_trust_policy_that_names_nobody_trusts_nobody() {
        let trust = |statement: Value| {
            Document::parse(
                "t",
                &json!({ "version": "2030-01-01", "statements": [statement], "x": 1 }),
                true,
            )
        };
        let user = Named {
            kind: "user",
            ..role("ada")
        };
        let nobody = [trust(json!({ "effect": "allow" })).unwrap()];
        assert_eq!(
            decide(&nobody, "sts:AssumeRole", &user),
            Decision::NotAllowed
        );
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
