//! Policy documents (A10): which statement decides. Pure.
//!
//! This is for explanations only: what is allowed is decided by the upstream. Documents are read leniently, since the
//! service may know more keys than its reference shows.

use serde::Deserialize;
use serde_json::Value;
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
    text: Value,
}

#[derive(Deserialize)]
struct Raw {
    effect: Effect,
    actions: Option<Vec<String>>,
    resources: Option<Vec<String>>,
    principals: Option<Vec<String>>,
}

/// A thing by every name that it has (A9).
#[derive(Debug, Clone)]
pub struct Named {
    /// `role`, `user`, `service-account`
    pub kind: &'static str,
    /// Its id, its name, an address.
    pub names: Vec<String>,
    /// No reply of the API names the organisation: while it is unknown, a pattern's own is taken for it.
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
}

/// A statement of a document, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct By<'a> {
    pub of: &'a str,
    pub number: usize,
    pub text: &'a Value,
}

impl Document {
    /// A document as the API shows it. A trust policy must say whom its statements are about.
    pub fn parse(of: &str, document: &Value, is_trust: bool) -> Result<Self, String> {
        let texts = document["statements"].as_array().ok_or_else(|| format!("{of} has no list of statements"))?;
        let read = |(index, text): (usize, &Value)| {
            let raw: Raw = serde_json::from_value(text.clone())
                .map_err(|error| format!("statement {} of {of} is not understood: {error}", index + 1))?;
            let about = if is_trust { Some(raw.principals.unwrap_or_default()) } else { raw.resources };
            Ok(Statement { effect: raw.effect, actions: raw.actions, about, text: text.clone() })
        };
        let statements = texts.iter().enumerate().map(read).collect::<Result<_, String>>()?;
        Ok(Self { of: of.into(), statements })
    }
}

impl Named {
    fn matches(&self, pattern: &str) -> bool {
        let own = pattern.split(':').nth(3).filter(|own| pattern.starts_with("crn:") && !own.contains(['*', '?']));
        let organization = self.organization.as_deref().or(own).unwrap_or("-");
        let pattern = WildMatch::new(pattern);
        self.names.iter().any(|name| pattern.matches(&format!("crn:bycloud:iam:{organization}:{}/{name}", self.kind)))
    }
}

/// An explicit deny wins; without an allow the answer is no.
pub fn decide<'a>(documents: &'a [Document], action: &str, about: &Named) -> Decision<'a> {
    let mut allowed = None;
    for document in documents {
        for (index, statement) in document.statements.iter().enumerate() {
            if !statement.applies(action, about) {
                continue;
            }
            let by = By { of: &document.of, number: index + 1, text: &statement.text };
            match statement.effect {
                Effect::Deny => return Decision::Denied(by),
                Effect::Allow => drop(allowed.get_or_insert(by)),
            }
        }
    }
    allowed.map_or(Decision::NotAllowed, Decision::Allowed)
}

impl Statement {
    fn applies(&self, action: &str, about: &Named) -> bool {
        let actions = self.actions.as_ref();
        actions.is_none_or(|actions| actions.iter().any(|pattern| WildMatch::new(pattern).matches(action)))
            && self.about.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| about.matches(pattern)))
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
        Named { kind: "role", names: vec!["id-1".into(), name.into()], organization: None }
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
        let by = |decision| match decision {
            Decision::Allowed(by) => format!("allowed by {} {}", by.of, by.number),
            Decision::Denied(by) => format!("denied by {} {}", by.of, by.number),
            Decision::NotAllowed => "not allowed".into(),
        };
        let decide = |name| by(decide(&documents, "sts:AssumeRole", &role(name)));
        assert_eq!(decide("S3ReadOnly"), "allowed by b 2");
        assert_eq!(decide("S3Full"), "denied by c 1");
        assert_eq!(decide("EC2"), "not allowed");
    }

    #[test]
    fn an_unknown_organisation_is_taken_from_the_pattern_and_a_known_one_is_compared() {
        let allow =
            |pattern: &str| policy("p", &json!([{ "effect": "allow", "actions": ["*"], "resources": [pattern] }]));
        let documents = [allow("crn:bycloud:iam:org-1:role/S3")];
        let with = |organization: Option<&str>| Named { organization: organization.map(Into::into), ..role("S3") };
        assert!(matches!(decide(&documents, "x", &with(None)), Decision::Allowed(_)));
        assert!(matches!(decide(&documents, "x", &with(Some("org-1"))), Decision::Allowed(_)));
        assert_eq!(decide(&documents, "x", &with(Some("org-2"))), Decision::NotAllowed);
        let documents = [allow("crn:bycloud:iam:*:role/S3")];
        assert!(matches!(decide(&documents, "x", &with(None)), Decision::Allowed(_)));
    }

    #[test]
    fn a_trust_policy_that_names_nobody_trusts_nobody_and_unknown_keys_are_no_matter() {
        let trust = |statement: Value| {
            Document::parse("t", &json!({ "version": "2030-01-01", "statements": [statement], "x": 1 }), true)
        };
        let user = Named { kind: "user", names: vec!["ada".into()], organization: None };
        let nobody = [trust(json!({ "effect": "allow" })).unwrap()];
        assert_eq!(decide(&nobody, "sts:AssumeRole", &user), Decision::NotAllowed);
        let ada = [trust(json!({ "effect": "allow", "principals": ["*:user/ada"], "conditions": {} })).unwrap()];
        assert!(matches!(decide(&ada, "sts:AssumeRole", &user), Decision::Allowed(_)));
        assert!(trust(json!({ "effect": "perhaps" })).unwrap_err().contains("statement 1 of t is not understood"));
    }
}
