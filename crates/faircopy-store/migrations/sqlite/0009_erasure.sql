-- Erasure and retention (docs/decisions/0020-erasure-and-retention.md).

-- The user and the organization that a delivery speaks of, where `entity_id` does not say it. The indexes hold those alone.
ALTER TABLE webhook_deliveries ADD COLUMN clerk_user_id text;
ALTER TABLE webhook_deliveries ADD COLUMN clerk_org_id text;
-- When personal data left the payload.
ALTER TABLE webhook_deliveries ADD COLUMN erased_at text;
CREATE INDEX webhook_deliveries_user ON webhook_deliveries (clerk_user_id) WHERE clerk_user_id IS NOT NULL;
CREATE INDEX webhook_deliveries_organization ON webhook_deliveries (clerk_org_id) WHERE clerk_org_id IS NOT NULL;

-- One erasure for each user that was deleted, and its receipt. Nothing personal. Times that decide are milliseconds since 1970.
CREATE TABLE erasures (
    clerk_user_id  text PRIMARY KEY,
    began_at       integer NOT NULL,
    due_at         integer,
    emptied        integer NOT NULL DEFAULT 0,
    redacted       integer NOT NULL DEFAULT 0,
    late           integer NOT NULL DEFAULT 0,
    finished_at    text,
    scrubbed_at    text
) STRICT;
CREATE INDEX erasures_due ON erasures (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX erasures_began ON erasures (began_at, clerk_user_id);

-- Once through what a database held before this step: how far the walk is, and where it ends.
CREATE TABLE walks (
    name   text PRIMARY KEY,
    after  text NOT NULL,
    until  text NOT NULL
) STRICT;
INSERT INTO walks (name, after, until)
SELECT 'deliveries', '', strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 day') WHERE EXISTS (SELECT 1 FROM webhook_deliveries);
INSERT INTO walks (name, after, until)
SELECT 'tombstones', '', '' WHERE EXISTS (SELECT 1 FROM registers);

-- What is kept for so long and no longer is found by its age.
CREATE INDEX registers_tombstone ON registers (tombstone_at) WHERE tombstone_at IS NOT NULL;
CREATE INDEX sweeps_finished ON sweeps (finished_at) WHERE finished_at IS NOT NULL;
ALTER TABLE feed ADD COLUMN forgotten integer NOT NULL DEFAULT 0;
