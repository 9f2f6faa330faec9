//! Groups, whose policies are their members'.

use jiff::Timestamp;
use serde::Deserialize;

use super::wire::{methods, paged};
use super::{GroupId, Marker, Page, Policy, PolicyId, ServiceAccount, User};

#[derive(Debug, Clone, Deserialize)]
pub struct Group {
    pub id: GroupId,
    pub name: String,
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

methods! {
    #[derive(Default)]
    Get "/groups" "listGroups" list_groups(ListGroups {
        limit: Option<u32>,
        marker: Option<Marker>,
        name: Option<String>,
    }) -> Page<Group>;
    Post "/groups" "createGroup" create_group(CreateGroup { name: String, description: Option<String> }) -> Group;
    Get "/groups/{group_id}" "getGroup" get_group(GetGroup { group_id: GroupId }) -> Group;
    Patch "/groups/{group_id}" "updateGroup" update_group(UpdateGroup {
        group_id: GroupId,
        name: Option<String>,
        description: Option<String>,
    }) -> Group;
    Delete "/groups/{group_id}" "deleteGroup" delete_group(DeleteGroup { group_id: GroupId }) -> ();
    Get "/groups/{group_id}/policies" "listGroupPolicies" list_group_policies(ListGroupPolicies {
        group_id: GroupId,
    }) -> Page<Policy>;
    Post "/groups/{group_id}/policies" "attachGroupPolicy" attach_group_policy(AttachGroupPolicy {
        group_id: GroupId,
        policy_id: PolicyId,
    }) -> ();
    Delete "/groups/{group_id}/policies/{policy_id}" "detachGroupPolicy" detach_group_policy(DetachGroupPolicy {
        group_id: GroupId,
        policy_id: PolicyId,
    }) -> ();
    Get "/groups/{group_id}/service-accounts" "listGroupServiceAccounts"
    list_group_service_accounts(ListGroupServiceAccounts {
        group_id: GroupId,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<ServiceAccount>;
    Get "/groups/{group_id}/users" "listGroupUsers" list_group_users(ListGroupUsers {
        group_id: GroupId,
        limit: Option<u32>,
        marker: Option<Marker>,
    }) -> Page<User>;
}

paged! { ListGroups => Group, ListGroupServiceAccounts => ServiceAccount, ListGroupUsers => User }
