#![no_main]
//! A pattern, a role's name and an organisation, a line each: is the pattern about the role?

use libfuzzer_sys::fuzz_target;
use rolekeeper::protocol::is_name;
use rolekeeper_fuzz::fits;
use rolekeeperd::upstream::bycloud::explain::{Decision, Document, Entity, decide};
use serde_json::json;

fuzz_target!(|text: &str| {
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
});

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
