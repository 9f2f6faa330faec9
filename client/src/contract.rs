//! The contract of ByCloud IAM: its 60 methods and their parameters, from the OpenAPI document of this package. The
//! cloud does not document the parts marked `x-assumed`.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The document, OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("../contract/bycloud-iam.json");

/// A documented method.
#[derive(Debug, Clone)]
pub struct Method {
    /// `listRoles`
    pub name: String,
    /// `GET`, `POST`, `PATCH` or `DELETE`
    pub verb: String,
    /// With the path parameters in braces.
    pub path: String,
    /// The kind of resource: `Service accounts`.
    pub resource: String,
    /// One line of help.
    pub summary: String,
    /// It deletes or disables a resource.
    pub destructive: bool,
    pub parameters: Vec<Parameter>,
    /// The secret fields of its reply, as dotted names.
    pub secrets: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Parameter {
    /// `role_id`
    pub name: String,
    pub location: Location,
    pub kind: Kind,
    pub required: bool,
    pub description: String,
    /// The minimum and maximum of a number.
    pub range: Option<(i64, i64)>,
    /// The documented values.
    pub choices: Vec<String>,
    /// The value that makes the call destructive.
    pub destructive: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
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
    /// A list of strings.
    List,
}

impl Kind {
    /// The type's name in the documentation.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::List => "array",
        }
    }
}

impl Method {
    /// `list-roles`, `list-sts-sessions`.
    pub fn kebab(&self) -> String {
        let letters: Vec<char> = self.name.chars().collect();
        let mut kebab = String::new();
        for (at, letter) in letters.iter().enumerate() {
            let before = at
                .checked_sub(1)
                .and_then(|at| letters.get(at))
                .is_some_and(|each| each.is_lowercase());
            let after = letters.get(at + 1).is_some_and(|each| each.is_lowercase());
            if letter.is_uppercase() && at > 0 && (before || after) {
                kebab.push('-');
            }
            kebab.extend(letter.to_lowercase());
        }

        kebab
    }

    /// Whether it returns a list in pages.
    pub fn is_paginated(&self) -> bool {
        self.parameters
            .iter()
            .any(|parameter| parameter.name == "marker")
    }
}

/// The methods by resource, in the order of the document.
///
/// # Errors
/// If the document cannot be parsed.
pub fn methods() -> Result<Vec<Method>, String> {
    let document: Document = serde_json::from_str(OPENAPI).map_err(|error| error.to_string())?;
    let mut methods = Vec::new();
    for (path, item) in &document.paths {
        let item = PathItem::deserialize(item).map_err(|error| format!("{path}: {error}"))?;
        let verbs = [
            ("GET", item.get),
            ("POST", item.post),
            ("PATCH", item.patch),
            ("DELETE", item.delete),
        ];
        for (verb, operation) in verbs {
            methods.extend(
                operation
                    .map(|operation| document.method(path, verb, operation))
                    .transpose()?,
            );
        }
    }

    methods.sort_by_key(|method| {
        document
            .tags
            .iter()
            .position(|tag| tag.name == method.resource)
    });

    Ok(methods)
}

/// The parts of OpenAPI that this module reads. Maps keep their order.
#[derive(Deserialize)]
struct Document {
    tags: Vec<Tag>,
    paths: Map<String, Value>,
    components: Components,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

#[derive(Deserialize)]
struct Components {
    schemas: Map<String, Value>,
}

#[derive(Deserialize)]
struct PathItem {
    get: Option<Operation>,
    post: Option<Operation>,
    patch: Option<Operation>,
    delete: Option<Operation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    operation_id: String,
    tags: Vec<String>,
    summary: String,
    #[serde(rename = "x-destructive", default)]
    destructive: bool,
    #[serde(default)]
    parameters: Vec<OpenApiParameter>,
    request_body: Option<Body>,
    responses: Map<String, Value>,
}

#[derive(Deserialize)]
struct OpenApiParameter {
    name: String,
    r#in: Location,
    #[serde(default)]
    required: bool,
    description: String,
    schema: Schema,
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    content: Content,
}

#[derive(Deserialize, Default)]
struct Content {
    #[serde(rename = "application/json", default)]
    json: Media,
}

#[derive(Deserialize, Default)]
struct Media {
    schema: Schema,
}

#[derive(Deserialize, Default)]
struct Schema {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    /// One type, or several.
    r#type: Option<Value>,
    description: Option<String>,
    minimum: Option<i64>,
    maximum: Option<i64>,
    #[serde(default)]
    r#enum: Vec<Value>,
    #[serde(default)]
    properties: Map<String, Value>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(rename = "x-secret", default)]
    secret: bool,
    #[serde(rename = "x-destructive-value")]
    destructive_value: Option<Value>,
}

impl Document {
    fn method(&self, path: &str, verb: &str, operation: Operation) -> Result<Method, String> {
        let name = operation.operation_id;
        let mut parameters = Vec::new();
        for OpenApiParameter {
            name,
            r#in: location,
            required,
            description,
            schema,
        } in operation.parameters
        {
            parameters.push(self.parameter(name, location, required, description, schema)?);
        }

        let body = operation
            .request_body
            .unwrap_or_default()
            .content
            .json
            .schema;
        for (name, schema) in &body.properties {
            let mut schema = read(schema)?;
            let description = schema.description.take().unwrap_or_default();
            parameters.push(self.parameter(
                name.clone(),
                Location::Body,
                body.required.contains(name),
                description,
                schema,
            )?);
        }

        let mut secrets = Vec::new();
        for response in operation.responses.values() {
            let Body { content } =
                Body::deserialize(response).map_err(|error| error.to_string())?;
            self.secrets(&self.resolve(content.json.schema)?, "", &mut secrets)?;
        }

        Ok(Method {
            name,
            verb: verb.into(),
            path: path.into(),
            resource: operation.tags.concat(),
            summary: operation.summary,
            destructive: operation.destructive,
            parameters,
            secrets,
        })
    }

    fn parameter(
        &self,
        name: String,
        location: Location,
        required: bool,
        description: String,
        schema: Schema,
    ) -> Result<Parameter, String> {
        let destructive = schema.destructive_value.clone();
        let schema = self.resolve(schema)?;
        let kind = match schema.r#type.as_ref().and_then(Value::as_str) {
            Some("string") => Kind::Text,
            Some("integer") => Kind::Integer,
            Some("boolean") => Kind::Boolean,
            Some("object") => Kind::Object,
            Some("array") => Kind::List,
            other => return Err(format!("{name}: unsupported type {other:?}")),
        };

        Ok(Parameter {
            name,
            location,
            kind,
            required,
            description,
            range: schema.minimum.zip(schema.maximum),
            choices: schema
                .r#enum
                .iter()
                .filter_map(|word| word.as_str().map(Into::into))
                .collect(),
            destructive,
        })
    }

    /// The component that a `$ref` names, or the schema itself.
    fn resolve(&self, schema: Schema) -> Result<Schema, String> {
        let Some(reference) = &schema.reference else {
            return Ok(schema);
        };
        let name = reference.strip_prefix("#/components/schemas/");
        let component = name.and_then(|name| self.components.schemas.get(name));
        read(component.ok_or_else(|| format!("unresolved reference {reference}"))?)
    }

    /// Appends the dotted names of a schema's secret fields.
    fn secrets(
        &self,
        schema: &Schema,
        prefix: &str,
        found: &mut Vec<String>,
    ) -> Result<(), String> {
        for (name, property) in &schema.properties {
            let path = format!("{prefix}{name}");
            let property = self.resolve(read(property)?)?;

            if property.secret {
                found.push(path.clone());
            }
            self.secrets(&property, &format!("{path}."), found)?;
        }

        Ok(())
    }
}

fn read(schema: &Value) -> Result<Schema, String> {
    Schema::deserialize(schema).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_has_sixty_methods_with_one_line_of_help() {
        let methods = methods().unwrap();
        assert_eq!(methods.len(), 60);
        for method in &methods {
            assert!(
                !method.summary.is_empty() && method.summary.len() < 80,
                "{}",
                method.name
            );
            for parameter in &method.parameters {
                assert!(!parameter.description.is_empty());
                assert_eq!(
                    parameter.location == Location::Path,
                    method.path.contains(&format!("{{{}}}", parameter.name))
                );
            }
        }
    }

    #[test]
    fn method_names_have_a_kebab_case_form() {
        let methods = methods().unwrap();
        let kebab = |name: &str| {
            methods
                .iter()
                .find(|method| method.name == name)
                .unwrap()
                .kebab()
        };
        assert_eq!(kebab("listRoles"), "list-roles");
        assert_eq!(kebab("listSTSSessions"), "list-sts-sessions");
        assert_eq!(
            kebab("createServiceAccountCredential"),
            "create-service-account-credential"
        );
    }

    #[test]
    fn secret_fields_and_destructive_methods_are_marked() {
        let methods = methods().unwrap();
        let find = |name: &str| methods.iter().find(|method| method.name == name).unwrap();
        assert_eq!(
            find("assumeRole").secrets,
            ["credentials.secret_access_key", "credentials.session_token"]
        );
        assert_eq!(find("createServiceAccountCredential").secrets, ["secret"]);
        assert!(find("deleteRole").destructive && !find("createRole").destructive);
        assert!(
            methods
                .iter()
                .all(|method| method.destructive == (method.verb == "DELETE"))
        );
        let enabled = find("updateServiceAccount")
            .parameters
            .iter()
            .find(|each| each.name == "enabled")
            .unwrap();
        assert_eq!(enabled.destructive, Some(Value::Bool(false)));
        assert_eq!(
            find("listRoles")
                .parameters
                .iter()
                .find(|each| each.name == "limit")
                .unwrap()
                .range,
            Some((1, 1000))
        );
    }
}
