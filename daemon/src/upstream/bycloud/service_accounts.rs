//! Service accounts and their credentials.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::wire::{methods, paged};
use super::{CredentialId, Group, GroupId, Marker, Page, Policy, PolicyId, ServiceAccountId};

#[derive(Debug, Clone, Deserialize)]
pub struct ServiceAccount {
    pub id: ServiceAccountId,
    pub name: String,
    pub description: Option<String>,
    pub enabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Without its secret, which no list shows.
#[derive(Debug, Clone, Deserialize)]
pub struct Credential {
    pub id: CredentialId,
    pub name: String,
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// A14.
#[derive(Debug, Clone, Deserialize)]
pub struct NewCredential {
    #[serde(flatten)]
    pub credential: Credential,
    pub secret: SecretString,
}

methods! {
    #[derive(Default)]
    Get "/service-accounts" "listServiceAccounts" list_service_accounts(ListServiceAccounts {
        limit: Option<u32>,
        marker: Option<Marker>,
        name: Option<String>,
    }) -> Page<ServiceAccount>;
    Post "/service-accounts" "createServiceAccount" create_service_account(CreateServiceAccount {
        name: String,
        description: Option<String>,
    }) -> ServiceAccount;
    Get "/service-accounts/{service_account_id}" "getServiceAccount" get_service_account(GetServiceAccount {
        service_account_id: ServiceAccountId,
    }) -> ServiceAccount;
    Patch "/service-accounts/{service_account_id}" "updateServiceAccount" update_service_account(UpdateServiceAccount {
        service_account_id: ServiceAccountId,
        description: Option<String>,
        enabled: Option<bool>,
    }) -> ServiceAccount;
    Delete "/service-accounts/{service_account_id}" "deleteServiceAccount" delete_service_account(DeleteServiceAccount {
        service_account_id: ServiceAccountId,
    }) -> ();
    Get "/service-accounts/{service_account_id}/credentials" "listServiceAccountCredentials"
    list_service_account_credentials(ListServiceAccountCredentials {
        service_account_id: ServiceAccountId,
    }) -> Page<Credential>;
    Post "/service-accounts/{service_account_id}/credentials" "createServiceAccountCredential"
    create_service_account_credential(CreateServiceAccountCredential {
        service_account_id: ServiceAccountId,
        name: String,
        expires_at: Option<Timestamp>,
    }) -> NewCredential;
    Delete "/service-accounts/{service_account_id}/credentials/{credential_id}" "deleteServiceAccountCredential"
    delete_service_account_credential(DeleteServiceAccountCredential {
        service_account_id: ServiceAccountId,
        credential_id: CredentialId,
    }) -> ();
    Get "/service-accounts/{service_account_id}/groups" "listServiceAccountGroups"
    list_service_account_groups(ListServiceAccountGroups {
        service_account_id: ServiceAccountId,
    }) -> Page<Group>;
    Post "/service-accounts/{service_account_id}/groups" "addServiceAccountToGroup"
    add_service_account_to_group(AddServiceAccountToGroup {
        service_account_id: ServiceAccountId,
        group_id: GroupId,
    }) -> ();
    Delete "/service-accounts/{service_account_id}/groups/{group_id}" "removeServiceAccountFromGroup"
    remove_service_account_from_group(RemoveServiceAccountFromGroup {
        service_account_id: ServiceAccountId,
        group_id: GroupId,
    }) -> ();
    Get "/service-accounts/{service_account_id}/policies" "listServiceAccountPolicies"
    list_service_account_policies(ListServiceAccountPolicies {
        service_account_id: ServiceAccountId,
    }) -> Page<Policy>;
    Post "/service-accounts/{service_account_id}/policies" "attachServiceAccountPolicy"
    attach_service_account_policy(AttachServiceAccountPolicy {
        service_account_id: ServiceAccountId,
        policy_id: PolicyId,
    }) -> ();
    Delete "/service-accounts/{service_account_id}/policies/{policy_id}" "detachServiceAccountPolicy"
    detach_service_account_policy(DetachServiceAccountPolicy {
        service_account_id: ServiceAccountId,
        policy_id: PolicyId,
    }) -> ();
}

paged! { ListServiceAccounts => ServiceAccount }
