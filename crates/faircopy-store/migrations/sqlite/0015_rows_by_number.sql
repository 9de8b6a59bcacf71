-- Users and organizations hold JSON of any length, and a table WITHOUT ROWID keeps whole rows on every level of its tree: a page had room
-- for nine users, so a million of them were six levels deep, and a row above 1 KB took another page. These are kept by number now, beside
-- an index of their keys. Foreign keys of other tables, views and triggers know a table by its name, which stays.
CREATE TABLE faircopy_users (
    clerk_user_id        text NOT NULL PRIMARY KEY,
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
) STRICT;
INSERT INTO faircopy_users SELECT * FROM users;
DROP TABLE users;
ALTER TABLE faircopy_users RENAME TO users;
CREATE INDEX users_provisional ON users (clerk_user_id) WHERE provenance = 'token';
CREATE INDEX users_email ON users (lower(email), clerk_user_id) WHERE email IS NOT NULL;
CREATE INDEX users_name ON users (lower(name), clerk_user_id) WHERE name IS NOT NULL;

CREATE TABLE faircopy_organizations (
    clerk_org_id  text NOT NULL PRIMARY KEY,
    name          text,
    slug          text,
    image_url     text,
    created_by    text,
    settings      text,
    workspace_id  text,
    provenance    text NOT NULL,
    created_at    text,
    updated_at    text
) STRICT;
INSERT INTO faircopy_organizations SELECT * FROM organizations;
DROP TABLE organizations;
ALTER TABLE faircopy_organizations RENAME TO organizations;
CREATE INDEX organizations_provisional ON organizations (clerk_org_id) WHERE provenance = 'token';
CREATE INDEX organizations_workspace ON organizations (workspace_id) WHERE workspace_id IS NOT NULL;
CREATE INDEX organizations_slug ON organizations (lower(slug), clerk_org_id) WHERE slug IS NOT NULL;
CREATE INDEX organizations_name ON organizations (lower(name), clerk_org_id) WHERE name IS NOT NULL;
