//! All sixty methods from Rust, in the order in which an organisation lives.

use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use rolekeeperd::upstream::bycloud::*;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{client, run, world};

#[test]
fn every_method_is_called_with_types_and_means_what_it_says() {
    let (sandbox, home, admin) = world();
    let bucket = json!({ "version": "2024-01-01", "statements": [{ "effect": "allow", "actions": ["s3:*"] }] });
    let assume = json!({ "version": "2024-01-01", "statements": [{ "effect": "allow", "actions": ["sts:AssumeRole"] }] });
    let trust = json!({ "version": "2024-01-01", "statements": [{ "effect": "allow", "principals": ["*:service-account/builder"] }] });
    let start = Timestamp::now();

    // Groups and people.
    let group = run(admin.create_group(&CreateGroup {
        name: "developers".into(),
        description: None,
    }))
    .unwrap();
    let request = UpdateGroup {
        group_id: group.id.clone(),
        name: None,
        description: Some("who builds".into()),
    };
    assert_eq!(
        run(admin.update_group(&request))
            .unwrap()
            .description
            .as_deref(),
        Some("who builds")
    );
    let group_id = || group.id.clone();
    assert_eq!(
        run(admin.get_group(&GetGroup {
            group_id: group_id()
        }))
        .unwrap()
        .name,
        "developers"
    );
    let named = ListGroups {
        name: Some("dev*".into()),
        ..ListGroups::default()
    };
    assert_eq!(run(admin.list_groups(&named)).unwrap().items.len(), 1);
    let invite = |email: &str| AddUser {
        email: email.into(),
        group_ids: Some(vec![group_id()]),
    };
    let invitation = run(admin.add_user(&invite("ada@example.test"))).unwrap();
    assert_eq!(invitation.status, InvitationStatus::Pending);
    let unwanted = run(admin.add_user(&invite("bob@example.test"))).unwrap();
    run(admin.cancel_invitation(&CancelInvitation {
        invitation_id: unwanted.id.clone(),
    }))
    .unwrap();
    let seen = run(admin.get_invitation(&GetInvitation {
        invitation_id: unwanted.id,
    }))
    .unwrap();
    assert_eq!(seen.status, InvitationStatus::Cancelled);
    let accepted = sandbox.control(
        "POST",
        &format!("/invitations/{}/accept", invitation.id),
        None,
    );
    let answered = ListInvitations {
        status: Some(InvitationStatus::Accepted),
        ..ListInvitations::default()
    };
    assert_eq!(
        run(admin.list_invitations(&answered)).unwrap().items.len(),
        1
    );
    let user_id = || UserId::from(accepted["id"].as_str().unwrap());
    assert_eq!(
        run(admin.get_user(&GetUser { user_id: user_id() }))
            .unwrap()
            .email,
        "ada@example.test"
    );
    let everybody: Vec<User> = run(admin
        .items(ListUsers {
            limit: Some(1),
            ..ListUsers::default()
        })
        .try_collect())
    .unwrap();
    assert_eq!(everybody.len(), 3, "a page each");
    assert_eq!(
        run(admin.list_users(&ListUsers::default()))
            .unwrap()
            .items
            .len(),
        3
    );
    assert_eq!(
        run(admin.list_user_groups(&ListUserGroups { user_id: user_id() }))
            .unwrap()
            .items
            .len(),
        1
    );
    let members = ListGroupUsers {
        group_id: group_id(),
        limit: None,
        marker: None,
    };
    assert_eq!(
        run(admin.list_group_users(&members)).unwrap().items.len(),
        1
    );

    // Policies and what they are attached to.
    let create = |name: &str, document: &serde_json::Value| CreatePolicy {
        name: name.into(),
        description: None,
        document: document.clone(),
    };
    let policy = run(admin.create_policy(&create("Bucket", &bucket))).unwrap();
    let policy_id = || policy.id.clone();
    let request = UpdatePolicy {
        policy_id: policy_id(),
        name: Some("Buckets".into()),
        description: None,
        document: None,
    };
    assert_eq!(run(admin.update_policy(&request)).unwrap().document, bucket);
    assert_eq!(
        run(admin.get_policy(&GetPolicy {
            policy_id: policy_id()
        }))
        .unwrap()
        .name,
        "Buckets"
    );
    let exact = ListPolicies {
        name: Some("Buckets".into()),
        ..ListPolicies::default()
    };
    assert_eq!(run(admin.list_policies(&exact)).unwrap().items.len(), 1);
    run(admin.attach_group_policy(&AttachGroupPolicy {
        group_id: group_id(),
        policy_id: policy_id(),
    }))
    .unwrap();
    run(admin.attach_user_policy(&AttachUserPolicy {
        user_id: user_id(),
        policy_id: policy_id(),
    }))
    .unwrap();
    assert_eq!(
        run(admin.list_group_policies(&ListGroupPolicies {
            group_id: group_id()
        }))
        .unwrap()
        .items
        .len(),
        1
    );
    assert_eq!(
        run(admin.list_user_policies(&ListUserPolicies { user_id: user_id() }))
            .unwrap()
            .items
            .len(),
        1
    );
    let used = ListPolicyGroups {
        policy_id: policy_id(),
        limit: None,
        marker: None,
    };
    assert_eq!(
        run(admin.list_policy_groups(&used)).unwrap().items[0].id,
        group.id
    );
    let used = ListPolicyUsers {
        policy_id: policy_id(),
        limit: None,
        marker: None,
    };
    assert_eq!(run(admin.list_policy_users(&used)).unwrap().items.len(), 1);

    // A service account with a credential.
    let request = CreateServiceAccount {
        name: "builder".into(),
        description: None,
    };
    let account = run(admin.create_service_account(&request)).unwrap();
    let service_account_id = || account.id.clone();
    let request = UpdateServiceAccount {
        service_account_id: service_account_id(),
        description: Some("builds".into()),
        enabled: Some(true),
    };
    assert!(run(admin.update_service_account(&request)).unwrap().enabled);
    let request = GetServiceAccount {
        service_account_id: service_account_id(),
    };
    assert_eq!(
        run(admin.get_service_account(&request))
            .unwrap()
            .description
            .as_deref(),
        Some("builds")
    );
    assert_eq!(
        run(admin.list_service_accounts(&ListServiceAccounts::default()))
            .unwrap()
            .items
            .len(),
        2
    );
    let request = CreateServiceAccountCredential {
        service_account_id: service_account_id(),
        name: "key".into(),
        expires_at: Some(start + SignedDuration::from_hours(1)),
    };
    let credential = run(admin.create_service_account_credential(&request)).unwrap();
    home.secret(credential.secret.expose_secret());
    assert!(!format!("{credential:?}").contains(credential.secret.expose_secret()));
    let request = ListServiceAccountCredentials {
        service_account_id: service_account_id(),
    };
    assert_eq!(
        run(admin.list_service_account_credentials(&request))
            .unwrap()
            .items[0]
            .id,
        credential.credential.id
    );
    let builder = client(&home, sandbox.endpoint(), credential.secret.expose_secret());

    // A role: denied, then allowed by a group, then assumed.
    let request = CreateRole {
        name: "Deploy".into(),
        description: None,
        trust_policy: None,
    };
    let role = run(admin.create_role(&request)).unwrap();
    let role_id = || role.id.clone();
    let request = UpdateRole {
        role_id: role_id(),
        name: None,
        description: None,
        trust_policy: Some(trust.clone()),
    };
    assert_eq!(
        run(admin.update_role(&request)).unwrap().trust_policy,
        Some(trust)
    );
    assert_eq!(
        run(admin.get_role(&GetRole { role_id: role_id() }))
            .unwrap()
            .name,
        "Deploy"
    );
    let prefix = ListRoles {
        name: Some("Dep*".into()),
        ..ListRoles::default()
    };
    assert_eq!(run(admin.list_roles(&prefix)).unwrap().items.len(), 1);
    run(admin.attach_role_policy(&AttachRolePolicy {
        role_id: role_id(),
        policy_id: policy_id(),
    }))
    .unwrap();
    assert_eq!(
        run(admin.list_role_policies(&ListRolePolicies { role_id: role_id() }))
            .unwrap()
            .items
            .len(),
        1
    );
    let used = ListPolicyRoles {
        policy_id: policy_id(),
        limit: None,
        marker: None,
    };
    assert_eq!(
        run(admin.list_policy_roles(&used)).unwrap().items[0].id,
        role.id
    );
    let request = AssumeRole {
        role_id: role_id(),
        duration_seconds: Some(900),
    };
    let denied = run(builder.assume_role(&request)).unwrap_err();
    assert_eq!(denied.service_error(), Some(&ServiceError::AccessDenied));
    let may = run(admin.create_policy(&create("Assume", &assume))).unwrap();
    run(admin.attach_group_policy(&AttachGroupPolicy {
        group_id: group_id(),
        policy_id: may.id.clone(),
    }))
    .unwrap();
    let join = AddServiceAccountToGroup {
        service_account_id: service_account_id(),
        group_id: group_id(),
    };
    run(admin.add_service_account_to_group(&join)).unwrap();
    let assumed = run(builder.assume_role(&request)).unwrap();
    home.secret(assumed.credentials.session_token.expose_secret());
    assert_eq!(
        (assumed.session.status, assumed.session.role_name.as_str()),
        (SessionStatus::Active, "Deploy")
    );
    let session_id = || assumed.session.id.clone();
    let request = ListServiceAccountGroups {
        service_account_id: service_account_id(),
    };
    assert_eq!(
        run(admin.list_service_account_groups(&request))
            .unwrap()
            .items
            .len(),
        1
    );
    let request = ListGroupServiceAccounts {
        group_id: group_id(),
        limit: None,
        marker: None,
    };
    assert_eq!(
        run(admin.list_group_service_accounts(&request))
            .unwrap()
            .items[0]
            .id,
        account.id
    );
    let attach = AttachServiceAccountPolicy {
        service_account_id: service_account_id(),
        policy_id: policy_id(),
    };
    run(admin.attach_service_account_policy(&attach)).unwrap();
    let request = ListServiceAccountPolicies {
        service_account_id: service_account_id(),
    };
    assert_eq!(
        run(admin.list_service_account_policies(&request))
            .unwrap()
            .items
            .len(),
        1
    );
    let used = ListPolicyServiceAccounts {
        policy_id: policy_id(),
        limit: None,
        marker: None,
    };
    assert_eq!(
        run(admin.list_policy_service_accounts(&used))
            .unwrap()
            .items[0]
            .id,
        account.id
    );

    // The session is revoked, and everything is in the audit log.
    let in_use = run(admin.delete_role(&DeleteRole { role_id: role_id() })).unwrap_err();
    assert_eq!(in_use.service_error(), Some(&ServiceError::InUse));
    let active = ListStsSessions {
        active_only: Some(true),
        role_id: Some(role_id()),
        ..ListStsSessions::default()
    };
    assert_eq!(
        run(admin.list_sts_sessions(&active)).unwrap().items.len(),
        1
    );
    let revoke = RevokeStsSession {
        session_id: session_id(),
        reason: Some("the end".into()),
    };
    run(admin.revoke_sts_session(&revoke)).unwrap();
    let seen = run(admin.get_sts_session(&GetStsSession {
        session_id: session_id(),
    }))
    .unwrap();
    assert_eq!(
        (seen.status, seen.revoke_reason.as_deref()),
        (SessionStatus::Revoked, Some("the end"))
    );
    let denied = ListAuditLogs {
        status: Some(AuditStatus::Denied),
        from: Some(start),
        ..ListAuditLogs::default()
    };
    let entries = run(admin.list_audit_logs(&denied)).unwrap().items;
    assert_eq!(
        (entries.len(), entries[0].action.as_str()),
        (1, "sts.assumeRole")
    );
    let entry = run(admin.get_audit_log(&GetAuditLog {
        log_id: entries[0].id.clone(),
    }))
    .unwrap();
    assert_eq!(entry.actor_type, Some(PrincipalType::ServiceAccount));

    // Torn down.
    let leave = RemoveServiceAccountFromGroup {
        service_account_id: service_account_id(),
        group_id: group_id(),
    };
    run(admin.remove_service_account_from_group(&leave)).unwrap();
    let detach = DetachServiceAccountPolicy {
        service_account_id: service_account_id(),
        policy_id: policy_id(),
    };
    run(admin.detach_service_account_policy(&detach)).unwrap();
    let delete = DeleteServiceAccountCredential {
        service_account_id: service_account_id(),
        credential_id: credential.credential.id,
    };
    run(admin.delete_service_account_credential(&delete)).unwrap();
    let gone = run(builder.list_roles(&ListRoles::default())).unwrap_err();
    assert_eq!(gone.service_error(), Some(&ServiceError::InvalidToken));
    run(admin.delete_service_account(&DeleteServiceAccount {
        service_account_id: service_account_id(),
    }))
    .unwrap();
    run(admin.detach_role_policy(&DetachRolePolicy {
        role_id: role_id(),
        policy_id: policy_id(),
    }))
    .unwrap();
    run(admin.delete_role(&DeleteRole { role_id: role_id() })).unwrap();
    run(admin.remove_user_from_group(&RemoveUserFromGroup {
        user_id: user_id(),
        group_id: group_id(),
    }))
    .unwrap();
    run(admin.add_user_to_group(&AddUserToGroup {
        user_id: user_id(),
        group_id: group_id(),
    }))
    .unwrap();
    run(admin.detach_user_policy(&DetachUserPolicy {
        user_id: user_id(),
        policy_id: policy_id(),
    }))
    .unwrap();
    run(admin.remove_user(&RemoveUser { user_id: user_id() })).unwrap();
    for policy_id in [policy.id.clone(), may.id] {
        run(admin.detach_group_policy(&DetachGroupPolicy {
            group_id: group_id(),
            policy_id: policy_id.clone(),
        }))
        .unwrap();
        run(admin.delete_policy(&DeletePolicy { policy_id })).unwrap();
    }
    run(admin.delete_group(&DeleteGroup {
        group_id: group_id(),
    }))
    .unwrap();

    let counts = sandbox.control("GET", "/calls/counts", None)["counts"].clone();
    let missing: Vec<_> = routes()
        .map(|route| route.name)
        .filter(|name| counts[name].is_null())
        .collect();
    assert!(missing.is_empty(), "not called: {missing:?}");
}
