-- The rows that only a token speaks for are few, and are looked for every few seconds.
CREATE INDEX users_provisional ON faircopy.users (clerk_user_id) WHERE provenance = 'token';
CREATE INDEX organizations_provisional ON faircopy.organizations (clerk_org_id) WHERE provenance = 'token';
CREATE INDEX organization_members_provisional ON faircopy.organization_members (clerk_org_id, clerk_user_id)
    WHERE provenance = 'token';
