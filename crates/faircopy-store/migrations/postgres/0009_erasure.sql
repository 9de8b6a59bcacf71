-- Erasure and retention (docs/decisions/0020-erasure-and-retention.md).

-- The user and the organization that a delivery speaks of, where `entity_id` does not say it. The indexes hold those alone.
ALTER TABLE faircopy.webhook_deliveries ADD COLUMN clerk_user_id text COLLATE "C";
ALTER TABLE faircopy.webhook_deliveries ADD COLUMN clerk_org_id text COLLATE "C";
-- When personal data left the payload.
ALTER TABLE faircopy.webhook_deliveries ADD COLUMN erased_at timestamptz;
CREATE INDEX webhook_deliveries_user ON faircopy.webhook_deliveries (clerk_user_id) WHERE clerk_user_id IS NOT NULL;
CREATE INDEX webhook_deliveries_organization ON faircopy.webhook_deliveries (clerk_org_id) WHERE clerk_org_id IS NOT NULL;

-- One erasure for each user that was deleted, and its receipt. Nothing personal. Times that decide are milliseconds since 1970.
CREATE TABLE faircopy.erasures (
    clerk_user_id  text COLLATE "C" PRIMARY KEY,
    began_at       bigint NOT NULL,
    due_at         bigint,
    emptied        bigint NOT NULL DEFAULT 0,
    redacted       bigint NOT NULL DEFAULT 0,
    late           bigint NOT NULL DEFAULT 0,
    finished_at    timestamptz,
    scrubbed_at    timestamptz
);
CREATE INDEX erasures_due ON faircopy.erasures (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX erasures_began ON faircopy.erasures (began_at, clerk_user_id);

-- Once through what a database held before this step: how far the walk is, and where it ends.
CREATE TABLE faircopy.walks (
    name   text COLLATE "C" PRIMARY KEY,
    after  text COLLATE "C" NOT NULL,
    until  text COLLATE "C" NOT NULL
);
INSERT INTO faircopy.walks (name, after, until)
SELECT 'deliveries', '', to_char((now() + interval '1 day') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
WHERE EXISTS (SELECT 1 FROM faircopy.webhook_deliveries);
INSERT INTO faircopy.walks (name, after, until)
SELECT 'tombstones', '', '' WHERE EXISTS (SELECT 1 FROM faircopy.registers);

-- What is kept for so long and no longer is found by its age.
CREATE INDEX registers_tombstone ON faircopy.registers (tombstone_at) WHERE tombstone_at IS NOT NULL;
CREATE INDEX sweeps_finished ON faircopy.sweeps (finished_at) WHERE finished_at IS NOT NULL;
ALTER TABLE faircopy.feed ADD COLUMN forgotten bigint NOT NULL DEFAULT 0;

DO $$
DECLARE
    holder text;
    made   text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOREACH made IN ARRAY ARRAY['erasures', 'walks'] LOOP
        EXECUTE format('ALTER TABLE faircopy.%I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('ALTER TABLE faircopy.%I FORCE ROW LEVEL SECURITY', made);
        EXECUTE format('REVOKE ALL ON faircopy.%I FROM PUBLIC', made);
        EXECUTE format('CREATE POLICY owner ON faircopy.%I TO %I USING (true) WITH CHECK (true)', made, holder);
        IF holder <> current_user THEN
            EXECUTE format('ALTER TABLE faircopy.%I OWNER TO %I', made, holder);
        END IF;
    END LOOP;
END $$;
