-- The public tables (contract.md, section 4): live rows only. Times are RFC 3339 texts in UTC with milliseconds.

CREATE TABLE users (
    clerk_user_id        text PRIMARY KEY,
    external_id          text,
    username             text,
    first_name           text,
    last_name            text,
    name                 text,
    email                text,
    image_url            text,
    workspace_id         text,
    linked_workspace_id  text,
    public_metadata      text,
    banned               integer,
    locked               integer,
    provenance           text NOT NULL,
    created_at           text,
    updated_at           text
) STRICT, WITHOUT ROWID;

CREATE TABLE organizations (
    clerk_org_id  text PRIMARY KEY,
    name          text,
    slug          text,
    image_url     text,
    created_by    text,
    settings      text,
    workspace_id  text,
    provenance    text NOT NULL,
    created_at    text,
    updated_at    text
) STRICT, WITHOUT ROWID;

CREATE TABLE organization_members (
    clerk_org_id         text NOT NULL,
    clerk_user_id        text NOT NULL,
    clerk_membership_id  text,
    role                 text,
    permissions          text,
    provenance           text NOT NULL,
    created_at           text,
    updated_at           text,
    PRIMARY KEY (clerk_org_id, clerk_user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX organization_members_user ON organization_members (clerk_user_id, clerk_org_id);

CREATE TABLE organization_invitations (
    clerk_invitation_id  text PRIMARY KEY,
    clerk_org_id         text NOT NULL,
    email                text,
    role                 text,
    status               text NOT NULL,
    expires_at           text,
    provenance           text NOT NULL,
    created_at           text,
    updated_at           text
) STRICT, WITHOUT ROWID;
CREATE INDEX organization_invitations_organization ON organization_invitations (clerk_org_id);
CREATE INDEX organization_invitations_pending ON organization_invitations (expires_at) WHERE status = 'pending';

CREATE VIEW user_profiles AS
SELECT m.clerk_user_id, m.clerk_org_id, m.role, u.name, u.email, u.image_url, m.created_at
FROM organization_members m LEFT JOIN users u ON u.clerk_user_id = m.clerk_user_id;

-- The audit table. The payload lacks what must never be stored.
CREATE TABLE webhook_deliveries (
    svix_id      text PRIMARY KEY,
    event_type   text NOT NULL,
    entity_id    text,
    instance_id  text,
    outcome      text NOT NULL,
    attempts     integer NOT NULL,
    conflicts    integer NOT NULL,
    error        text,
    event_at     text,
    signed_at    text NOT NULL,
    received_at  text NOT NULL,
    body_hash    integer NOT NULL,
    payload      text
) STRICT;
CREATE INDEX webhook_deliveries_received ON webhook_deliveries (received_at);
CREATE INDEX webhook_deliveries_entity ON webhook_deliveries (entity_id);
CREATE INDEX webhook_deliveries_quarantined ON webhook_deliveries (received_at) WHERE outcome = 'quarantined';

-- What the merge remembers: versions, generations, tombstones. Ids and times, nothing personal.
CREATE TABLE registers (
    subject             text PRIMARY KEY,
    full_updated_at     integer,
    full_event_at       integer,
    full_hash           integer,
    contested           integer NOT NULL,
    partial_updated_at  integer,
    partial_event_at    integer,
    partial_hash        integer,
    tombstone_at        integer,
    generation_at       integer,
    generation_id       text,
    last_end_at         integer,
    token               text,
    clerk_org_id        text,
    clerk_user_id       text
) STRICT, WITHOUT ROWID;
CREATE INDEX registers_organization ON registers (clerk_org_id) WHERE clerk_org_id IS NOT NULL;
CREATE INDEX registers_user ON registers (clerk_user_id) WHERE clerk_user_id IS NOT NULL;
CREATE INDEX registers_membership ON registers (generation_id) WHERE generation_id IS NOT NULL;

-- The change feed, and the counter behind its numbers. Whoever writes rows holds the counter's row until the commit:
-- numbers become visible in order and without gaps.
CREATE TABLE changes (
    sequence    integer PRIMARY KEY,
    entity      text NOT NULL,
    id          text NOT NULL,
    operation   text NOT NULL,
    changed_at  text NOT NULL
) STRICT;
CREATE TABLE feed (
    singleton  integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    sequence  integer NOT NULL
) STRICT;
INSERT INTO feed (sequence) VALUES (0);
