//! Policy documents (A10): which statement decides. Pure.
//!
//! This is for explanations only: what is allowed is decided by the upstream. What cannot be told for sure, because a name
//! could not be read or a statement says more than is understood, is not guessed.

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
            let raw: Raw = serde_json::from_value(text.clone())
                .map_err(|error| format!("statement {} of {of} is not understood: {error}", index + 1))?;
            let (about, other) = if is_trust {
                (Some(raw.principals.unwrap_or_default()), raw.resources)
            } else {
                (raw.resources, raw.principals)
            };
            let says_more = other.is_some() || !raw.more.is_empty();
            Ok(Statement { effect: raw.effect, actions: raw.actions, about, says_more, text: text.clone() })
        };
        let statements = texts.iter().enumerate().map(read).collect::<Result<_, String>>()?;
        Ok(Self { of: of.into(), statements })
    }
}

impl Named {
    fn matches(&self, pattern: &str) -> Match {
        let about = |pattern: &str, organization: &str| {
            let glob = WildMatch::new(pattern);
            let crn = |name: &String| format!("crn:bycloud:iam:{organization}:{}/{name}", self.kind);
            self.names.iter().any(|name| glob.matches(&crn(name)))
        };
        let otherwise = if self.is_complete { Match::No } else { Match::Maybe };
        if let Some(organization) = &self.organization {
            return if about(pattern, organization) { Match::Yes } else { otherwise };
        }
        // Whatever it is called, of whatever length.
        if about(pattern, "\u{fffd}") && about(pattern, "\u{fffd}\u{fffd}") {
            return Match::Yes;
        }
        if pattern.len() > LONGEST {
            return Match::Maybe;
        }
        match organization_in(pattern, |pattern| about(pattern, "\u{fffd}")) {
            Some(organization) => Match::In(organization.into()),
            None if self.names.iter().any(|name| fits_some(pattern, &format!(":{}/{name}", self.kind))) => Match::Maybe,
            None => otherwise,
        }
    }
}

/// The longest pattern that is searched for an organisation, in bytes: longer than a CRN would be.
const LONGEST: usize = 512;

/// The part of a pattern that stands for the whole organisation: one that is called U+FFFD is found with that in its place.
fn organization_in(pattern: &str, is_found: impl Fn(&str) -> bool) -> Option<&str> {
    let parts: Vec<_> = pattern.split(':').collect();
    (0..parts.len()).find_map(|at| {
        let (before, rest) = parts.split_at(at);
        let (part, after) = rest.split_first()?;
        let star = |is_there| if is_there { "*" } else { "" };
        let place = format!("{}\u{fffd}{}", star(part.starts_with('*')), star(part.ends_with('*')));
        let changed = [before, &[place.as_str()], after].concat().join(":");
        (!part.contains('/') && is_found(&changed)).then_some(*part)
    })
}

/// Whether there is any organisation at all with which a pattern fits what ends like this.
fn fits_some(pattern: &str, end: &str) -> bool {
    // A `*` may end the beginning, stand for the organisation, and begin the end.
    let pattern = pattern.replace('*', "***");
    let cuts: Vec<_> = (0..=pattern.len()).filter_map(|at| pattern.split_at_checked(at)).collect();
    let fits = |part: &str, text| WildMatch::new(part).matches(text);
    let begun: Vec<_> = cuts.iter().map(|cut| cut.0).filter(|before| fits(before, "crn:bycloud:iam:")).collect();
    cuts.iter().filter(|(_, after)| fits(after, end)).any(|(before, _)| {
        let begun = begun.iter().rfind(|begun| begun.len() < before.len());
        let organization = begun.and_then(|begun| before.get(begun.len()..));
        organization.is_some_and(|organization| !organization.contains([':', '/']))
    })
}

/// An explicit deny wins; without an allow the answer is no.
pub fn decide<'a>(documents: &'a [Document], action: &str, about: &Named) -> Decision<'a> {
    let (mut allowed, mut unsure) = (None, None);
    for document in documents {
        for (index, statement) in document.statements.iter().enumerate() {
            let by = |organization| By { of: &document.of, number: index + 1, text: &statement.text, organization };
            let by = match statement.applies(action, about) {
                Match::No => continue,
                Match::Maybe => {
                    // What may deny matters whatever allows.
                    let replaces = statement.effect == Effect::Deny || unsure.is_none();
                    unsure = if replaces { Some((statement.effect, by(None))) } else { unsure };
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
        let acts = |actions: &Vec<String>| actions.iter().any(|pattern| WildMatch::new(pattern).matches(action));
        if !self.actions.as_ref().is_none_or(acts) {
            return Match::No;
        }
        let best = self.about.as_ref().map_or(Match::Yes, |patterns| {
            let mut found: Vec<_> = patterns.iter().map(|pattern| about.matches(pattern)).collect();
            found.sort_by_key(Match::rank);
            found.into_iter().next().unwrap_or(Match::No)
        });
        if self.says_more && best != Match::No { Match::Maybe } else { best }
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
        Document::parse(of, &json!({ "version": "2024-01-01", "statements": statements }), false).unwrap()
    }

    fn role(name: &str) -> Named {
        Named { kind: "role", names: vec!["id-1".into(), name.into()], is_complete: true, organization: None }
    }

    fn said(decision: &Decision<'_>) -> String {
        let by = |by: &By<'_>| {
            let condition = by.organization.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
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
            policy("c", &json!([{ "effect": "deny", "actions": ["sts:*"], "resources": ["crn:*:role/S3Full"] }])),
        ];
        let decide = |name| said(&decide(&documents, "sts:AssumeRole", &role(name)));
        assert_eq!(decide("S3ReadOnly"), "allowed by b 2");
        assert_eq!(decide("S3Full"), "denied by c 1");
        assert_eq!(decide("EC2"), "not allowed");
    }

    #[test]
    fn an_organisation_that_a_pattern_names_is_a_condition_unless_it_is_known() {
        let within = |organization: Option<&str>| Named { organization: organization.map(Into::into), ..role("S3") };
        let table = [
            ("crn:bycloud:iam:*:role/S3", "allowed by p 1", "allowed by p 1"),
            ("*:role/S3", "allowed by p 1", "allowed by p 1"),
            ("crn:bycloud:iam:org-1:role/S3", "allowed by p 1 in org-1", "allowed by p 1"),
            ("crn:bycloud:iam:org-*:role/S3", "allowed by p 1 in org-*", "allowed by p 1"),
            ("*:org-1:role/S3", "allowed by p 1 in org-1", "allowed by p 1"),
            ("crn:*:org-1:role/S3", "allowed by p 1 in org-1", "allowed by p 1"),
            ("crn:bycloud:iam:org-2:role/S3", "allowed by p 1 in org-2", "not allowed"),
            ("crn:bycloud:iam:org-1:role/EC2", "not allowed", "not allowed"),
        ];
        for (pattern, unknown, known) in table {
            let documents = [policy("p", &json!([{ "effect": "allow", "actions": ["*"], "resources": [pattern] }]))];
            assert_eq!(said(&decide(&documents, "x", &within(None))), unknown, "{pattern}");
            assert_eq!(said(&decide(&documents, "x", &within(Some("org-1")))), known, "{pattern}");
        }
    }

    #[test]
    fn a_name_that_is_not_known_leaves_open_what_names_something_else() {
        let partly = Named { names: vec!["id-1".into()], is_complete: false, ..role("") };
        let statement =
            |effect: &str, resource: &str| json!({ "effect": effect, "actions": ["*"], "resources": [resource] });
        let table = [
            (vec![statement("allow", "*:role/S3")], "unknown by p 1"),
            (vec![statement("allow", "*:role/id-1")], "allowed by p 1"),
            (vec![statement("allow", "*"), statement("deny", "*:role/S3")], "unknown by p 2"),
            (vec![statement("allow", "*:role/S3"), statement("deny", "*:role/S3")], "unknown by p 2"),
            (vec![statement("allow", "*:role/S3"), statement("deny", "*:role/id-1")], "denied by p 2"),
            (vec![statement("allow", "*"), statement("allow", "*:role/S3")], "allowed by p 1"),
        ];
        for (statements, want) in table {
            let documents = [policy("p", &json!(statements))];
            assert_eq!(said(&decide(&documents, "x", &partly)), want, "{statements:?}");
        }
    }

    #[test]
    fn a_statement_that_says_more_than_is_understood_decides_nothing_for_sure() {
        let table = [
            (json!([{ "effect": "allow", "actions": ["*"], "conditions": { "mfa": true } }]), "unknown by p 1"),
            (json!([{ "effect": "allow", "actions": ["s3:*"], "conditions": {} }]), "not allowed"),
            (
                json!([{ "effect": "allow", "actions": ["*"] }, { "effect": "deny", "not_actions": ["x"] }]),
                "unknown by p 2",
            ),
        ];
        for (statements, want) in table {
            assert_eq!(said(&decide(&[policy("p", &statements)], "x", &role("S3"))), want, "{statements}");
        }
    }

    #[test]
    fn a_trust_policy_that_names_nobody_trusts_nobody() {
        let trust = |statement: Value| {
            Document::parse("t", &json!({ "version": "2030-01-01", "statements": [statement], "x": 1 }), true)
        };
        let user = Named { kind: "user", ..role("ada") };
        let nobody = [trust(json!({ "effect": "allow" })).unwrap()];
        assert_eq!(decide(&nobody, "sts:AssumeRole", &user), Decision::NotAllowed);
        let ada = [trust(json!({ "effect": "allow", "principals": ["*:user/ada"] })).unwrap()];
        assert!(matches!(decide(&ada, "sts:AssumeRole", &user), Decision::Allowed(_)));
        assert!(trust(json!({ "effect": "perhaps" })).unwrap_err().contains("statement 1 of t is not understood"));
    }
}
