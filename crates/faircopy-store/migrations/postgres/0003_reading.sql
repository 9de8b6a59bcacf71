-- What the service's own read API needs to read as `faircopy_reader` (docs/decisions/0010-reads-under-row-level-security.md).

-- What `current_memberships()` leaves out of the caller's memberships, and `GET /v1/me/organizations` shows. A function of
-- its own: policies of applications depend on the other, whose columns therefore cannot change.
CREATE FUNCTION faircopy.current_membership_ids() RETURNS TABLE (clerk_org_id text, clerk_membership_id text)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.clerk_org_id, m.clerk_membership_id FROM faircopy.organization_members AS m
    WHERE m.clerk_user_id = (SELECT faircopy.current_user_id())
$$;
COMMENT ON FUNCTION faircopy.current_membership_ids() IS 'the ids of the caller''s live memberships, whichever organization is active';
REVOKE ALL ON FUNCTION faircopy.current_membership_ids() FROM PUBLIC;

-- Secrets that all replicas share. The cursors' key (docs/decisions/0011-sealed-cursors.md) is made here, out of 244 random
-- bits, and so is there as soon as the schema is complete.
CREATE TABLE faircopy.secrets (
    name    text COLLATE "C" PRIMARY KEY,
    secret  text NOT NULL
);
INSERT INTO faircopy.secrets (name, secret) VALUES ('cursors', gen_random_uuid()::text || gen_random_uuid()::text);
ALTER TABLE faircopy.secrets ENABLE ROW LEVEL SECURITY;
ALTER TABLE faircopy.secrets FORCE ROW LEVEL SECURITY;
REVOKE ALL ON faircopy.secrets FROM PUBLIC;

-- Like all else, what is new belongs to the owner of the tables, who need not be the one who migrates; he grants it.
DO $$
DECLARE holder text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'faircopy_reader') THEN
        GRANT EXECUTE ON FUNCTION faircopy.current_membership_ids() TO faircopy_reader;
    END IF;
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    EXECUTE format('CREATE POLICY owner ON faircopy.secrets TO %I USING (true) WITH CHECK (true)', holder);
    IF holder <> current_user THEN
        EXECUTE format('ALTER TABLE faircopy.secrets OWNER TO %I', holder);
        EXECUTE format('ALTER FUNCTION faircopy.current_membership_ids() OWNER TO %I', holder);
    END IF;
END $$;
