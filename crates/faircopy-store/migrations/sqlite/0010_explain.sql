-- What reads of Clerk and session tokens brought (docs/decisions/0019-explain.md). `fact` is what it said: no more than the row
-- that it was written to, and empty once the user or the organization is deleted.
CREATE TABLE readings (
    id            integer PRIMARY KEY,
    subject       text NOT NULL,
    clerk_org_id  text,
    source        text NOT NULL,
    kind          text NOT NULL,
    updated_at    text,
    event_at      text NOT NULL,
    read_at       text NOT NULL,
    fact          text
) STRICT;
CREATE INDEX readings_subject ON readings (subject);
-- Of an invitation: whose, so that it goes with the organization.
CREATE INDEX readings_organization ON readings (clerk_org_id) WHERE clerk_org_id IS NOT NULL;

-- The newest deliveries of a subject as a range. It takes the place of the index on `entity_id` alone: a delivery writes as many
-- as before.
CREATE INDEX webhook_deliveries_entity_received ON webhook_deliveries (entity_id, received_at, svix_id);
DROP INDEX webhook_deliveries_entity;

-- Searching by the beginning of an address or a name; `lower` knows ASCII alone.
CREATE INDEX users_email ON users (lower(email), clerk_user_id) WHERE email IS NOT NULL;
CREATE INDEX users_name ON users (lower(name), clerk_user_id) WHERE name IS NOT NULL;
CREATE INDEX organizations_slug ON organizations (lower(slug), clerk_org_id) WHERE slug IS NOT NULL;
CREATE INDEX organizations_name ON organizations (lower(name), clerk_org_id) WHERE name IS NOT NULL;
