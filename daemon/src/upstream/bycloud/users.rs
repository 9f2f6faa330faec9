//! Users.

use jiff::Timestamp;
use serde::Deserialize;

use super::wire::{methods, paged};
use super::{Group, GroupId, Invitation, Marker, Page, Policy, PolicyId, UserId};

#[derive(Debug, Clone, Deserialize)]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub email: String,
    pub created_at: Timestamp,
}

methods! {
    #[derive(Default)]
    Get "/users" "listUsers" list_users(ListUsers {
        limit: Option<u32>,
        marker: Option<Marker>,
        name: Option<String>,
    }) -> Page<User>;
    Post "/users" "addUser" add_user(AddUser { email: String, group_ids: Option<Vec<GroupId>> }) -> Invitation;
    Get "/users/{user_id}" "getUser" get_user(GetUser { user_id: UserId }) -> User;
    Delete "/users/{user_id}" "removeUser" remove_user(RemoveUser { user_id: UserId }) -> ();
    Get "/users/{user_id}/groups" "listUserGroups" list_user_groups(ListUserGroups { user_id: UserId }) -> Page<Group>;
    Post "/users/{user_id}/groups" "addUserToGroup" add_user_to_group(AddUserToGroup {
        user_id: UserId,
        group_id: GroupId,
    }) -> ();
    Delete "/users/{user_id}/groups/{group_id}" "removeUserFromGroup" remove_user_from_group(RemoveUserFromGroup {
        user_id: UserId,
        group_id: GroupId,
    }) -> ();
    Get "/users/{user_id}/policies" "listUserPolicies" list_user_policies(ListUserPolicies {
        user_id: UserId,
    }) -> Page<Policy>;
    Post "/users/{user_id}/policies" "attachUserPolicy" attach_user_policy(AttachUserPolicy {
        user_id: UserId,
        policy_id: PolicyId,
    }) -> ();
    Delete "/users/{user_id}/policies/{policy_id}" "detachUserPolicy" detach_user_policy(DetachUserPolicy {
        user_id: UserId,
        policy_id: PolicyId,
    }) -> ();
}

paged! { ListUsers => User }
