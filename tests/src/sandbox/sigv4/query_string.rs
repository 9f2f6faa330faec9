//! Query strings.

use super::canonical::percent_encode;
use crate::sandbox::error::ApiError;

/// The decoded parameters of a query, in their order.
#[derive(Debug)]
pub(in crate::sandbox) struct QueryString(pub(in crate::sandbox) Vec<(String, String)>);

impl QueryString {
    pub(in crate::sandbox) fn parse(query: &str) -> Self {
        Self::from_form(query.as_bytes())
    }

    /// A body in the form of a query.
    pub(in crate::sandbox) fn from_form(form: &[u8]) -> Self {
        Self(form_urlencoded::parse(form).into_owned().collect())
    }

    pub(in crate::sandbox) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The value of a parameter that may be present once at most.
    pub(in crate::sandbox) fn single(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());

        if values.next().is_some() {
            let message = format!("the query has {name} twice");
            return Err(ApiError::new(400, "InvalidArgument", message));
        }
        Ok(value)
    }

    /// Without the signature, which cannot sign itself.
    pub(super) fn canonical(&self) -> String {
        let mut pairs: Vec<_> = self
            .0
            .iter()
            .filter(|(name, _)| name != "X-Amz-Signature")
            .map(|(name, value)| (percent_encode(name), percent_encode(value)))
            .collect();
        pairs.sort_unstable();

        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("&")
    }
}
