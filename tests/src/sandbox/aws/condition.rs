//! Conditions of policy statements.

use jiff::Timestamp;
use serde_json::Value;

use super::context::Context;
use crate::sandbox::crn::matches;

/// One operator on one key. It holds if any of its values matches; a negated operator, if none does.
#[derive(Debug)]
pub(super) struct Condition {
    set: Set,
    operator: Operator,
    /// An absent key meets the condition.
    if_exists: bool,
    key: String,
    values: Vec<String>,
}

/// How an operator applies to a key with several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Single,
    ForAnyValue,
    ForAllValues,
}

#[derive(Debug, Clone, Copy)]
enum Operator {
    Null,
    Compare {
        is_negated: bool,
        comparison: Comparison,
    },
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equals,
    EqualsIgnoreCase,
    Like,
    Numeric(Order),
    Date(Order),
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

/// The `Condition` block of a statement. The error is the operator or key that is not supported.
pub(super) fn parse(block: &Value) -> Result<Vec<Condition>, String> {
    let operators = block.as_object().ok_or("Condition is not an object")?;
    let mut conditions = Vec::new();

    for (name, keys) in operators {
        let (set, operator, if_exists) =
            parse_operator(name).ok_or_else(|| format!("Invalid Condition type : {name}"))?;
        let keys = keys
            .as_object()
            .ok_or_else(|| format!("{name} is not an object"))?;
        for (key, values) in keys {
            conditions.push(Condition {
                set,
                operator,
                if_exists,
                key: key.clone(),
                values: texts(values).ok_or_else(|| format!("invalid value of {key}"))?,
            });
        }
    }
    Ok(conditions)
}

/// A text or a list of texts. Numbers and booleans count as texts.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        single => text(single).map(|text| vec![text]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn parse_operator(name: &str) -> Option<(Set, Operator, bool)> {
    let (set, name) = match name.split_once(':') {
        None => (Set::Single, name),
        Some(("ForAnyValue", name)) => (Set::ForAnyValue, name),
        Some(("ForAllValues", name)) => (Set::ForAllValues, name),
        Some(_) => return None,
    };
    let (name, if_exists) = match name.strip_suffix("IfExists") {
        Some(name) => (name, true),
        None => (name, false),
    };

    if name == "Null" {
        return Some((set, Operator::Null, false));
    }
    let (is_negated, comparison) = parse_comparison(name)?;
    let operator = Operator::Compare {
        is_negated,
        comparison,
    };
    Some((set, operator, if_exists))
}

fn parse_comparison(name: &str) -> Option<(bool, Comparison)> {
    Some(match name {
        "StringEquals" => (false, Comparison::Equals),
        "StringNotEquals" => (true, Comparison::Equals),
        "StringEqualsIgnoreCase" | "Bool" => (false, Comparison::EqualsIgnoreCase),
        "StringNotEqualsIgnoreCase" => (true, Comparison::EqualsIgnoreCase),
        // For ARNs, both operators accept wildcards.
        "StringLike" | "ArnLike" | "ArnEquals" => (false, Comparison::Like),
        "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (true, Comparison::Like),
        "NumericNotEquals" => (true, Comparison::Numeric(Order::Equal)),
        "DateNotEquals" => (true, Comparison::Date(Order::Equal)),
        _ => {
            if let Some(order) = name.strip_prefix("Numeric") {
                (false, Comparison::Numeric(parse_order(order)?))
            } else {
                let order = name.strip_prefix("Date")?;
                (false, Comparison::Date(parse_order(order)?))
            }
        }
    })
}

fn parse_order(name: &str) -> Option<Order> {
    Some(match name {
        "Equals" => Order::Equal,
        "LessThan" => Order::Less,
        "LessThanEquals" => Order::LessOrEqual,
        "GreaterThan" => Order::Greater,
        "GreaterThanEquals" => Order::GreaterOrEqual,
        _ => return None,
    })
}

impl Condition {
    pub(super) fn holds(&self, context: &Context) -> bool {
        let actual = context.get(&self.key);

        match (self.operator, actual) {
            (Operator::Null, actual) => {
                let is_absent = actual.is_none();
                self.values
                    .iter()
                    .any(|value| *value == is_absent.to_string())
            }
            (Operator::Compare { is_negated, .. }, None) => {
                // A negated operator holds for an absent key.
                self.if_exists || is_negated || self.set == Set::ForAllValues
            }
            (
                Operator::Compare {
                    is_negated,
                    comparison,
                },
                Some(actual),
            ) => {
                let holds = |actual: &String| {
                    let any = self
                        .values
                        .iter()
                        .any(|value| compare(comparison, actual, value));
                    any != is_negated
                };
                match self.set {
                    Set::Single | Set::ForAnyValue => actual.iter().any(holds),
                    Set::ForAllValues => actual.iter().all(holds),
                }
            }
        }
    }
}

fn compare(comparison: Comparison, actual: &str, value: &str) -> bool {
    match comparison {
        Comparison::Equals => actual == value,
        Comparison::EqualsIgnoreCase => actual.eq_ignore_ascii_case(value),
        Comparison::Like => matches(value, actual),
        Comparison::Numeric(order) => {
            let numbers = actual.parse::<f64>().ok().zip(value.parse::<f64>().ok());
            numbers.is_some_and(|(actual, value)| order.holds(&actual, &value))
        }
        Comparison::Date(order) => {
            let times = parse_time(actual).zip(parse_time(value));
            times.is_some_and(|(actual, value)| order.holds(&actual, &value))
        }
    }
}

/// RFC 3339, or seconds since 1970.
fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let seconds = text.parse().ok()?;
        Timestamp::from_second(seconds).ok()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(block: &Value) -> bool {
        let mut context = Context::default();
        context.set("sts:ExternalId", "x-1");
        context.set("aws:MultiFactorAuthAge", "90");
        context.set("aws:TokenIssueTime", "2026-01-01T00:00:00.500Z");
        context.set_all("aws:TagKeys", vec!["team".into(), "cost".into()]);

        let conditions = parse(block).unwrap();
        conditions.iter().all(|condition| condition.holds(&context))
    }

    #[test]
    fn operators_compare_the_value_of_a_key() {
        let table = [
            (
                json!({ "StringEquals": { "sts:externalid": ["x-0", "x-1"] } }),
                true,
            ),
            (
                json!({ "StringEquals": { "sts:ExternalId": "X-1" } }),
                false,
            ),
            (
                json!({ "StringEqualsIgnoreCase": { "sts:ExternalId": "X-1" } }),
                true,
            ),
            (
                json!({ "StringNotEquals": { "sts:ExternalId": ["x-0", "x-1"] } }),
                false,
            ),
            (json!({ "StringLike": { "sts:ExternalId": "x-*" } }), true),
            (
                json!({ "NumericLessThan": { "aws:MultiFactorAuthAge": 100 } }),
                true,
            ),
            (
                json!({ "NumericGreaterThanEquals": { "aws:MultiFactorAuthAge": "91" } }),
                false,
            ),
            (
                json!({ "DateLessThan": { "aws:TokenIssueTime": "2026-01-01T00:00:01Z" } }),
                true,
            ),
            (
                json!({ "DateLessThan": { "aws:TokenIssueTime": "2026-01-01T00:00:00Z" } }),
                false,
            ),
        ];

        for (block, expected) in table {
            assert_eq!(holds(&block), expected, "{block}");
        }
    }

    #[test]
    fn absent_key_meets_negated_and_if_exists_operators_only() {
        let table = [
            (
                json!({ "Bool": { "aws:MultiFactorAuthPresent": "true" } }),
                false,
            ),
            (
                json!({ "BoolIfExists": { "aws:MultiFactorAuthPresent": "true" } }),
                true,
            ),
            (
                json!({ "StringNotEquals": { "aws:PrincipalTag/team": "core" } }),
                true,
            ),
            (json!({ "Null": { "aws:MultiFactorAuthAge": true } }), false),
            (
                json!({ "Null": { "aws:MultiFactorAuthPresent": "true" } }),
                true,
            ),
        ];

        for (block, expected) in table {
            assert_eq!(holds(&block), expected, "{block}");
        }
    }

    #[test]
    fn set_operators_compare_any_or_all_values() {
        let table = [
            (
                json!({ "ForAnyValue:StringEquals": { "aws:TagKeys": "team" } }),
                true,
            ),
            (
                json!({ "ForAllValues:StringEquals": { "aws:TagKeys": "team" } }),
                false,
            ),
            (
                json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["team", "cost", "x"] } }),
                true,
            ),
        ];

        for (block, expected) in table {
            assert_eq!(holds(&block), expected, "{block}");
        }
    }

    #[test]
    fn unknown_operator_is_refused() {
        for name in [
            "StringIs",
            "Sometimes:StringEquals",
            "NumericLess",
            "Binary",
        ] {
            assert!(parse(&json!({ name: { "k": "v" } })).is_err(), "{name}");
        }
    }
}
