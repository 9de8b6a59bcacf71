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

-- The newest deliveries of a subject, and of whom they speak, as ranges. They take the places of the indexes on these columns alone:
-- a delivery writes as many as before.
CREATE INDEX webhook_deliveries_of_entity ON webhook_deliveries (entity_id, received_at);
DROP INDEX webhook_deliveries_entity;
CREATE INDEX webhook_deliveries_of_user ON webhook_deliveries (clerk_user_id, received_at)
    WHERE clerk_user_id IS NOT NULL;
DROP INDEX webhook_deliveries_user;
CREATE INDEX webhook_deliveries_of_organization ON webhook_deliveries (clerk_org_id, received_at)
    WHERE clerk_org_id IS NOT NULL;
DROP INDEX webhook_deliveries_organization;

-- Searching by the beginning of an address or a name; `lower` knows ASCII alone.
CREATE INDEX users_email ON users (lower(email), clerk_user_id) WHERE email IS NOT NULL;
CREATE INDEX users_name ON users (lower(name), clerk_user_id) WHERE name IS NOT NULL;
CREATE INDEX organizations_slug ON organizations (lower(slug), clerk_org_id) WHERE slug IS NOT NULL;
CREATE INDEX organizations_name ON organizations (lower(name), clerk_org_id) WHERE name IS NOT NULL;
