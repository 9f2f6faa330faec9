//! Policies of AWS: identity-based policies, session policies and trust policies. A deny wins over
//! an allow. Without an allow, the decision is an implicit deny.

use serde_json::{Map, Value};

use super::condition::{self, Condition, texts};
use super::context::Context;
use super::error::AwsError;
use crate::sandbox::crn::matches;

/// An action on a resource, with the values of the condition keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) action: &'a str,
    /// `*` for an action without resources.
    pub(super) resource: &'a str,
    pub(super) context: &'a Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Allow,
    ExplicitDeny,
    ImplicitDeny,
}

/// How a trust policy decides. The greater, the less else has to allow the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    ExplicitDeny,
    None,
    /// It trusts the caller's account, so the caller's own policies must allow the request.
    Account,
    /// It names the user or the role.
    Principal,
    /// It names the role session.
    Session,
}

/// The names of a caller in trust policies.
#[derive(Debug, Clone)]
pub(super) struct PrincipalNames {
    pub(super) account: String,
    /// The ARN of the user or of the role.
    pub(super) principal: String,
    /// The ARN of the role session.
    pub(super) session: Option<String>,
}

#[derive(Debug)]
pub(super) struct Policy {
    /// The text as it was stored.
    pub(super) document: String,
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PolicyKind {
    /// Identity-based and session policies.
    Permissions,
    Trust,
}

#[derive(Debug)]
struct Statement {
    is_allow: bool,
    actions: Patterns,
    /// `*` for a trust policy.
    resources: Patterns,
    /// For a trust policy only.
    principals: Vec<String>,
    conditions: Vec<Condition>,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Debug)]
struct Patterns {
    is_negated: bool,
    patterns: Vec<String>,
}

impl Patterns {
    fn everything() -> Self {
        Self {
            is_negated: false,
            patterns: vec!["*".into()],
        }
    }

    fn match_text(&self, text: &str) -> bool {
        let any = self.patterns.iter().any(|pattern| matches(pattern, text));
        any != self.is_negated
    }
}

impl Policy {
    pub(super) fn parse(document: &str, kind: PolicyKind) -> Result<Self, AwsError> {
        let value: Value = serde_json::from_str(document).map_err(|_| {
            AwsError::malformed_policy("The policy is not in the valid JSON format.")
        })?;
        let statements = parse_document(&value, kind).map_err(AwsError::malformed_policy)?;

        Ok(Self {
            document: document.into(),
            statements,
        })
    }

    fn statements_for<'a>(
        &'a self,
        request: &'a Request<'_>,
    ) -> impl Iterator<Item = &'a Statement> {
        self.statements.iter().filter(|statement| {
            let action = request.action.to_ascii_lowercase();
            let mut conditions = statement.conditions.iter();

            statement.actions.match_text(&action)
                && statement.resources.match_text(request.resource)
                && conditions.all(|condition| condition.holds(request.context))
        })
    }

    /// Evaluates a trust policy.
    pub(super) fn trust(&self, request: &Request<'_>, caller: &PrincipalNames) -> Trust {
        let mut trust = Trust::None;

        for statement in self.statements_for(request) {
            let names = statement.principals.iter();
            match names.filter_map(|name| caller.trusted_as(name)).max() {
                Some(_) if !statement.is_allow => return Trust::ExplicitDeny,
                Some(found) => trust = trust.max(found),
                None => {}
            }
        }
        trust
    }
}

/// Evaluates identity-based policies, or the policies of a session.
pub(super) fn decide<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    request: &Request<'_>,
) -> Decision {
    let mut decision = Decision::ImplicitDeny;

    for policy in policies {
        for statement in policy.statements_for(request) {
            if !statement.is_allow {
                return Decision::ExplicitDeny;
            }
            decision = Decision::Allow;
        }
    }
    decision
}

impl PrincipalNames {
    /// How an entry of `Principal` trusts the caller.
    fn trusted_as(&self, entry: &str) -> Option<Trust> {
        let root = format!("arn:aws:iam::{}:root", self.account);

        if entry == "*" || entry == self.principal {
            Some(Trust::Principal)
        } else if entry == self.account || entry == root {
            Some(Trust::Account)
        } else {
            (Some(entry) == self.session.as_deref()).then_some(Trust::Session)
        }
    }
}

fn parse_document(document: &Value, kind: PolicyKind) -> Result<Vec<Statement>, String> {
    let document = document.as_object().ok_or("Syntax errors in policy.")?;
    check_fields(document, &["Version", "Id", "Statement"])?;
    match document.get("Version").map(Value::as_str) {
        None | Some(Some("2012-10-17" | "2008-10-17")) => {}
        _ => return Err("Policy document must be version 2012-10-17 or greater.".into()),
    }

    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement) => vec![statement],
        None => return Err("Syntax errors in policy.".into()),
    };
    statements
        .into_iter()
        .map(|statement| parse_statement(statement, kind))
        .collect()
}

fn parse_statement(statement: &Value, kind: PolicyKind) -> Result<Statement, String> {
    let statement = statement.as_object().ok_or("Syntax errors in policy.")?;
    let mut known = vec!["Sid", "Effect", "Action", "NotAction", "Condition"];
    known.extend(match kind {
        PolicyKind::Permissions => ["Resource", "NotResource"].as_slice(),
        PolicyKind::Trust => ["Principal"].as_slice(),
    });
    check_fields(statement, &known)?;

    let is_allow = match statement.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err("Syntax errors in policy.".into()),
    };
    let mut actions =
        parse_patterns(statement, "Action")?.ok_or("Policy statement must contain actions.")?;
    for action in &mut actions.patterns {
        action.make_ascii_lowercase();
    }
    let resources = match kind {
        PolicyKind::Trust => Patterns::everything(),
        PolicyKind::Permissions => parse_patterns(statement, "Resource")?
            .ok_or("Policy statement must contain resources.")?,
    };
    let principals = match kind {
        PolicyKind::Permissions => Vec::new(),
        PolicyKind::Trust => parse_principals(statement.get("Principal"))?,
    };
    let conditions = match statement.get("Condition") {
        Some(block) => condition::parse(block)?,
        None => Vec::new(),
    };

    Ok(Statement {
        is_allow,
        actions,
        resources,
        principals,
        conditions,
    })
}

fn check_fields(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    if object.keys().all(|key| known.contains(&key.as_str())) {
        Ok(())
    } else {
        Err("Syntax errors in policy.".into())
    }
}

/// `NAME` or `NotNAME`.
fn parse_patterns(statement: &Map<String, Value>, name: &str) -> Result<Option<Patterns>, String> {
    let negated_name = format!("Not{name}");
    let (is_negated, value) = match (statement.get(name), statement.get(&negated_name)) {
        (None, None) => return Ok(None),
        (Some(value), None) => (false, value),
        (None, Some(value)) => (true, value),
        (Some(_), Some(_)) => return Err("Syntax errors in policy.".into()),
    };

    let patterns = texts(value).filter(|patterns| !patterns.is_empty());
    Ok(Some(Patterns {
        is_negated,
        patterns: patterns.ok_or("Syntax errors in policy.")?,
    }))
}

/// Entries of services and of identity providers trust no caller here.
fn parse_principals(value: Option<&Value>) -> Result<Vec<String>, String> {
    match value {
        Some(Value::String(all)) if all == "*" => Ok(vec!["*".into()]),
        Some(Value::Object(kinds)) => {
            check_fields(kinds, &["AWS", "Service", "Federated"])?;
            let names = kinds.get("AWS").map_or(Some(Vec::new()), texts);
            Ok(names.ok_or("Invalid principal in policy")?)
        }
        _ => Err("Missing required field Principal".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn permissions(statements: &Value) -> Policy {
        let document = json!({ "Version": "2012-10-17", "Statement": statements });
        Policy::parse(&document.to_string(), PolicyKind::Permissions).unwrap()
    }

    fn decision(statements: &Value, action: &str, resource: &str) -> Decision {
        let context = Context::default();
        let request = Request {
            action,
            resource,
            context: &context,
        };
        decide([&permissions(statements)], &request)
    }

    #[test]
    fn deny_wins_and_implicit_deny_is_the_default() {
        let statements = json!([
            { "Effect": "Allow", "Action": "sts:*", "Resource": "*" },
            { "Effect": "Deny", "Action": "STS:AssumeRole", "Resource": "arn:aws:iam::1:role/x*" },
        ]);

        assert_eq!(
            decision(&statements, "sts:AssumeRole", "arn:aws:iam::1:role/y"),
            Decision::Allow
        );
        assert_eq!(
            decision(&statements, "sts:AssumeRole", "arn:aws:iam::1:role/x"),
            Decision::ExplicitDeny
        );
        assert_eq!(
            decision(&statements, "iam:GetRole", "*"),
            Decision::ImplicitDeny
        );
    }

    #[test]
    fn not_action_matches_all_other_actions() {
        let statement = json!({ "Effect": "Allow", "NotAction": "iam:*", "Resource": "*" });

        assert_eq!(
            decision(&statement, "sts:GetAccessKeyInfo", "*"),
            Decision::Allow
        );
        assert_eq!(
            decision(&statement, "iam:GetUser", "*"),
            Decision::ImplicitDeny
        );
    }

    #[test]
    fn trust_policy_distinguishes_account_principal_and_session() {
        let caller = PrincipalNames {
            account: "111122223333".into(),
            principal: "arn:aws:iam::111122223333:role/r".into(),
            session: Some("arn:aws:sts::111122223333:assumed-role/r/s".into()),
        };
        let table = [
            ("111122223333", Trust::Account),
            ("arn:aws:iam::111122223333:root", Trust::Account),
            ("arn:aws:iam::444455556666:root", Trust::None),
            ("arn:aws:iam::111122223333:role/r", Trust::Principal),
            ("arn:aws:sts::111122223333:assumed-role/r/s", Trust::Session),
            (
                "arn:aws:sts::111122223333:assumed-role/r/other",
                Trust::None,
            ),
        ];

        for (name, expected) in table {
            let document = json!({
                "Statement": {
                    "Effect": "Allow", "Principal": { "AWS": name }, "Action": "sts:AssumeRole",
                },
            });
            let policy = Policy::parse(&document.to_string(), PolicyKind::Trust).unwrap();
            let context = Context::default();
            let request = Request {
                action: "sts:AssumeRole",
                resource: "*",
                context: &context,
            };
            assert_eq!(policy.trust(&request, &caller), expected, "{name}");
        }
    }

    #[test]
    fn invalid_document_is_refused() {
        let documents = [
            "{",
            "[]",
            "{}",
            r#"{"Version":"2013-01-01","Statement":[]}"#,
            r#"{"Statement":{"Effect":"Maybe","Action":"*","Resource":"*"}}"#,
            r#"{"Statement":{"Effect":"Allow","Resource":"*"}}"#,
            r#"{"Statement":{"Effect":"Allow","Action":"*"}}"#,
            r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}"#,
        ];

        for document in documents {
            let error = Policy::parse(document, PolicyKind::Permissions).unwrap_err();
            assert_eq!(error.code, "MalformedPolicyDocument", "{document}");
        }
    }
}
