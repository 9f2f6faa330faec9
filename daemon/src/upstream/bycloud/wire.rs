//! What the resources share: routes, ids, pages, open enumerations.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The verbs of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a call without a reply has changed nothing, so that it can be repeated.
    pub fn is_read(self) -> bool {
        self == Self::Get
    }
}

/// The path and the parameters of a method.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// As documented: `listRoles`.
    pub name: &'static str,
    pub verb: Verb,
    /// A2, with the path parameters in braces.
    pub path: &'static str,
    /// The documented names of all parameters.
    pub parameters: &'static [&'static str],
}

/// A request that knows its route and its reply. A field that is `None` is not sent.
pub trait Method: Serialize + Send + Sync {
    const ROUTE: Route;
    type Reply: DeserializeOwned + Send;
}

/// A list that comes in pages (A5).
pub trait Paged: Method<Reply = Page<Self::Item>> {
    type Item: DeserializeOwned + Send;
    fn set_marker(&mut self, marker: Marker);
}

/// A5. Lists that do not page have everything on the one page.
#[derive(Debug, Clone, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    #[serde(default = "Option::default")]
    pub next_marker: Option<Marker>,
}

/// Methods as the reference documents them: for each a request, a function of [`ByCloud`](super::ByCloud), and a row of
/// the resource's `ROUTES`.
macro_rules! methods {
    ($(
        $(#[$meta:meta])*
        $verb:ident $path:literal $name:literal
        $function:ident($request:ident { $($field:ident: $type:ty),* $(,)? }) -> $reply:ty;
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, serde::Serialize)]
            pub struct $request {
                $(pub $field: $type,)*
            }

            impl $crate::upstream::bycloud::Method for $request {
                const ROUTE: $crate::upstream::bycloud::Route = $crate::upstream::bycloud::Route {
                    name: $name,
                    verb: $crate::upstream::bycloud::Verb::$verb,
                    path: $path,
                    parameters: &[$(stringify!($field)),*],
                };
                type Reply = $reply;
            }
        )*

        impl $crate::upstream::bycloud::ByCloud {
            $(
                #[doc = concat!("`", $name, "`.")]
                pub async fn $function(&self, request: &$request) -> Result<$reply, $crate::upstream::bycloud::IamError> {
                    Ok(self.send(request).await?.value)
                }
            )*
        }

        pub(super) const ROUTES: &[$crate::upstream::bycloud::Route] =
            &[$(<$request as $crate::upstream::bycloud::Method>::ROUTE),*];
    };
}

/// The lists that come in pages, and their items.
macro_rules! paged {
    ($($request:ty => $item:ty),* $(,)?) => {
        $(
            impl $crate::upstream::bycloud::Paged for $request {
                type Item = $item;
                fn set_marker(&mut self, marker: $crate::upstream::bycloud::Marker) {
                    self.marker = Some(marker);
                }
            }
        )*
    };
}

/// The longest id and marker of a reply, in bytes. A reply with a longer one is not the documented reply.
const MAX_ID: usize = 128;

/// Ids, a type for each kind of resource.
macro_rules! ids {
    ($($(#[$meta:meta])* $id:ident),* $(,)?) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            #[serde(try_from = "String")]
            pub struct $id(String);

            impl TryFrom<String> for $id {
                type Error = &'static str;

                fn try_from(text: String) -> Result<Self, Self::Error> {
                    if text.len() > MAX_ID {
                        return Err("an id is too long");
                    }
                    Ok(Self(text))
                }
            }

            impl $id {
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }

            impl From<&str> for $id {
                fn from(text: &str) -> Self {
                    Self(text.into())
                }
            }

            impl fmt::Display for $id {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }
        )*
    };
}

ids! {
    AuditLogId,
    CredentialId,
    GroupId,
    InvitationId,
    /// The end of a page: the id of its last item.
    Marker,
    PolicyId,
    /// A user's or a service account's id.
    PrincipalId,
    RoleId,
    ServiceAccountId,
    SessionId,
    UserId,
}

/// An enumeration that the service may extend: an unknown word becomes `Other`.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($variant,)*
            Other(String),
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)*
                    _ => Self::Other(word),
                }
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().into()
            }
        }
    };
}

pub(super) use {methods, open_enum, paged};

open_enum! {
    /// The kinds of accounts that can call and assume roles.
    PrincipalType { User = "user", ServiceAccount = "service_account" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_enum_word_survives_a_round_trip() {
        for word in ["user", "service_account", "robot"] {
            let read: PrincipalType = serde_json::from_value(word.into()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), word);
        }
        assert_eq!(
            PrincipalType::from("robot".to_owned()),
            PrincipalType::Other("robot".into())
        );
    }

    #[test]
    fn id_longer_than_the_limit_is_no_reply() {
        for (length, is_id) in [(MAX_ID, true), (MAX_ID + 1, false)] {
            let page = serde_json::json!({ "items": ["x".repeat(length)] });
            let read = serde_json::from_value::<Page<SessionId>>(page);
            assert_eq!(read.is_ok(), is_id, "{length}");

            let page = serde_json::json!({ "items": [], "next_marker": "x".repeat(length) });
            let read = serde_json::from_value::<Page<SessionId>>(page);
            assert_eq!(read.is_ok(), is_id, "{length}");
        }
    }

    #[test]
    fn page_without_next_marker_is_the_last() {
        for text in [
            r#"{"items":[]}"#,
            r#"{"items":[],"next_marker":null,"total":7}"#,
        ] {
            assert!(
                serde_json::from_str::<Page<String>>(text)
                    .unwrap()
                    .next_marker
                    .is_none()
            );
        }
    }
}
