//! A pattern, a role's name and an organisation, a line each: is the pattern about the role?

use rolekeeper::protocol::is_name;
use rolekeeperd::upstream::bycloud::explain::{Decision, Document, Entity, decide};
use serde_json::json;

pub fn run(bytes: &[u8]) {
    let text = super::text(bytes);
    let mut lines = text.splitn(3, '\n');
    let [pattern, name, organization] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let crn = format!("crn:bycloud:iam:{organization}:role/{name}");
    let is_about = fits(pattern, &crn);
    assert_eq!(
        says(pattern, name, Some(organization)),
        if is_about { "yes" } else { "no" }
    );
    assert_eq!(says(&crn, name, Some(organization)), "yes");
    let beginning: String = crn.chars().take(pattern.len()).collect();
    assert_eq!(
        says(&format!("{beginning}*"), name, Some(organization)),
        "yes"
    );
    // What is said of a role whose organisation is not known is true of every organisation.
    match says(pattern, name, None).as_str() {
        _ if !is_name(organization) => {}
        "yes" => assert!(is_about),
        "no" => assert!(!is_about),
        "unknown" => {}
        condition => assert_eq!(fits(condition, organization), is_about, "{condition}"),
    }
}

fn says(pattern: &str, name: &str, organization: Option<&str>) -> String {
    let organization = organization.map(Into::into);
    let role = Entity {
        kind: "role",
        names: vec![name.into()],
        is_complete: true,
        organization,
    };
    let policy = json!({ "statements": [{ "effect": "allow", "resources": [pattern] }] });
    match decide(
        &[Document::parse("it", &policy, false).unwrap()],
        "sts:AssumeRole",
        &role,
    ) {
        Decision::Allowed(by) => by.organization.unwrap_or_else(|| "yes".into()),
        Decision::NotAllowed => "no".into(),
        Decision::Unknown(_) => "unknown".into(),
        Decision::Denied(by) => panic!("{by:?}"),
    }
}

/// Whether a text fits a pattern of `*` and `?`, by their definition and with no thought of speed.
fn fits(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Of each length: does a beginning of the text fit the beginning of the pattern so far?
    let mut fit: Vec<bool> = (0..=text.len()).map(|length| length == 0).collect();
    for each in pattern.chars() {
        let first = fit.iter().position(|fits| *fits);
        let grows = |length: usize| match each {
            '*' => first.is_some_and(|first| first <= length),
            _ => length > 0 && fit[length - 1] && (each == '?' || each == text[length - 1]),
        };
        fit = (0..=text.len()).map(grows).collect();
    }
    fit[text.len()]
}
