//! ByCloud IAM. What its reference does not say is assumed as A1 to A15 of the contract, and stands only in here.

mod http;
mod sts;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Granted, Upstream, UpstreamError};
use crate::config::{Endpoint, RoleRequest, TokenSource};

pub use http::SetupError;

/// A client for one principal at one endpoint.
#[derive(Debug)]
pub struct ByCloud {
    http: reqwest::Client,
    endpoint: Endpoint,
    token: TokenSource,
}

impl ByCloud {
    pub fn new(endpoint: Endpoint, token: TokenSource) -> Result<Self, SetupError> {
        Ok(Self { http: http::client(&endpoint)?, endpoint, token })
    }
}

impl Upstream for ByCloud {
    fn assume<'a>(&'a self, role: &'a RoleRequest) -> BoxFuture<'a, Result<Granted, UpstreamError>> {
        self.assume_role(role).boxed()
    }
}
