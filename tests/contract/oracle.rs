//! The sandbox, the daemon's explanations and a simple oracle evaluate policies. They share no code, and must agree on every
//! generated case.

use rolekeeper_tests::sandbox;
use rolekeeperd::upstream::bycloud::explain::{Decision, Document, Entity, decide};
use serde_json::{Value, json};

/// The number of sets of documents, and of questions for each set.
const SETS: usize = 7_500;
const QUESTIONS: usize = 16;

/// By the definition: `*` matches any characters, and `?` one.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    let mut after = text.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = rest.as_str().trim_start_matches('*');
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|end| matches(rest, &text[end..]))
        }
        Some('?') => after.next().is_some() && matches(rest.as_str(), after.as_str()),
        Some(letter) => after.next() == Some(letter) && matches(rest.as_str(), after.as_str()),
    }
}

fn strings(statement: &Value, key: &str) -> Option<Vec<String>> {
    let strings = statement[key].as_array()?.iter();

    Some(
        strings
            .map(|each| each.as_str().unwrap().to_owned())
            .collect(),
    )
}

/// By the definition (A10), from the documents themselves.
fn oracle(documents: &[Value], about: &str, action: &str, names: &[String]) -> bool {
    let mut effects = Vec::new();
    for statement in documents
        .iter()
        .flat_map(|document| document["statements"].as_array().unwrap())
    {
        let has_action = strings(statement, "actions")
            .is_none_or(|all| all.iter().any(|pattern| matches(pattern, action)));
        let has_name = strings(statement, about).is_none_or(|all| {
            all.iter()
                .any(|pattern| names.iter().any(|name| matches(pattern, name)))
        });
        if has_action && has_name {
            effects.push(statement["effect"].as_str().unwrap().to_owned());
        }
    }

    effects.iter().any(|effect| effect == "allow") && effects.iter().all(|effect| effect != "deny")
}

struct Generator(fastrand::Rng);

impl Generator {
    fn one<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.0.usize(..words.len())]
    }

    fn action(&mut self) -> String {
        let verb = self.one(&["AssumeRole", "GetRole", "ListRoles", "DeleteRole"]);
        format!("{}:{verb}", self.one(&["sts", "iam"]))
    }

    fn name(&mut self) -> String {
        let letters: Vec<char> = "abS3é-".chars().collect();
        (0..self.0.usize(1..5))
            .map(|_| letters[self.0.usize(..letters.len())])
            .collect()
    }

    /// An entity's kind, its names, and their CRNs.
    fn entity(&mut self) -> (&'static str, Vec<String>, Vec<String>) {
        let kind = self.one(&["role", "user", "service-account"]);
        let names: Vec<_> = (0..self.0.usize(1..4)).map(|_| self.name()).collect();
        let crns = names
            .iter()
            .map(|name| format!("crn:bycloud:iam:org:{kind}/{name}"))
            .collect();
        (kind, names, crns)
    }

    /// A text with some parts replaced by wildcards, and sometimes by a wrong letter.
    fn with_wildcards(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..self.0.usize(..4) {
            let start = self.0.usize(..=letters.len());
            let end = (start + self.0.usize(..=8)).min(letters.len());
            let wildcard = self.one(&["*", "?", "**", "x"]).chars().collect::<Vec<_>>();
            let end = if wildcard == ['?'] {
                (start + 1).min(letters.len())
            } else {
                end
            };
            letters.splice(start..end, wildcard);
        }
        if letters.is_empty() {
            "*".into()
        } else {
            letters.into_iter().collect()
        }
    }

    fn patterns(&mut self, of: impl Fn(&mut Self) -> String) -> Vec<String> {
        let mut patterns = Vec::new();
        for _ in 0..self.0.usize(1..4) {
            let text = of(self);
            patterns.push(if self.0.f32() < 0.1 {
                "*".into()
            } else {
                self.with_wildcards(&text)
            });
        }
        patterns
    }

    fn document(&mut self, about: &str, crns: &[String]) -> Value {
        let statements: Vec<_> = (0..self.0.usize(1..4))
            .map(|_| {
                let effect = self.one(&["allow", "allow", "deny"]);
                let mut statement = json!({ "effect": effect });
                if about == "resources" || self.0.bool() {
                    statement["actions"] = self.patterns(Self::action).into();
                }
                if about == "principals" || self.0.bool() {
                    statement[about] = self
                        .patterns(|own| crns[own.0.usize(..crns.len())].clone())
                        .into();
                }
                statement
            })
            .collect();
        json!({ "version": "2024-01-01", "statements": statements })
    }
}

#[test]
fn sandbox_and_daemon_decide_like_the_oracle() {
    let mut generator = Generator(fastrand::Rng::with_seed(20_261_123));
    let mut cases = 0;
    let mut allowed = 0;
    for set in 0..SETS {
        let is_trust = set % 3 == 0;
        let about = if is_trust { "principals" } else { "resources" };
        let entities: Vec<_> = (0..QUESTIONS).map(|_| generator.entity()).collect();
        let crns: Vec<String> = entities
            .iter()
            .flat_map(|(_, _, crns)| crns.clone())
            .collect();
        // A role has one trust policy.
        let count = if is_trust { 1 } else { generator.0.usize(1..4) };
        let documents: Vec<_> = (0..count)
            .map(|_| generator.document(about, &crns))
            .collect();
        let sandbox = sandbox::evaluator(&documents, is_trust).unwrap();
        let daemon: Vec<_> = documents
            .iter()
            .map(|document| Document::parse("it", document, is_trust).unwrap())
            .collect();
        for (kind, names, crns) in &entities {
            let action = if is_trust {
                "sts:AssumeRole".into()
            } else {
                generator.action()
            };
            let want = oracle(&documents, about, &action, crns);
            let shown =
                || json!({ "documents": documents, "action": action, "names": crns, "want": want });
            assert_eq!(sandbox(&action, crns), want, "the sandbox: {}", shown());
            let named = Entity {
                kind,
                names: names.clone(),
                is_complete: true,
                organization: Some("org".into()),
            };
            let decision = decide(&daemon, &action, &named);
            assert_eq!(
                matches!(decision, Decision::Allowed(_)),
                want,
                "the daemon: {}",
                shown()
            );
            assert!(
                !matches!(decision, Decision::Unknown(_)),
                "the policy is complete: {}",
                shown()
            );
            cases += 1;
            allowed += usize::from(want);
        }
    }
    assert!(cases >= 100_000, "{cases}");
    // Both answers occur often enough to show a difference.
    assert!(
        (cases / 5..cases * 4 / 5).contains(&allowed),
        "{allowed} of {cases}"
    );
}
