//! Roles and whom they trust.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::wire::{methods, paged};
use super::{Marker, Page, Policy, PolicyId, RoleId};

#[derive(Debug, Clone, Deserialize)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub description: Option<String>,
    /// A role without one trusts no principal.
    pub trust_policy: Option<Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

methods! {
    #[derive(Default)]
    Get "/roles" "listRoles" list_roles(ListRoles {
        limit: Option<u32>,
        marker: Option<Marker>,
        name: Option<String>,
    }) -> Page<Role>;
    Post "/roles" "createRole" create_role(CreateRole {
        name: String,
        description: Option<String>,
        trust_policy: Option<Value>,
    }) -> Role;
    Get "/roles/{role_id}" "getRole" get_role(GetRole { role_id: RoleId }) -> Role;
    Patch "/roles/{role_id}" "updateRole" update_role(UpdateRole {
        role_id: RoleId,
        name: Option<String>,
        description: Option<String>,
        trust_policy: Option<Value>,
    }) -> Role;
    Delete "/roles/{role_id}" "deleteRole" delete_role(DeleteRole { role_id: RoleId }) -> ();
    Get "/roles/{role_id}/policies" "listRolePolicies" list_role_policies(ListRolePolicies {
        role_id: RoleId,
    }) -> Page<Policy>;
    Post "/roles/{role_id}/policies" "attachRolePolicy" attach_role_policy(AttachRolePolicy {
        role_id: RoleId,
        policy_id: PolicyId,
    }) -> ();
    Delete "/roles/{role_id}/policies/{policy_id}" "detachRolePolicy" detach_role_policy(DetachRolePolicy {
        role_id: RoleId,
        policy_id: PolicyId,
    }) -> ();
}

paged! { ListRoles => Role }
