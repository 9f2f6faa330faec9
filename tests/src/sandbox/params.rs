//! Parameters (A3): from the path, the query or the JSON body, checked against the contract before a handler sees them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::form;

/// A method as its reference documents it.
#[derive(Debug, Deserialize)]
pub(super) struct Documented {
    pub(super) name: String,
    pub(super) verb: String,
    pub(super) params: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Parameter {
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

    /// A query's text as a value of this type; a text that is none stays a text, and does not fit.
    fn read(self, text: &str) -> Value {
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

/// A call's parameters, all known, of the right type, and none missing that is required.
#[derive(Debug)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    pub(super) fn read(
        documented: &Documented,
        path: &[(String, String)],
        query: &str,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let mut given: Map<String, Value> = if matches!(documented.verb.as_str(), "POST" | "PATCH")
        {
            no_query(query)?;
            read_body(body)?
        } else {
            read_query(documented, query)?
        };
        for (name, value) in path {
            if given.insert(name.clone(), value.as_str().into()).is_some() {
                return Err(ApiError::invalid(format!(
                    "{name}: it is given in the path already"
                )));
            }
        }
        check(documented, &given)?;
        Ok(Self(given))
    }

    /// A required text; the contract saw to it that it is there.
    pub(super) fn text(&self, name: &str) -> Result<&str, ApiError> {
        self.opt_text(name)
            .ok_or_else(|| ApiError::invalid(format!("{name}: it is required")))
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

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number too large saturates, and no limit allows it"
)]
pub(super) fn integer(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|number| number as i64))
}

fn check(documented: &Documented, given: &Map<String, Value>) -> Result<(), ApiError> {
    for parameter in &documented.params {
        match given.get(&parameter.name) {
            None if parameter.required => {
                return Err(ApiError::invalid(format!(
                    "{}: it is required",
                    parameter.name
                )));
            }
            Some(value) if !parameter.r#type.fits(value) => {
                let wanted = parameter.r#type.name();
                return Err(ApiError::invalid(format!(
                    "{}: it must be {wanted}",
                    parameter.name
                )));
            }
            Some(value) => {
                if let Some(why) = form::flaw(&documented.name, &parameter.name, value) {
                    return Err(ApiError::invalid(format!("{}: {why}", parameter.name)));
                }
            }
            None => {}
        }
    }
    match given
        .keys()
        .find(|name| documented.params.iter().all(|known| known.name != **name))
    {
        Some(unknown) => Err(ApiError::invalid(format!(
            "{unknown}: {} has no such parameter",
            documented.name
        ))),
        None => Ok(()),
    }
}

fn no_query(query: &str) -> Result<(), ApiError> {
    if query.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(
            "the parameters belong into the body, not the query",
        ))
    }
}

fn read_body(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("the body is not a JSON object: {error}")))
}

fn read_query(documented: &Documented, query: &str) -> Result<Map<String, Value>, ApiError> {
    let mut given = Map::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let known = documented
            .params
            .iter()
            .find(|parameter| parameter.name == name);
        let value = known.map_or_else(
            || Value::from(&*text),
            |parameter| parameter.r#type.read(&text),
        );
        if given.insert(name.to_string(), value).is_some() {
            return Err(ApiError::invalid(format!("{name}: it is given twice")));
        }
    }
    Ok(given)
}
