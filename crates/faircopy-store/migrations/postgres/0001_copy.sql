-- The public tables (contract.md, section 4): live rows only, in a schema of their own, so that an application in the
-- same database can join them and reference them with foreign keys.

CREATE TABLE faircopy.users (
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
    public_metadata      jsonb,
    banned               boolean,
    locked               boolean,
    provenance           text NOT NULL,
    created_at           timestamptz,
    updated_at           timestamptz
);
COMMENT ON COLUMN faircopy.users.linked_workspace_id IS 'the workspace that the public metadata names; workspace_id falls back to the oldest membership';

CREATE TABLE faircopy.organizations (
    clerk_org_id  text PRIMARY KEY,
    name          text,
    slug          text,
    image_url     text,
    created_by    text,
    settings      jsonb,
    workspace_id  text,
    provenance    text NOT NULL,
    created_at    timestamptz,
    updated_at    timestamptz
);

CREATE TABLE faircopy.organization_members (
    clerk_org_id         text NOT NULL,
    clerk_user_id        text NOT NULL,
    clerk_membership_id  text,
    role                 text,
    permissions          jsonb,
    provenance           text NOT NULL,
    created_at           timestamptz,
    updated_at           timestamptz,
    PRIMARY KEY (clerk_org_id, clerk_user_id)
);
CREATE INDEX organization_members_user ON faircopy.organization_members (clerk_user_id, clerk_org_id);

CREATE TABLE faircopy.organization_invitations (
    clerk_invitation_id  text PRIMARY KEY,
    clerk_org_id         text NOT NULL,
    email                text,
    role                 text,
    status               text NOT NULL,
    expires_at           timestamptz,
    provenance           text NOT NULL,
    created_at           timestamptz,
    updated_at           timestamptz
);
CREATE INDEX organization_invitations_organization ON faircopy.organization_invitations (clerk_org_id);
CREATE INDEX organization_invitations_pending ON faircopy.organization_invitations (expires_at) WHERE status = 'pending';

-- security_invoker: the view shows no more than its reader may see of the tables below it.
CREATE VIEW faircopy.user_profiles WITH (security_invoker = true) AS
SELECT m.clerk_user_id, m.clerk_org_id, m.role, u.name, u.email, u.image_url, m.created_at
FROM faircopy.organization_members m LEFT JOIN faircopy.users u ON u.clerk_user_id = m.clerk_user_id;

-- From here on the tables are the program's own. Their ids are compared as bytes, which costs a fraction of a language's
-- order, and each index is as narrow as its question allows: every delivery pays for it.

-- The audit table. The payload lacks what must never be stored.
CREATE TABLE faircopy.webhook_deliveries (
    svix_id      text COLLATE "C" PRIMARY KEY,
    event_type   text NOT NULL,
    entity_id    text COLLATE "C",
    instance_id  text,
    outcome      text NOT NULL,
    attempts     bigint NOT NULL,
    conflicts    bigint NOT NULL,
    error        text,
    event_at     timestamptz,
    signed_at    timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    body_hash    bigint NOT NULL,
    payload      text
);
CREATE INDEX webhook_deliveries_received ON faircopy.webhook_deliveries (received_at);
CREATE INDEX webhook_deliveries_entity ON faircopy.webhook_deliveries (entity_id);
CREATE INDEX webhook_deliveries_quarantined ON faircopy.webhook_deliveries (received_at) WHERE outcome = 'quarantined';
-- Payloads are most of the bytes. lz4 costs a fraction of the default's CPU; a server built without it keeps the default.
DO $$ BEGIN
    ALTER TABLE faircopy.webhook_deliveries ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;

-- What the merge remembers: versions, generations, tombstones. Ids and times, nothing personal.
CREATE TABLE faircopy.registers (
    subject             text COLLATE "C" PRIMARY KEY,
    full_updated_at     bigint,
    full_event_at       bigint,
    full_hash           bigint,
    contested           boolean NOT NULL,
    partial_updated_at  bigint,
    partial_event_at    bigint,
    partial_hash        bigint,
    tombstone_at        bigint,
    generation_at       bigint,
    generation_id       text COLLATE "C",
    last_end_at         bigint,
    token               text,
    clerk_org_id        text COLLATE "C",
    clerk_user_id       text COLLATE "C"
) WITH (fillfactor = 80);
CREATE INDEX registers_organization ON faircopy.registers (clerk_org_id) WHERE clerk_org_id IS NOT NULL;
CREATE INDEX registers_user ON faircopy.registers (clerk_user_id) WHERE clerk_user_id IS NOT NULL;
CREATE INDEX registers_membership ON faircopy.registers (generation_id) WHERE generation_id IS NOT NULL;

-- The change feed, and the counter behind its numbers. Whoever writes rows holds the counter's row until the commit:
-- numbers become visible in order and without gaps.
CREATE TABLE faircopy.changes (
    sequence    bigint PRIMARY KEY,
    entity      text NOT NULL,
    id          text NOT NULL,
    operation   text NOT NULL,
    changed_at  timestamptz NOT NULL
);
CREATE TABLE faircopy.feed (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    sequence  bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO faircopy.feed (sequence) VALUES (0);
