//! A pattern, a role's name and an organisation, one on each line: does the pattern match the role?

use rolekeeper::protocol::is_name;
use rolekeeperd::upstream::bycloud::explain::{Decision, Document, Entity, decide};
use serde_json::json;

pub fn run(bytes: &[u8]) {
    let text = super::text(bytes);
    let mut lines = text.splitn(3, '\n');
    let [pattern, name, organization] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let crn = format!("crn:bycloud:iam:{organization}:role/{name}");
    let does_match = matches(pattern, &crn);
    assert_eq!(
        decision(pattern, name, Some(organization)),
        if does_match { "yes" } else { "no" }
    );
    assert_eq!(decision(&crn, name, Some(organization)), "yes");
    let prefix: String = crn.chars().take(pattern.len()).collect();
    assert_eq!(
        decision(&format!("{prefix}*"), name, Some(organization)),
        "yes"
    );
    // A decision without the organisation holds for every organisation.
    match decision(pattern, name, None).as_str() {
        _ if !is_name(organization) => {}
        "yes" => assert!(does_match),
        "no" => assert!(!does_match),
        "unknown" => {}
        condition => assert_eq!(matches(condition, organization), does_match, "{condition}"),
    }
}

fn decision(pattern: &str, name: &str, organization: Option<&str>) -> String {
    let organization = organization.map(Into::into);
    let role = Entity {
        kind: "role",
        names: vec![name.into()],
        is_complete: true,
        organization,
    };
    let policy = json!({ "statements": [{ "effect": "allow", "resources": [pattern] }] });
    match decide(
        &[Document::parse("a policy", &policy, false).unwrap()],
        "sts:AssumeRole",
        &role,
    ) {
        Decision::Allowed(by) => by.organization.unwrap_or_else(|| "yes".into()),
        Decision::NotAllowed => "no".into(),
        Decision::Unknown(_) => "unknown".into(),
        Decision::Denied(by) => panic!("{by:?}"),
    }
}

/// Whether a text matches a pattern with `*` and `?`, by their definition.
fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // For each length: does this prefix of the text match the pattern so far?
    let mut matched: Vec<bool> = (0..=text.len()).map(|length| length == 0).collect();
    for each in pattern.chars() {
        let first = matched.iter().position(|matched| *matched);
        let extends = |length: usize| match each {
            '*' => first.is_some_and(|first| first <= length),
            _ => length > 0 && matched[length - 1] && (each == '?' || each == text[length - 1]),
        };
        matched = (0..=text.len()).map(extends).collect();
    }
    matched[text.len()]
}
