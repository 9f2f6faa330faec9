//! Parameters (A3): from the path, the query or the JSON body, checked against the contract before
//! the handler runs.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::validation;

/// A method as the SDK's reference documents it.
#[derive(Debug, Deserialize)]
pub(super) struct MethodSpec {
    pub(super) name: String,
    pub(super) verb: String,
    pub(super) params: Vec<ParameterSpec>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ParameterSpec {
    name: String,
    r#type: Type,
    required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    String,
    Integer,
    Boolean,
    Object,
    Array,
}

impl Type {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            // JSON Schema: 3040.0 is an integer.
            Self::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array => value
                .as_array()
                .is_some_and(|items| items.iter().all(Value::is_string)),
        }
    }

    /// A text of a query as a value of this type. An invalid text remains a text, which
    /// [`Self::fits`] then rejects.
    fn parse(self, text: &str) -> Value {
        match self {
            Self::Integer => text
                .parse::<i64>()
                .map_or_else(|_| text.into(), Value::from),
            Self::Boolean => text
                .parse::<bool>()
                .map_or_else(|_| text.into(), Value::from),
            Self::String | Self::Object | Self::Array => text.into(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Boolean => "true or false",
            Self::Object => "an object",
            Self::Array => "an array of strings",
        }
    }
}

/// The parameters of a call: known, of the right types, and complete.
#[derive(Debug)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    pub(super) fn parse(
        spec: &MethodSpec,
        path: &[(String, String)],
        query: &str,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let has_body = matches!(spec.verb.as_str(), "POST" | "PATCH");
        let mut values = if has_body {
            reject_query(query)?;
            parse_body(body)?
        } else {
            parse_query(spec, query)?
        };

        for (name, value) in path {
            if values.insert(name.clone(), value.as_str().into()).is_some() {
                return Err(invalid(name, "it is already in the path"));
            }
        }

        check(spec, &values)?;
        Ok(Self(values))
    }

    /// A required text. The contract guarantees that it is present.
    pub(super) fn text(&self, name: &str) -> Result<&str, ApiError> {
        self.opt_text(name).ok_or_else(|| invalid(name, REQUIRED))
    }

    pub(super) fn opt_text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    pub(super) fn opt_int(&self, name: &str) -> Option<i64> {
        integer(self.0.get(name)?)
    }

    pub(super) fn opt_bool(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool()
    }

    pub(super) fn opt_value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

const REQUIRED: &str = "it is required";

fn invalid(name: &str, reason: &str) -> ApiError {
    ApiError::invalid(format!("{name}: {reason}"))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number too large saturates, and no limit allows it"
)]
pub(super) fn integer(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|number| number as i64))
}

fn check(spec: &MethodSpec, values: &Map<String, Value>) -> Result<(), ApiError> {
    for parameter in &spec.params {
        check_parameter(&spec.name, parameter, values.get(&parameter.name))?;
    }

    let unknown = values
        .keys()
        .find(|name| spec.params.iter().all(|known| known.name != **name));
    match unknown {
        Some(name) => Err(invalid(
            name,
            &format!("{} has no such parameter", spec.name),
        )),
        None => Ok(()),
    }
}

fn check_parameter(
    method: &str,
    parameter: &ParameterSpec,
    value: Option<&Value>,
) -> Result<(), ApiError> {
    let name = &parameter.name;
    let Some(value) = value else {
        return if parameter.required {
            Err(invalid(name, REQUIRED))
        } else {
            Ok(())
        };
    };

    if !parameter.r#type.fits(value) {
        let wanted = parameter.r#type.name();
        return Err(invalid(name, &format!("it must be {wanted}")));
    }
    validation::check(method, name, value).map_err(|reason| invalid(name, &reason))
}

fn reject_query(query: &str) -> Result<(), ApiError> {
    if query.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(
            "parameters belong in the body, not in the query",
        ))
    }
}

fn parse_body(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }

    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("the body is not a JSON object: {error}")))
}

fn parse_query(spec: &MethodSpec, query: &str) -> Result<Map<String, Value>, ApiError> {
    let mut values = Map::new();

    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let parameter = spec.params.iter().find(|parameter| parameter.name == name);
        let value = match parameter {
            Some(parameter) => parameter.r#type.parse(&text),
            None => Value::from(&*text),
        };
        if values.insert(name.to_string(), value).is_some() {
            return Err(invalid(&name, "it is given twice"));
        }
    }
    Ok(values)
}
