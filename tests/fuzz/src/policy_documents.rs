//! A policy document: the deciding statement is in it, and a denial wins in any order.

use rolekeeperd::upstream::bycloud::explain::{Decision, Document, Entity, decide};
use serde_json::{Value, json};

pub fn run(bytes: &[u8]) {
    let Ok(text) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    for (is_trust, is_complete) in [(false, false), (false, true), (true, false), (true, true)] {
        let read = |text: &Value| Document::parse("a policy", text, is_trust);
        let Ok(document) = read(&text) else { continue };
        let about = if is_trust { "principals" } else { "resources" };
        let every = |effect: &str| {
            read(&json!({ "statements": [{ "effect": effect, about: ["*"] }] })).unwrap()
        };
        let role = Entity {
            kind: "role",
            names: vec!["id-1".into(), "S3".into()],
            is_complete,
            organization: None,
        };
        let decide = |documents: [&Document; 2]| decision(&documents.map(Document::clone), &role);
        let (effect, by) = decide([&document, &document]);
        assert!(
            by.is_none_or(|(number, by)| by == text["statements"][number - 1]),
            "{effect}"
        );
        assert_eq!(decide([&document, &every("deny")]).0, "deny");
        assert_eq!(decide([&every("deny"), &document]).0, "deny");
        let opened = decide([&every("allow"), &document]).0;
        assert_eq!(opened == "deny", effect == "deny");
        assert!(
            opened != "nothing" && (effect != "allow" || opened == "allow"),
            "{effect}, {opened}"
        );
    }
}

/// The effect, and the number and text of the deciding statement.
fn decision(documents: &[Document], role: &Entity) -> (&'static str, Option<(usize, Value)>) {
    let (effect, by) = match decide(documents, "sts:AssumeRole", role) {
        Decision::Allowed(by) => ("allow", by),
        Decision::Denied(by) => ("deny", by),
        Decision::Unknown(by) => return ("unknown", Some((by.number, by.text.clone()))),
        Decision::NotAllowed => return ("nothing", None),
    };
    assert_eq!(by.text["effect"], effect);
    (effect, Some((by.number, by.text.clone())))
}
