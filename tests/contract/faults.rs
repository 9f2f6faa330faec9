//! The client's handling of errors, endless lists, and unknown fields.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use futures_util::TryStreamExt;
use rolekeeper_tests::harness::Home;
use rolekeeperd::upstream::bycloud::*;
use serde_json::{Value, json};

use super::{client, run, world};

/// The sandbox sends each documented error (A6) as a fault.
#[test]
fn every_documented_error_has_its_own_variant() {
    let (sandbox, _home, admin) = world();
    let table = [
        (400, "invalid_request", ServiceError::InvalidRequest),
        (401, "invalid_token", ServiceError::InvalidToken),
        (401, "token_expired", ServiceError::TokenExpired),
        (401, "session_revoked", ServiceError::SessionRevoked),
        (401, "principal_disabled", ServiceError::PrincipalDisabled),
        (403, "access_denied", ServiceError::AccessDenied),
        (403, "trust_policy_denied", ServiceError::TrustPolicyDenied),
        (404, "not_found", ServiceError::NotFound),
        (409, "conflict", ServiceError::Conflict),
        (409, "in_use", ServiceError::InUse),
        (429, "rate_limited", ServiceError::RateLimited),
        (500, "internal", ServiceError::Internal),
        (503, "unavailable", ServiceError::Unavailable),
        (418, "teapot", ServiceError::Other(418)),
        (404, "access_denied", ServiceError::Other(404)),
    ];
    for (status, code, want) in table {
        let fault = json!({ "kind": "status", "status": status, "code": code, "retry_after": "7" });
        sandbox.control(
            "POST",
            "/faults",
            Some(json!({ "method": "listRoles", "fault": fault, "times": 1 })),
        );
        let error = run(admin.list_roles(&ListRoles::default())).unwrap_err();
        assert_eq!(error.service_error(), Some(&want), "{error}");
        assert!(error.to_string().contains(code), "{error}");
    }
    for fault in ["reset", "truncated", "garbage", "html"] {
        let fault = json!({ "method": "listRoles", "fault": { "kind": fault }, "times": 1 });
        sandbox.control("POST", "/faults", Some(fault));
        let error = run(admin.list_roles(&ListRoles::default())).unwrap_err();
        assert!(matches!(error, IamError::NoAnswer { .. }), "{error}");
    }
}

#[test]
fn stream_reads_all_pages_while_items_change() {
    let (_sandbox, _home, admin) = world();
    let create = |number: u32| CreateGroup {
        name: format!("page{number}"),
        description: None,
    };
    let ids: Vec<_> = (0..25)
        .map(|number| run(admin.create_group(&create(number))).unwrap().id)
        .collect();
    let request = ListGroups {
        limit: Some(4),
        name: Some("page*".into()),
        marker: None,
    };
    let delete = |id: &GroupId| DeleteGroup {
        group_id: id.clone(),
    };

    let seen = run(async {
        let mut groups = std::pin::pin!(admin.items(request));
        let mut seen = Vec::new();
        while let Some(group) = groups.try_next().await.unwrap() {
            seen.push(group.id);
            if seen.len() == 6 {
                // The item of the marker, and a later one.
                admin.delete_group(&delete(&ids[7])).await.unwrap();
                admin.delete_group(&delete(&ids[20])).await.unwrap();
                admin.create_group(&create(99)).await.unwrap();
            }
        }
        seen
    });
    assert_eq!(
        seen.len(),
        25,
        "the client has read the first deleted group, not the second, and the new one"
    );
    assert!(seen.is_sorted() && !seen.contains(&ids[20]));
}

/// A service that replies to each request with the next of these bodies, and repeats the last.
fn serve_bodies(bodies: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for number in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body = &bodies[number.min(bodies.len() - 1)];
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(body);
            let _ = reader.read(&mut [0]);
        }
    });
    endpoint
}

fn client_of_bodies(bodies: &[Value]) -> (Home, ByCloud) {
    let home = Home::default();
    let bodies = bodies.iter().map(|body| body.to_string().into_bytes());
    let endpoint = serve_bodies(bodies.collect());
    let client = client(&home, &endpoint, "canary-token");
    (home, client)
}

#[test]
fn repeated_marker_is_a_loop_error() {
    let page = |marker: &str| json!({ "items": [], "next_marker": marker });
    let (_home, client) = client_of_bodies(&[page("a"), page("b"), page("a")]);
    let error = run(client.items(ListRoles::default()).try_collect::<Vec<_>>()).unwrap_err();
    assert!(
        matches!(&error, IamError::List { .. })
            && error.to_string() == "listRoles: pagination loop (marker a repeated)",
        "{error}"
    );
}

#[test]
fn unknown_fields_are_ignored_and_unknown_enum_words_kept() {
    let session = json!({
        "id": "s-1", "role_id": "r-1", "role_name": "r", "principal_id": "p-1", "principal_type": "robot",
        "status": "suspended", "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z",
        "colour": { "red": [1, 2, 3] },
    });
    let (_home, client) = client_of_bodies(&[session]);
    let session = run(client.get_sts_session(&GetStsSession {
        session_id: "s-1".into(),
    }))
    .unwrap();
    assert_eq!(session.status, SessionStatus::Other("suspended".into()));
    assert_eq!(session.principal_type.as_str(), "robot");
    assert_eq!(session.revoked_at, None);
}

#[test]
fn undocumented_reply_is_no_answer() {
    let home = Home::default();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let bodies = [
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"\"\xff\"".to_vec(),
        deep,
        b"{\"items\":7}".to_vec(),
        Vec::new(),
    ];
    let client = client(&home, &serve_bodies(bodies.to_vec()), "canary-token");
    for _ in 0..bodies.len() {
        let error = run(client.list_roles(&ListRoles::default())).unwrap_err();
        assert!(matches!(error, IamError::NoAnswer { .. }), "{error}");
        assert!(error.to_string().contains("not the documented"), "{error}");
    }
}

#[test]
fn id_stays_one_path_segment_and_is_never_empty() {
    let (sandbox, _home, admin) = world();
    for id in ["../users", "a/b", "a?b=c", "a%2Fb", "\n"] {
        let error = run(admin.get_role(&GetRole { role_id: id.into() })).unwrap_err();
        assert_eq!(
            error.service_error(),
            Some(&ServiceError::InvalidRequest),
            "{id:?}: {error}"
        );
    }
    assert_eq!(sandbox.calls("getRole"), 5, "each reached its method");
    for id in ["", ".", ".."] {
        let error = run(admin.get_role(&GetRole { role_id: id.into() })).unwrap_err();
        assert!(matches!(error, IamError::Invalid { .. }), "{error}");
    }
    assert_eq!(sandbox.calls("getRole"), 5);
}
