-- What the service's own read API needs to read as `faircopy_reader` (docs/decisions/0008-reads-under-row-level-security.md).

-- What `current_memberships()` leaves out of the caller's memberships, and `GET /v1/me/organizations` shows. A function of
-- its own: policies of applications depend on the other, whose columns therefore cannot change.
CREATE FUNCTION faircopy.current_membership_ids() RETURNS TABLE (clerk_org_id text, clerk_membership_id text)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.clerk_org_id, m.clerk_membership_id FROM faircopy.organization_members AS m
    WHERE m.clerk_user_id = (SELECT faircopy.current_user_id())
$$;
COMMENT ON FUNCTION faircopy.current_membership_ids() IS 'the ids of the caller''s live memberships, whichever organization is active';
REVOKE ALL ON FUNCTION faircopy.current_membership_ids() FROM PUBLIC;

-- Like all else, what is new belongs to the owner of the tables, who need not be the one who migrates; he grants it.
DO $$
DECLARE holder text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'faircopy_reader') THEN
        GRANT EXECUTE ON FUNCTION faircopy.current_membership_ids() TO faircopy_reader;
    END IF;
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    IF holder <> current_user THEN
        EXECUTE format('ALTER FUNCTION faircopy.current_membership_ids() OWNER TO %I', holder);
    END IF;
END $$;
