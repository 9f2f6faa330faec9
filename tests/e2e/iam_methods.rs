//! All sixty methods of ByCloud IAM by `rolekeeper iam`: an organisation is set up, used and
//! deleted again.

use rolekeeper_tests::harness::{Home, SandboxProcess};
use serde_json::{Value, json};

/// `rolekeeper iam` with the token of one upstream.
struct Caller<'a> {
    home: &'a Home,
    upstream: &'a str,
}

impl Caller<'_> {
    /// Calls a method, as on a command line, and returns its reply.
    fn iam(&self, line: &str) -> Value {
        let run = self.home.rolekeeper(&self.words(line));
        assert_eq!(run.code, 0, "{line}: {run:?}");

        serde_json::from_str(&run.stdout).unwrap_or(Value::Null)
    }

    /// The ids of a list's items.
    fn ids(&self, line: &str) -> Vec<String> {
        let reply = self.iam(line);
        reply["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn assert_refused(&self, line: &str, code: &str) {
        let run = self.home.rolekeeper(&self.words(line));
        assert!(run.code == 8 && run.stdout.is_empty(), "{run:?}");
        assert!(
            run.stderr.contains(code) && run.stderr.contains("(upstream_refused)\n  try: "),
            "{run:?}"
        );
    }

    fn words<'w>(&'w self, line: &'w str) -> Vec<&'w str> {
        ["iam"]
            .into_iter()
            .chain(line.split_whitespace())
            .chain(["--upstream", self.upstream])
            .collect()
    }
}

fn id(thing: &Value) -> &str {
    thing["id"].as_str().unwrap()
}

#[test]
fn all_sixty_methods_manage_an_organisation() {
    let sandbox = SandboxProcess::start(&[]);
    let home = Home::default();
    let token = sandbox.token_file(&home, "admin");
    let admins = format!(
        "[upstream.admin]\nkind = \"bycloud\"\nendpoint = \"{}\"\ntoken = {{ file = {token:?} }}\n",
        sandbox.endpoint()
    );
    home.configure(&admins);
    let daemon = home.daemon(&[]);

    let admin = Caller {
        home: &home,
        upstream: "admin",
    };

    // Users and groups.
    let group = admin.iam("createGroup --name developers");
    let group = id(&group);
    let described = admin.iam(&format!(
        "updateGroup --group-id {group} --description builders"
    ));
    assert_eq!(
        admin.iam(&format!("getGroup --group-id {group}")),
        described
    );
    assert_eq!(admin.ids("listGroups --name dev*"), [group]);

    let invited = admin.iam(&format!(
        "addUser --email ada@example.test --group-ids {group}"
    ));
    let other = admin.iam("add-user --email bob@example.test");
    admin.iam(&format!(
        "cancelInvitation --invitation-id {} --yes",
        id(&other)
    ));
    let cancelled = admin.iam(&format!("getInvitation --invitation-id {}", id(&other)));
    assert_eq!(cancelled["status"], "cancelled");

    let user = sandbox.control(
        "POST",
        &format!("/invitations/{}/accept", id(&invited)),
        None,
    );

    home.secret(user["token"].as_str().unwrap());
    let user = id(&user);

    assert_eq!(
        admin.ids("listInvitations --status accepted"),
        [id(&invited)]
    );
    assert_eq!(
        admin.iam(&format!("getUser --user-id {user}"))["email"],
        "ada@example.test"
    );
    assert_eq!(admin.ids("listUsers --all --limit 1").len(), 3);
    assert_eq!(
        admin.ids(&format!("listUserGroups --user-id {user}")),
        [group]
    );
    assert_eq!(
        admin.ids(&format!("listGroupUsers --group-id {group}")),
        [user]
    );

    // Policies.
    let document = json!({ "version": "2024-01-01", "statements": [
        { "effect": "allow", "actions": ["iam:ListRoles"] }] });
    let file = home.private_file("policy.json", &document.to_string());
    let policy = admin.iam(&format!(
        "createPolicy --name Look --document @{}",
        file.display()
    ));
    let policy = id(&policy);
    admin.iam(&format!("updatePolicy --policy-id {policy} --name Looking"));
    assert_eq!(
        admin.iam(&format!("getPolicy --policy-id {policy}"))["document"],
        document
    );
    assert_eq!(admin.ids("listPolicies --name Looking"), [policy]);

    let statement = json!({ "effect": "allow", "actions": ["sts:AssumeRole"] });
    let assume = json!({ "version": "2024-01-01", "statements": [statement] });
    let assume = admin.iam(&format!("createPolicy --name Assume --document {assume}"));
    let assume = id(&assume);

    // A service account, its credential, and a role that trusts it.
    let account = admin.iam("createServiceAccount --name builder");
    let account = id(&account);
    admin.iam(&format!(
        "updateServiceAccount --service-account-id {account} --description builds"
    ));

    assert_eq!(
        admin.iam(&format!("getServiceAccount --service-account-id {account}"))["enabled"],
        true
    );
    assert_eq!(admin.ids("listServiceAccounts").len(), 2);

    let credential = admin.iam(&format!(
        "createServiceAccountCredential --service-account-id {account} --name key"
    ));
    assert_eq!(
        admin.ids(&format!(
            "listServiceAccountCredentials --service-account-id {account}"
        )),
        [id(&credential)]
    );

    let builder = format!("crn:bycloud:iam:*:service-account/{account}");
    let statement = json!({ "effect": "allow", "principals": [builder] });
    let trust = json!({ "version": "2024-01-01", "statements": [statement] });
    let role = admin.iam("createRole --name Deploy");
    let role = id(&role);
    admin.iam(&format!(
        "updateRole --role-id {role} --trust-policy {trust}"
    ));

    assert_eq!(
        admin.iam(&format!("getRole --role-id {role}"))["trust_policy"],
        trust
    );
    assert_eq!(admin.ids("list-roles --name Dep* --limit 10"), [role]);

    admin.iam(&format!(
        "attachRolePolicy --role-id {role} --policy-id {policy}"
    ));

    assert_eq!(
        admin.ids(&format!("listRolePolicies --role-id {role}")),
        [policy]
    );
    assert_eq!(
        admin.ids(&format!("listPolicyRoles --policy-id {policy}")),
        [role]
    );

    // The service account's role is denied, allowed by a group, and assumed.
    let token = home.private_file("builder.token", credential["secret"].as_str().unwrap());
    let builders = format!(
        "[upstream.builder]\nkind = \"bycloud\"\nendpoint = \"{}\"\ntoken = {{ file = {token:?} }}\n\
         [profile.deploy]\nupstream = \"builder\"\nrole_id = \"{role}\"\n",
        sandbox.endpoint()
    );

    home.configure(&(admins + &builders));
    assert_eq!(daemon.stop(), 0);

    let _daemon = home.daemon(&[]);

    let builder = Caller {
        home: &home,
        upstream: "builder",
    };
    builder.assert_refused(&format!("assumeRole --role-id {role}"), "access_denied");
    admin.iam(&format!(
        "attachGroupPolicy --group-id {group} --policy-id {assume}"
    ));

    assert_eq!(
        admin.ids(&format!("listGroupPolicies --group-id {group}")),
        [assume]
    );
    assert_eq!(
        admin.ids(&format!("listPolicyGroups --policy-id {assume}")),
        [group]
    );

    admin.iam(&format!(
        "addServiceAccountToGroup --service-account-id {account} --group-id {group}"
    ));

    assert_eq!(
        admin.ids(&format!(
            "listServiceAccountGroups --service-account-id {account}"
        )),
        [group]
    );
    assert_eq!(
        admin.ids(&format!("listGroupServiceAccounts --group-id {group}")),
        [account]
    );

    let assumed = builder.iam(&format!(
        "assumeRole --role-id {role} --duration-seconds 900"
    ));
    assert_eq!(assumed["session"]["role_name"], "Deploy");

    let roles = home
        .rolekeeper(&["iam", "listRoles", "--profile", "deploy"])
        .json();
    assert_eq!(
        roles["items"].as_array().unwrap().len(),
        5,
        "the role's policy allows listRoles"
    );

    let run = home.rolekeeper(&["iam", "listUsers", "--profile", "deploy"]);
    assert!(
        run.code == 8 && run.stderr.contains("access_denied"),
        "{run:?}"
    );

    // Policies of service accounts and users.
    admin.iam(&format!(
        "attachServiceAccountPolicy --service-account-id {account} --policy-id {policy}"
    ));

    assert_eq!(
        admin.ids(&format!(
            "listServiceAccountPolicies --service-account-id {account}"
        )),
        [policy]
    );
    assert_eq!(
        admin.ids(&format!("listPolicyServiceAccounts --policy-id {policy}")),
        [account]
    );

    admin.iam(&format!(
        "attachUserPolicy --user-id {user} --policy-id {policy}"
    ));

    assert_eq!(
        admin.ids(&format!("listUserPolicies --user-id {user}")),
        [policy]
    );
    assert_eq!(
        admin.ids(&format!("listPolicyUsers --policy-id {policy}")),
        [user]
    );

    // Sessions are revoked, and the audit log shows the denied calls.
    admin.assert_refused(
        &format!("deletePolicy --policy-id {policy} --yes"),
        "in_use",
    );
    let active = admin.ids(&format!("listSTSSessions --role-id {role} --active-only"));
    assert_eq!(active.len(), 2, "the one of assumeRole, and the profile's");

    for session in &active {
        admin.iam(&format!(
            "revokeSTSSession --session-id {session} --reason done --yes"
        ));
    }

    let revoked = admin.iam(&format!("getSTSSession --session-id {}", active[0]));
    assert_eq!(
        (&revoked["status"], &revoked["revoke_reason"]),
        (&json!("revoked"), &json!("done"))
    );

    let denied = admin.iam(&format!(
        "listAuditLogs --actor-id {account} --status denied --all"
    ));
    let denied = denied["items"].as_array().unwrap();
    assert_eq!(
        (denied.len(), &denied[0]["action"]),
        (2, &json!("sts.assumeRole"))
    );
    assert_eq!(
        admin.iam(&format!("getAuditLog --log-id {}", id(&denied[1])))["session_id"],
        active[1]
    );

    // Everything is deleted.
    admin.iam(&format!(
        "detachServiceAccountPolicy --service-account-id {account} --policy-id {policy} --yes"
    ));
    admin.iam(&format!(
        "removeServiceAccountFromGroup --service-account-id {account} --group-id {group} --yes"
    ));
    let key = id(&credential);
    admin.iam(&format!(
        "deleteServiceAccountCredential --service-account-id {account} --credential-id {key} --yes"
    ));
    admin.iam(&format!(
        "deleteServiceAccount --service-account-id {account} --yes"
    ));
    admin.iam(&format!(
        "detachUserPolicy --user-id {user} --policy-id {policy} --yes"
    ));
    admin.iam(&format!(
        "removeUserFromGroup --user-id {user} --group-id {group} --yes"
    ));
    admin.iam(&format!(
        "addUserToGroup --user-id {user} --group-id {group}"
    ));
    admin.iam(&format!("removeUser --user-id {user} --yes"));
    admin.iam(&format!(
        "detachGroupPolicy --group-id {group} --policy-id {assume} --yes"
    ));
    admin.iam(&format!("deleteGroup --group-id {group} --yes"));
    admin.iam(&format!(
        "detachRolePolicy --role-id {role} --policy-id {policy} --yes"
    ));
    admin.iam(&format!("deleteRole --role-id {role} --yes"));

    for policy in [policy, assume] {
        admin.iam(&format!("deletePolicy --policy-id {policy} --yes"));
    }

    let counts = sandbox.control("GET", "/calls/counts", None)["counts"].clone();
    assert_eq!(counts.as_object().unwrap().len(), 60, "{counts}");
}
