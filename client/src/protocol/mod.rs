//! The wire protocol: requests, replies and error codes. It is defined only here.
//!
//! A frame holds one JSON object: `{"v": 1, "request": …}` from the client, `{"v": 1, "reply": …}` from the daemon.
//! If the daemon cannot parse a request, its reply does not repeat it.

mod approval;
mod audit;
mod explanation;
mod failure;
mod login;
mod reply;
mod request;
mod session;
mod status;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use approval::*;
pub use audit::*;
pub use explanation::*;
pub use failure::*;
pub use login::*;
pub use reply::*;
pub use request::*;
pub use session::*;
pub use status::*;

/// The version of this protocol. It increases when an older peer would misread a newer one. New optional fields and new
/// error codes do not increase it.
pub const VERSION: u32 = 1;

/// The maximum number of profiles in one [`StatusPage`], so that a page with long messages fits a frame.
pub const STATUS_PAGE: usize = 10;

/// Whether a text is a valid name of a profile or an upstream: 1 to 64 letters, digits, `-`, `_` and `.`, where the first
/// is a letter or digit.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|each| each.is_ascii_alphanumeric() || "-_.".contains(each))
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFrame<'a> {
    pub v: u32,
    /// The configuration that the caller wants, if it wants a certain one. A daemon with another one refuses.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub config: Option<WantedConfig<'a>>,
    #[serde(borrow)]
    pub request: Request<'a>,
}

/// A configuration, and the environment variable that names it.
#[derive(Debug, Serialize, Deserialize)]
pub struct WantedConfig<'a> {
    #[serde(borrow)]
    pub path: Cow<'a, str>,
    #[serde(borrow)]
    pub variable: Cow<'a, str>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ReplyFrame<'a> {
    pub v: u32,
    #[serde(borrow)]
    pub reply: Reply<'a>,
}

/// The version of a frame, which is read first: the receiver can answer a frame of another version.
#[derive(Debug, Deserialize)]
pub struct Version {
    pub v: u32,
}
