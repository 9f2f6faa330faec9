//! The client calls all sixty methods, in the order of an organisation's life.

use std::future::Future;

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use rolekeeper_tests::harness::{Home, SandboxProcess};
use rolekeeperd::upstream::bycloud::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{client, run, world};

/// A sandbox, and its administrator. Each method is a step that returns the ids for later steps.
struct Organization {
    sandbox: SandboxProcess,
    home: Home,
    admin: ByCloud,
    start: Timestamp,
}

struct Members {
    group_id: GroupId,
    user_id: UserId,
}

struct Account {
    id: ServiceAccountId,
    credential_id: CredentialId,
    /// A client with the account's credential.
    client: ByCloud,
}

struct AssumedSession {
    id: SessionId,
    role_id: RoleId,
    /// The policy that allows the account to assume the role.
    assume_policy_id: PolicyId,
}

#[test]
fn client_calls_every_method() {
    let (sandbox, home, admin) = world();
    let organization = Organization {
        sandbox,
        home,
        admin,
        start: Timestamp::now(),
    };

    let group_id = organization.create_group();
    let user_id = organization.invite_user(&group_id);
    let members = Members { group_id, user_id };
    organization.list_members(&members);
    let policy_id = organization.create_policy();
    organization.attach_policy(&policy_id, &members);
    let account = organization.create_service_account();
    let role_id = organization.create_role(&policy_id);
    let session = organization.assume_role(role_id, &account, &members);
    organization.attach_account(&account, &members, &policy_id);
    organization.revoke_session(&session);
    organization.read_audit_log();
    organization.delete_service_account(&account, &members, &policy_id);
    organization.delete_role_and_user(&session, &members, &policy_id);
    organization.delete_policies_and_group(&session, &members, policy_id);

    organization.check_calls();
}

fn call<T>(call: impl Future<Output = Result<T, IamError>>) -> T {
    run(call).unwrap()
}

fn allow(statement: Value) -> Value {
    let mut statement = statement;
    statement["effect"] = "allow".into();

    json!({ "version": "2024-01-01", "statements": [statement] })
}

fn new_policy(name: &str, document: Value) -> CreatePolicy {
    CreatePolicy {
        name: name.into(),
        description: None,
        document,
    }
}

impl Organization {
    fn create_group(&self) -> GroupId {
        let admin = &self.admin;
        let group = call(admin.create_group(&CreateGroup {
            name: "developers".into(),
            description: None,
        }));
        let group_id = || group.id.clone();

        let updated = call(admin.update_group(&UpdateGroup {
            group_id: group_id(),
            name: None,
            description: Some("builders".into()),
        }));
        assert_eq!(updated.description.as_deref(), Some("builders"));

        let read = call(admin.get_group(&GetGroup {
            group_id: group_id(),
        }));
        assert_eq!(read.name, "developers");

        let by_prefix = ListGroups {
            name: Some("dev*".into()),
            ..ListGroups::default()
        };
        assert_eq!(call(admin.list_groups(&by_prefix)).items.len(), 1);

        group.id
    }

    fn invite_user(&self, group_id: &GroupId) -> UserId {
        let admin = &self.admin;
        let invite = |email: &str| AddUser {
            email: email.into(),
            group_ids: Some(vec![group_id.clone()]),
        };
        let invitation = call(admin.add_user(&invite("ada@example.test")));
        assert_eq!(invitation.status, InvitationStatus::Pending);

        let unwanted = call(admin.add_user(&invite("bob@example.test")));
        call(admin.cancel_invitation(&CancelInvitation {
            invitation_id: unwanted.id.clone(),
        }));
        let cancelled = call(admin.get_invitation(&GetInvitation {
            invitation_id: unwanted.id,
        }));
        assert_eq!(cancelled.status, InvitationStatus::Cancelled);

        let path = format!("/invitations/{}/accept", invitation.id);
        let accepted = self.sandbox.control("POST", &path, None);
        let by_status = ListInvitations {
            status: Some(InvitationStatus::Accepted),
            ..ListInvitations::default()
        };
        assert_eq!(call(admin.list_invitations(&by_status)).items.len(), 1);

        UserId::from(accepted["id"].as_str().unwrap())
    }

    fn list_members(&self, members: &Members) {
        let admin = &self.admin;
        let user_id = || members.user_id.clone();
        let user = call(admin.get_user(&GetUser { user_id: user_id() }));
        assert_eq!(user.email, "ada@example.test");

        let one_per_page = ListUsers {
            limit: Some(1),
            ..ListUsers::default()
        };
        let users: Vec<User> = call(admin.items(one_per_page).try_collect());
        assert_eq!(users.len(), 3);
        let page = call(admin.list_users(&ListUsers::default()));
        assert_eq!(page.items.len(), 3);

        let groups = call(admin.list_user_groups(&ListUserGroups { user_id: user_id() }));
        assert_eq!(groups.items.len(), 1);
        let users = call(admin.list_group_users(&ListGroupUsers {
            group_id: members.group_id.clone(),
            limit: None,
            marker: None,
        }));
        assert_eq!(users.items.len(), 1);
    }

    fn create_policy(&self) -> PolicyId {
        let admin = &self.admin;
        let document = allow(json!({ "actions": ["s3:*"] }));
        let policy = call(admin.create_policy(&new_policy("Bucket", document.clone())));
        let policy_id = || policy.id.clone();

        let updated = call(admin.update_policy(&UpdatePolicy {
            policy_id: policy_id(),
            name: Some("Buckets".into()),
            description: None,
            document: None,
        }));
        assert_eq!(updated.document, document);

        let read = call(admin.get_policy(&GetPolicy {
            policy_id: policy_id(),
        }));
        assert_eq!(read.name, "Buckets");

        let by_name = ListPolicies {
            name: Some("Buckets".into()),
            ..ListPolicies::default()
        };
        assert_eq!(call(admin.list_policies(&by_name)).items.len(), 1);

        policy.id
    }

    fn attach_policy(&self, policy_id: &PolicyId, members: &Members) {
        let admin = &self.admin;
        let policy_id = || policy_id.clone();
        let group_id = || members.group_id.clone();
        let user_id = || members.user_id.clone();
        call(admin.attach_group_policy(&AttachGroupPolicy {
            group_id: group_id(),
            policy_id: policy_id(),
        }));
        call(admin.attach_user_policy(&AttachUserPolicy {
            user_id: user_id(),
            policy_id: policy_id(),
        }));

        let of_group = call(admin.list_group_policies(&ListGroupPolicies {
            group_id: group_id(),
        }));
        assert_eq!(of_group.items.len(), 1);
        let of_user = call(admin.list_user_policies(&ListUserPolicies { user_id: user_id() }));
        assert_eq!(of_user.items.len(), 1);

        let groups = call(admin.list_policy_groups(&ListPolicyGroups {
            policy_id: policy_id(),
            limit: None,
            marker: None,
        }));
        assert_eq!(groups.items[0].id, group_id());
        let users = call(admin.list_policy_users(&ListPolicyUsers {
            policy_id: policy_id(),
            limit: None,
            marker: None,
        }));
        assert_eq!(users.items.len(), 1);
    }

    fn create_service_account(&self) -> Account {
        let admin = &self.admin;
        let account = call(admin.create_service_account(&CreateServiceAccount {
            name: "builder".into(),
            description: None,
        }));
        let service_account_id = || account.id.clone();

        let updated = call(admin.update_service_account(&UpdateServiceAccount {
            service_account_id: service_account_id(),
            description: Some("builds".into()),
            enabled: Some(true),
        }));
        assert!(updated.enabled);

        let read = call(admin.get_service_account(&GetServiceAccount {
            service_account_id: service_account_id(),
        }));
        assert_eq!(read.description.as_deref(), Some("builds"));
        let all = call(admin.list_service_accounts(&ListServiceAccounts::default()));
        assert_eq!(all.items.len(), 2);

        let created = call(admin.create_service_account_credential(
            &CreateServiceAccountCredential {
                service_account_id: service_account_id(),
                name: "key".into(),
                expires_at: Some(self.start + SignedDuration::from_hours(1)),
            },
        ));
        let secret = created.secret.expose_secret();
        self.home.secret(secret);
        assert!(!format!("{created:?}").contains(secret));

        let credentials = call(admin.list_service_account_credentials(
            &ListServiceAccountCredentials {
                service_account_id: service_account_id(),
            },
        ));
        assert_eq!(credentials.items[0].id, created.credential.id);

        Account {
            client: client(&self.home, self.sandbox.endpoint(), secret),
            credential_id: created.credential.id,
            id: account.id,
        }
    }

    fn create_role(&self, policy_id: &PolicyId) -> RoleId {
        let admin = &self.admin;
        let role = call(admin.create_role(&CreateRole {
            name: "Deploy".into(),
            description: None,
            trust_policy: None,
        }));
        let role_id = || role.id.clone();

        let trust = allow(json!({ "principals": ["*:service-account/builder"] }));
        let updated = call(admin.update_role(&UpdateRole {
            role_id: role_id(),
            name: None,
            description: None,
            trust_policy: Some(trust.clone()),
        }));
        assert_eq!(updated.trust_policy, Some(trust));

        let read = call(admin.get_role(&GetRole { role_id: role_id() }));
        assert_eq!(read.name, "Deploy");
        let by_prefix = ListRoles {
            name: Some("Dep*".into()),
            ..ListRoles::default()
        };
        assert_eq!(call(admin.list_roles(&by_prefix)).items.len(), 1);

        call(admin.attach_role_policy(&AttachRolePolicy {
            role_id: role_id(),
            policy_id: policy_id.clone(),
        }));
        let policies = call(admin.list_role_policies(&ListRolePolicies { role_id: role_id() }));
        assert_eq!(policies.items.len(), 1);
        let roles = call(admin.list_policy_roles(&ListPolicyRoles {
            policy_id: policy_id.clone(),
            limit: None,
            marker: None,
        }));
        assert_eq!(roles.items[0].id, role.id);

        role.id
    }

    /// The service denies the role until the account is in a group that allows it.
    fn assume_role(&self, role_id: RoleId, account: &Account, members: &Members) -> AssumedSession {
        let admin = &self.admin;
        let request = AssumeRole {
            role_id: role_id.clone(),
            duration_seconds: Some(900),
        };
        let denied = run(account.client.assume_role(&request)).unwrap_err();
        assert_eq!(denied.service_error(), Some(&ServiceError::AccessDenied));

        let document = allow(json!({ "actions": ["sts:AssumeRole"] }));
        let policy = call(admin.create_policy(&new_policy("Assume", document)));
        call(admin.attach_group_policy(&AttachGroupPolicy {
            group_id: members.group_id.clone(),
            policy_id: policy.id.clone(),
        }));
        call(
            admin.add_service_account_to_group(&AddServiceAccountToGroup {
                service_account_id: account.id.clone(),
                group_id: members.group_id.clone(),
            }),
        );

        let assumed = call(account.client.assume_role(&request));
        let token = assumed.credentials.session_token.expose_secret();
        self.home.secret(token);
        assert_eq!(assumed.session.status, SessionStatus::Active);
        assert_eq!(assumed.session.role_name, "Deploy");

        AssumedSession {
            id: assumed.session.id,
            role_id,
            assume_policy_id: policy.id,
        }
    }

    fn attach_account(&self, account: &Account, members: &Members, policy_id: &PolicyId) {
        let admin = &self.admin;
        let service_account_id = || account.id.clone();
        let groups = call(
            admin.list_service_account_groups(&ListServiceAccountGroups {
                service_account_id: service_account_id(),
            }),
        );
        assert_eq!(groups.items.len(), 1);
        let accounts = call(
            admin.list_group_service_accounts(&ListGroupServiceAccounts {
                group_id: members.group_id.clone(),
                limit: None,
                marker: None,
            }),
        );
        assert_eq!(accounts.items[0].id, account.id);

        call(
            admin.attach_service_account_policy(&AttachServiceAccountPolicy {
                service_account_id: service_account_id(),
                policy_id: policy_id.clone(),
            }),
        );
        let policies = call(
            admin.list_service_account_policies(&ListServiceAccountPolicies {
                service_account_id: service_account_id(),
            }),
        );
        assert_eq!(policies.items.len(), 1);
        let accounts = call(
            admin.list_policy_service_accounts(&ListPolicyServiceAccounts {
                policy_id: policy_id.clone(),
                limit: None,
                marker: None,
            }),
        );
        assert_eq!(accounts.items[0].id, account.id);
    }

    fn revoke_session(&self, session: &AssumedSession) {
        let admin = &self.admin;
        let role_id = || session.role_id.clone();
        let in_use = run(admin.delete_role(&DeleteRole { role_id: role_id() })).unwrap_err();
        assert_eq!(in_use.service_error(), Some(&ServiceError::InUse));

        let active = ListStsSessions {
            active_only: Some(true),
            role_id: Some(role_id()),
            ..ListStsSessions::default()
        };
        assert_eq!(call(admin.list_sts_sessions(&active)).items.len(), 1);

        call(admin.revoke_sts_session(&RevokeStsSession {
            session_id: session.id.clone(),
            reason: Some("the end".into()),
        }));
        let read = call(admin.get_sts_session(&GetStsSession {
            session_id: session.id.clone(),
        }));
        assert_eq!(read.status, SessionStatus::Revoked);
        assert_eq!(read.revoke_reason.as_deref(), Some("the end"));
    }

    fn read_audit_log(&self) {
        let admin = &self.admin;
        let denied = ListAuditLogs {
            status: Some(AuditStatus::Denied),
            from: Some(self.start),
            ..ListAuditLogs::default()
        };
        let entries = call(admin.list_audit_logs(&denied)).items;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].action, "sts.assumeRole");

        let entry = call(admin.get_audit_log(&GetAuditLog {
            log_id: entries[0].id.clone(),
        }));
        assert_eq!(entry.actor_type, Some(PrincipalType::ServiceAccount));
    }

    fn delete_service_account(&self, account: &Account, members: &Members, policy_id: &PolicyId) {
        let admin = &self.admin;
        let service_account_id = || account.id.clone();
        call(
            admin.remove_service_account_from_group(&RemoveServiceAccountFromGroup {
                service_account_id: service_account_id(),
                group_id: members.group_id.clone(),
            }),
        );
        call(
            admin.detach_service_account_policy(&DetachServiceAccountPolicy {
                service_account_id: service_account_id(),
                policy_id: policy_id.clone(),
            }),
        );
        call(
            admin.delete_service_account_credential(&DeleteServiceAccountCredential {
                service_account_id: service_account_id(),
                credential_id: account.credential_id.clone(),
            }),
        );

        let invalid = run(account.client.list_roles(&ListRoles::default())).unwrap_err();
        assert_eq!(invalid.service_error(), Some(&ServiceError::InvalidToken));
        call(admin.delete_service_account(&DeleteServiceAccount {
            service_account_id: service_account_id(),
        }));
    }

    fn delete_role_and_user(
        &self,
        session: &AssumedSession,
        members: &Members,
        policy_id: &PolicyId,
    ) {
        let admin = &self.admin;
        let role_id = || session.role_id.clone();
        call(admin.detach_role_policy(&DetachRolePolicy {
            role_id: role_id(),
            policy_id: policy_id.clone(),
        }));
        call(admin.delete_role(&DeleteRole { role_id: role_id() }));

        let user_id = || members.user_id.clone();
        let group_id = || members.group_id.clone();
        call(admin.remove_user_from_group(&RemoveUserFromGroup {
            user_id: user_id(),
            group_id: group_id(),
        }));
        call(admin.add_user_to_group(&AddUserToGroup {
            user_id: user_id(),
            group_id: group_id(),
        }));
        call(admin.detach_user_policy(&DetachUserPolicy {
            user_id: user_id(),
            policy_id: policy_id.clone(),
        }));
        call(admin.remove_user(&RemoveUser { user_id: user_id() }));
    }

    fn delete_policies_and_group(
        &self,
        session: &AssumedSession,
        members: &Members,
        policy_id: PolicyId,
    ) {
        let admin = &self.admin;
        for policy_id in [policy_id, session.assume_policy_id.clone()] {
            call(admin.detach_group_policy(&DetachGroupPolicy {
                group_id: members.group_id.clone(),
                policy_id: policy_id.clone(),
            }));
            call(admin.delete_policy(&DeletePolicy { policy_id }));
        }
        call(admin.delete_group(&DeleteGroup {
            group_id: members.group_id.clone(),
        }));
    }

    fn check_calls(&self) {
        let counts = self.sandbox.control("GET", "/calls/counts", None)["counts"].clone();
        let missing: Vec<_> = routes()
            .map(|route| route.name)
            .filter(|name| counts[name].is_null())
            .collect();

        assert!(missing.is_empty(), "not called: {missing:?}");
    }
}
