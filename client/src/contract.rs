//! The contract of ByCloud IAM: its 60 methods and their parameters, read from the OpenAPI description that goes with
//! this package. What the description marks with `x-assumed` is not documented by the cloud.

use serde_json::{Map, Value};

/// The description itself, OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("../contract/bycloud-iam.json");

/// A method, as its name, verb and parameters are documented.
#[derive(Debug, Clone)]
pub struct Method {
    /// `listRoles`
    pub name: String,
    /// `GET`, `POST`, `PATCH` or `DELETE`
    pub verb: String,
    /// With the path parameters in braces.
    pub path: String,
    /// What people look for it under: `Service accounts`.
    pub resource: String,
    /// What it does, in a line.
    pub summary: String,
    /// It takes something away that cannot be put back by the opposite call.
    pub destructive: bool,
    pub parameters: Vec<Parameter>,
    /// The dotted names of what must be kept secret in its reply.
    pub secrets: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Parameter {
    /// `role_id`
    pub name: String,
    pub place: Place,
    pub kind: Kind,
    pub required: bool,
    pub about: String,
    /// Bounds of a number.
    pub range: Option<(i64, i64)>,
    /// The words that are known to be understood.
    pub choices: Vec<String>,
    /// The value that makes the call destructive.
    pub destructive: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    /// A JSON object.
    Object,
    /// A list of texts.
    Texts,
}

impl Kind {
    /// As the documentation calls the type.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Texts => "array",
        }
    }
}

impl Method {
    /// `list-roles`, `list-sts-sessions`.
    pub fn kebab(&self) -> String {
        let letters: Vec<char> = self.name.chars().collect();
        let mut kebab = String::new();
        for (at, letter) in letters.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| letters.get(at)).is_some_and(|each| each.is_lowercase());
            let after = letters.get(at + 1).is_some_and(|each| each.is_lowercase());
            if letter.is_uppercase() && at > 0 && (before || after) {
                kebab.push('-');
            }
            kebab.extend(letter.to_lowercase());
        }
        kebab
    }

    /// Whether its list comes in pages.
    pub fn pages(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.name == "marker")
    }
}

/// The resources in the order of the description.
///
/// # Errors
/// When the description is not what this module reads; a test sees to it that it is.
pub fn methods() -> Result<Vec<Method>, String> {
    let document: Value = serde_json::from_str(OPENAPI).map_err(|error| error.to_string())?;
    let reader = Reader { document: &document };
    let mut methods = Vec::new();
    for (path, item) in object(&document["paths"])? {
        for (verb, operation) in object(item)?.iter().filter(|(_, value)| value["operationId"].is_string()) {
            methods.push(reader.method(path, verb, operation)?);
        }
    }
    let tags: Vec<&str> =
        document["tags"].as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str()).collect();
    methods.sort_by_key(|method| tags.iter().position(|tag| *tag == method.resource));
    Ok(methods)
}

struct Reader<'a> {
    document: &'a Value,
}

impl<'a> Reader<'a> {
    fn method(&self, path: &str, verb: &str, operation: &Value) -> Result<Method, String> {
        let mut parameters = Vec::new();
        for each in operation["parameters"].as_array().into_iter().flatten() {
            let place = if each["in"] == "path" { Place::Path } else { Place::Query };
            let name = text(&each["name"])?;
            parameters.push(self.parameter(
                &name,
                place,
                each["required"] == true,
                &each["description"],
                &each["schema"],
            )?);
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        for (name, schema) in body["properties"].as_object().into_iter().flatten() {
            let required = body["required"].as_array().is_some_and(|names| names.iter().any(|each| each == name));
            parameters.push(self.parameter(name, Place::Body, required, &schema["description"], schema)?);
        }
        let mut secrets = Vec::new();
        for (_, response) in object(&operation["responses"])? {
            self.secrets(&response["content"]["application/json"]["schema"], "", &mut secrets);
        }
        Ok(Method {
            name: text(&operation["operationId"])?,
            verb: verb.to_uppercase(),
            path: path.into(),
            resource: text(&operation["tags"][0])?,
            summary: text(&operation["summary"])?,
            destructive: operation["x-destructive"] == true,
            parameters,
            secrets,
        })
    }

    fn parameter(
        &self,
        name: &str,
        place: Place,
        required: bool,
        about: &Value,
        schema: &Value,
    ) -> Result<Parameter, String> {
        let resolved = self.resolve(schema);
        let kind = match resolved["type"].as_str() {
            Some("string") => Kind::Text,
            Some("integer") => Kind::Integer,
            Some("boolean") => Kind::Boolean,
            Some("object") => Kind::Object,
            Some("array") => Kind::Texts,
            other => return Err(format!("{name}: the type {other:?}")),
        };
        let words = resolved["enum"].as_array().into_iter().flatten();
        Ok(Parameter {
            name: name.into(),
            place,
            kind,
            required,
            about: text(about)?,
            range: resolved["minimum"].as_i64().zip(resolved["maximum"].as_i64()),
            choices: words.filter_map(|word| word.as_str().map(Into::into)).collect(),
            destructive: schema.get("x-destructive-value").cloned(),
        })
    }

    /// The component that a `$ref` names, or the schema itself.
    fn resolve<'v>(&self, schema: &'v Value) -> &'v Value
    where
        'a: 'v,
    {
        let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(schema)
    }

    fn secrets(&self, schema: &Value, prefix: &str, found: &mut Vec<String>) {
        for (name, property) in self.resolve(schema)["properties"].as_object().into_iter().flatten() {
            let path = format!("{prefix}{name}");
            if property["x-secret"] == true {
                found.push(path.clone());
            }
            self.secrets(property, &format!("{path}."), found);
        }
    }
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("not an object: {value}"))
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(Into::into).ok_or_else(|| format!("not a text: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_sixty_methods_each_with_a_line_of_help() {
        let methods = methods().unwrap();
        assert_eq!(methods.len(), 60);
        for method in &methods {
            assert!(!method.summary.is_empty() && method.summary.len() < 80, "{}", method.name);
            for parameter in &method.parameters {
                assert!(!parameter.about.is_empty());
                assert_eq!(parameter.place == Place::Path, method.path.contains(&format!("{{{}}}", parameter.name)));
            }
        }
    }

    #[test]
    fn names_are_spelled_with_hyphens_too() {
        let methods = methods().unwrap();
        let kebab = |name: &str| methods.iter().find(|method| method.name == name).unwrap().kebab();
        assert_eq!(kebab("listRoles"), "list-roles");
        assert_eq!(kebab("listSTSSessions"), "list-sts-sessions");
        assert_eq!(kebab("createServiceAccountCredential"), "create-service-account-credential");
    }

    #[test]
    fn secrets_and_destruction_are_marked() {
        let methods = methods().unwrap();
        let find = |name: &str| methods.iter().find(|method| method.name == name).unwrap();
        assert_eq!(find("assumeRole").secrets, ["credentials.secret_access_key", "credentials.session_token"]);
        assert_eq!(find("createServiceAccountCredential").secrets, ["secret"]);
        assert!(find("deleteRole").destructive && !find("createRole").destructive);
        assert!(methods.iter().all(|method| method.destructive == (method.verb == "DELETE")));
        let enabled = find("updateServiceAccount").parameters.iter().find(|each| each.name == "enabled").unwrap();
        assert_eq!(enabled.destructive, Some(Value::Bool(false)));
        assert_eq!(
            find("listRoles").parameters.iter().find(|each| each.name == "limit").unwrap().range,
            Some((1, 1000))
        );
    }
}
