//! The contract, the documented methods, the client's routes and the sandbox's routes have the same sixty methods.

use std::collections::{BTreeMap, BTreeSet};

use rolekeeper::contract::{self, Method};
use rolekeeper_tests::sandbox;
use rolekeeperd::upstream::bycloud;
use serde_json::Value;

fn contract() -> BTreeMap<String, Method> {
    contract::methods()
        .unwrap()
        .into_iter()
        .map(|method| (method.name.clone(), method))
        .collect()
}

#[test]
fn contract_matches_the_documented_methods() {
    let documented: Vec<Value> =
        serde_json::from_str(include_str!("../data/iam-methods.json")).unwrap();
    let contract = contract();
    assert_eq!((documented.len(), contract.len()), (60, 60));
    for method in &documented {
        let name = method["name"].as_str().unwrap();
        let ours = &contract[name];
        assert_eq!(ours.verb, method["verb"], "{name}");
        let theirs: BTreeSet<_> = method["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| {
                let text = |key: &str| each[key].as_str().unwrap().to_owned();
                (
                    text("name"),
                    text("type"),
                    each["required"].as_bool().unwrap(),
                )
            })
            .collect();
        let ours: BTreeSet<_> = ours
            .parameters
            .iter()
            .map(|each| {
                (
                    each.name.clone(),
                    each.kind.documented().to_owned(),
                    each.required,
                )
            })
            .collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn client_has_the_routes_of_the_contract() {
    let contract = contract();
    let routes: Vec<_> = bycloud::routes().collect();
    assert_eq!(routes.len(), 60);
    for route in routes {
        let method = &contract[route.name];
        assert_eq!(
            (route.verb.as_str(), format!("/iam/v1{}", route.path)),
            (method.verb.as_str(), method.path.clone()),
            "{}",
            route.name
        );
        let ours: BTreeSet<_> = route.parameters.iter().copied().collect();
        let theirs: BTreeSet<_> = method
            .parameters
            .iter()
            .map(|each| each.name.as_str())
            .collect();
        assert_eq!(ours, theirs, "{}", route.name);
    }
}

#[test]
fn sandbox_serves_the_paths_of_the_contract() {
    let contract = contract();
    let served: Vec<_> = sandbox::methods().collect();
    assert_eq!(served.len(), 60);
    for (name, verb, path) in served {
        let method = &contract[name];
        assert_eq!(
            (verb, &path),
            (method.verb.as_str(), &method.path),
            "{name}"
        );
    }
}

/// The SDK's reference does not document paths, replies, errors and restrictions of parameters. They are assumptions.
#[test]
fn assumptions_are_marked_in_the_contract() {
    let document: Value = serde_json::from_str(contract::OPENAPI).unwrap();

    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(is_assumed(item), "{path}");
        for operation in item
            .as_object()
            .unwrap()
            .values()
            .filter(|value| value.is_object())
        {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let schema = parameter["schema"].as_object().unwrap();
                let restricted = schema.keys().any(|key| key != "type" && key != "$ref");
                let documented = parameter["name"] == "duration_seconds";
                assert!(
                    !restricted || documented || schema.contains_key("x-assumed"),
                    "{path} {parameter}"
                );
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(
                    is_assumed(response) || response["$ref"].is_string(),
                    "{path} {status}"
                );
            }
            assert!(
                operation["requestBody"].is_null() || is_assumed(&operation["requestBody"]),
                "{path}"
            );
        }
    }
    for part in ["securitySchemes", "headers", "responses", "schemas"] {
        for (name, component) in document["components"][part].as_object().unwrap() {
            assert!(is_assumed(component), "{part} {name}");
        }
    }
}

fn is_assumed(value: &Value) -> bool {
    value["x-assumed"] == true
}
