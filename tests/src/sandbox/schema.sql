-- The schema. Ids are UUIDs of version 7: they sort by creation, and pages follow that order.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE service_accounts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    service_account_id TEXT NOT NULL REFERENCES service_accounts ON DELETE CASCADE,
    name TEXT NOT NULL,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    UNIQUE (service_account_id, name)
) STRICT;

CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE memberships (
    kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    group_id TEXT NOT NULL REFERENCES groups,
    PRIMARY KEY (kind, owner_id, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_by_group ON memberships (group_id, kind, owner_id);

CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL,
    status TEXT NOT NULL,
    group_ids TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX invitations_by_email ON invitations (email, status);

CREATE TABLE policies (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE roles (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    trust_policy TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE attachments (
    kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    policy_id TEXT NOT NULL REFERENCES policies,
    PRIMARY KEY (kind, owner_id, policy_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachments_by_policy ON attachments (policy_id, kind, owner_id);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    role_id TEXT NOT NULL,
    role_name TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    principal_type TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revoked_by TEXT,
    revoke_reason TEXT,
    source_ip TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_by_principal ON sessions (principal_id, id);
CREATE INDEX sessions_by_role ON sessions (role_id, id);

CREATE TABLE audit_logs (
    id TEXT PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    actor_id TEXT,
    actor_type TEXT,
    action TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT,
    status TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    request_id TEXT NOT NULL,
    session_id TEXT,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX audit_logs_by_actor ON audit_logs (actor_id, id);

CREATE TABLE tokens (
    hash BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_subject ON tokens (subject_id);

CREATE TABLE ready (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

CREATE TABLE session_keys (
    access_key_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL UNIQUE REFERENCES sessions ON DELETE CASCADE,
    secret TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
    name TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE objects (
    bucket TEXT NOT NULL REFERENCES buckets,
    key TEXT NOT NULL,
    data BLOB NOT NULL,
    etag TEXT NOT NULL,
    headers TEXT NOT NULL,
    checksum_header TEXT,
    checksum TEXT,
    modified_at INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT;
