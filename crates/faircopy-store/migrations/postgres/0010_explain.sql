-- What reads of Clerk and session tokens brought (docs/decisions/0019-explain.md).
CREATE TABLE faircopy.readings (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject       text COLLATE "C" NOT NULL,
    clerk_org_id  text COLLATE "C",
    source        text NOT NULL,
    kind          text NOT NULL,
    updated_at    timestamptz,
    event_at      timestamptz NOT NULL,
    read_at       timestamptz NOT NULL,
    fact          text
);
COMMENT ON COLUMN faircopy.readings.fact IS 'what it said: no more than the row that it was written to, and empty once the user or the organization is deleted';
COMMENT ON COLUMN faircopy.readings.clerk_org_id IS 'of an invitation: whose, so that it goes with the organization';
CREATE INDEX readings_subject ON faircopy.readings (subject, id);
CREATE INDEX readings_organization ON faircopy.readings (clerk_org_id) WHERE clerk_org_id IS NOT NULL;

-- The newest deliveries of a subject, and of whom they speak, as ranges. They take the places of the indexes on these columns alone:
-- a delivery writes as many as before.
CREATE INDEX webhook_deliveries_of_entity ON faircopy.webhook_deliveries (entity_id, received_at);
DROP INDEX faircopy.webhook_deliveries_entity;
CREATE INDEX webhook_deliveries_of_user ON faircopy.webhook_deliveries (clerk_user_id, received_at)
    WHERE clerk_user_id IS NOT NULL;
DROP INDEX faircopy.webhook_deliveries_user;
CREATE INDEX webhook_deliveries_of_organization ON faircopy.webhook_deliveries (clerk_org_id, received_at)
    WHERE clerk_org_id IS NOT NULL;
DROP INDEX faircopy.webhook_deliveries_organization;

-- Searching by the beginning of an address or a name. In the order of bytes, `lower` knows ASCII alone, as SQLite's does.
CREATE INDEX users_email ON faircopy.users (lower(email COLLATE "C"), clerk_user_id) WHERE email IS NOT NULL;
CREATE INDEX users_name ON faircopy.users (lower(name COLLATE "C"), clerk_user_id) WHERE name IS NOT NULL;
CREATE INDEX organizations_slug ON faircopy.organizations (lower(slug COLLATE "C"), clerk_org_id) WHERE slug IS NOT NULL;
CREATE INDEX organizations_name ON faircopy.organizations (lower(name COLLATE "C"), clerk_org_id) WHERE name IS NOT NULL;

DO $$
DECLARE
    holder text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    ALTER TABLE faircopy.readings ENABLE ROW LEVEL SECURITY;
    ALTER TABLE faircopy.readings FORCE ROW LEVEL SECURITY;
    REVOKE ALL ON faircopy.readings FROM PUBLIC;
    EXECUTE format('CREATE POLICY owner ON faircopy.readings TO %I USING (true) WITH CHECK (true)', holder);
    IF holder <> current_user THEN
        EXECUTE format('ALTER TABLE faircopy.readings OWNER TO %I', holder);
    END IF;
END $$;
