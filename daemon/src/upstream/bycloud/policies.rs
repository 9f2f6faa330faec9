//! Policies. Their documents are unparsed JSON here: the explainer parses them.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::wire::{methods, paged};
use super::{Group, Marker, Page, PolicyId, Role, ServiceAccount, User};

#[derive(Debug, Clone, Deserialize)]
pub struct Policy {
    pub id: PolicyId,
    pub name: String,
    pub description: Option<String>,
    pub document: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

methods! {
    #[derive(Default)]
    Get "/policies" "listPolicies" list_policies(ListPolicies {
        limit: Option<u32>,
        marker: Option<Marker>,
        name: Option<String>,
    }) -> Page<Policy>;
    Post "/policies" "createPolicy" create_policy(CreatePolicy {
        name: String,
        description: Option<String>,
        document: Value,
    }) -> Policy;
    Get "/policies/{policy_id}" "getPolicy" get_policy(GetPolicy { policy_id: PolicyId }) -> Policy;
    Patch "/policies/{policy_id}" "updatePolicy" update_policy(UpdatePolicy {
        policy_id: PolicyId,
        name: Option<String>,
        description: Option<String>,
        document: Option<Value>,
    }) -> Policy;
    Delete "/policies/{policy_id}" "deletePolicy" delete_policy(DeletePolicy { policy_id: PolicyId }) -> ();
    Get "/policies/{policy_id}/groups" "listPolicyGroups" list_policy_groups(ListPolicyGroups {
        policy_id: PolicyId,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<Group>;
    Get "/policies/{policy_id}/roles" "listPolicyRoles" list_policy_roles(ListPolicyRoles {
        policy_id: PolicyId,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<Role>;
    Get "/policies/{policy_id}/service-accounts" "listPolicyServiceAccounts"
    list_policy_service_accounts(ListPolicyServiceAccounts {
        policy_id: PolicyId,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<ServiceAccount>;
    Get "/policies/{policy_id}/users" "listPolicyUsers" list_policy_users(ListPolicyUsers {
        policy_id: PolicyId,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<User>;
}

paged! {
    ListPolicies => Policy,
    ListPolicyGroups => Group,
    ListPolicyRoles => Role,
    ListPolicyServiceAccounts => ServiceAccount,
    ListPolicyUsers => User,
}
