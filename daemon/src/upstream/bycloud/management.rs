//! All methods for `rolekeeper iam`.

use std::sync::LazyLock;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::{
    AssumeRole, ByCloud, CreateServiceAccountCredential, Method, RevokeStsSession, Route,
    audit_logs, groups, invitations, policies, roles, service_accounts, sts, users,
};
use crate::upstream::{ApiCaller, ApiMethod, ApiReply, CallError, CallErrorKind, ManagementApi};

static METHODS: LazyLock<Vec<ApiMethod>> = LazyLock::new(|| routes().map(method).collect());

/// The routes of all methods.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    [
        sts::ROUTES,
        roles::ROUTES,
        policies::ROUTES,
        service_accounts::ROUTES,
        users::ROUTES,
        groups::ROUTES,
        invitations::ROUTES,
        audit_logs::ROUTES,
    ]
    .into_iter()
    .flatten()
}

fn method(route: &'static Route) -> ApiMethod {
    let returns_credentials = [
        AssumeRole::ROUTE.name,
        CreateServiceAccountCredential::ROUTE.name,
    ];

    let is_revocation = route.name == RevokeStsSession::ROUTE.name;

    ApiMethod {
        name: route.name,
        changes: !route.verb.is_read(),
        returns_credentials: returns_credentials.contains(&route.name),
        revokes: is_revocation.then_some("session_id"),
    }
}

impl ManagementApi for ByCloud {
    fn methods(&self) -> &[ApiMethod] {
        &METHODS
    }

    fn call<'a>(
        &'a self,
        method: &'a ApiMethod,
        parameters: Map<String, Value>,
        caller: ApiCaller<'a>,
    ) -> BoxFuture<'a, Result<ApiReply, CallError>> {
        async move {
            let route = routes()
                .find(|route| route.name == method.name)
                .ok_or_else(|| unknown(method))?;
            let token = match caller {
                ApiCaller::Principal => None,
                ApiCaller::Session(session) => Some(&session.session_token),
            };

            match ByCloud::call(self, route, parameters, token).await {
                Ok(reply) => Ok(ApiReply {
                    body: reply.body,
                    request_id: reply.request_id,
                }),
                Err(error) => Err(error.to_call_error(route, token.is_some())),
            }
        }
        .boxed()
    }
}

fn unknown(method: &ApiMethod) -> CallError {
    CallError::new(
        CallErrorKind::Invalid,
        format!("ByCloud IAM has no method `{}`", method.name),
        "use a method of ByCloud IAM",
    )
}
