-- Row-level security (docs/row-level-security.md, docs/decisions/0007-row-level-security.md). Whoever is not the tables'
-- owner sees what the claims of a verified token allow and the live memberships of the copy confirm; nobody sees nothing.

-- Who asks. `request.jwt.claims` is what Supabase and PostgREST set for a transaction, in Clerk's token version 1 or 2.
-- What is no JSON object is nobody; so is a session whose tasks are pending, which Clerk says to refuse. After a
-- transaction the setting is empty and not null. (Catching an error begins a subtransaction: not parallel safe.)
CREATE FUNCTION faircopy.current_claims() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE claims jsonb;
BEGIN
    claims := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    IF jsonb_typeof(claims) = 'object' AND claims ->> 'sts' IS DISTINCT FROM 'pending' THEN
        RETURN claims;
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END $$;

CREATE FUNCTION faircopy.current_user_id() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT nullif(claims ->> 'sub', '') FROM faircopy.current_claims() AS claims
    WHERE jsonb_typeof(claims -> 'sub') = 'string'
$$;
COMMENT ON FUNCTION faircopy.current_user_id() IS 'the subject of the token, or null: nobody';

-- Version 2 says `o.id`, version 1 `org_id`. The version decides, as it does for the service's own tokens: the other claim
-- may be a custom one that says anything. A token made from a template has no version, and then may not say two things.
CREATE FUNCTION faircopy.claimed_org_id() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN version = '2' THEN newer
        WHEN version = '1' THEN older
        WHEN version IS NULL AND (newer IS NULL OR older IS NULL OR newer = older) THEN coalesce(newer, older)
    END
    FROM faircopy.current_claims() AS claims, LATERAL (SELECT
        claims ->> 'v' AS version,
        CASE jsonb_typeof(claims #> '{o,id}') WHEN 'string' THEN nullif(claims #>> '{o,id}', '') END AS newer,
        CASE jsonb_typeof(claims -> 'org_id') WHEN 'string' THEN nullif(claims ->> 'org_id', '') END AS older
    ) AS named
$$;
COMMENT ON FUNCTION faircopy.claimed_org_id() IS 'the organization that the token names, which proves nothing: see current_org_id()';

-- The two functions that read with the owner's rights. A policy of organization_members that asked organization_members
-- would ask itself without end; and helper functions must not need rights on tables. They take no argument, and tell
-- nobody more than his own memberships and the ids of those who share one.
CREATE FUNCTION faircopy.current_memberships() RETURNS TABLE (
    clerk_org_id text, role text, permissions jsonb, provenance text, created_at timestamptz, updated_at timestamptz,
    name text, slug text, image_url text, workspace_id text
)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.clerk_org_id, m.role, m.permissions, m.provenance, m.created_at, m.updated_at,
        o.name, o.slug, o.image_url, o.workspace_id
    FROM faircopy.organization_members AS m LEFT JOIN faircopy.organizations AS o ON o.clerk_org_id = m.clerk_org_id
    WHERE m.clerk_user_id = (SELECT faircopy.current_user_id())
$$;
COMMENT ON FUNCTION faircopy.current_memberships() IS 'the caller''s live memberships, whichever organization is active';

CREATE FUNCTION faircopy.current_colleagues() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT other.clerk_user_id
    FROM faircopy.organization_members AS mine
    JOIN faircopy.organization_members AS other ON other.clerk_org_id = mine.clerk_org_id
    WHERE mine.clerk_user_id = (SELECT faircopy.current_user_id())
$$;
COMMENT ON FUNCTION faircopy.current_colleagues() IS 'the users who share an organization with the caller';

-- What policies ask, here and in an application. A membership that the copy no longer holds is none, whatever the token
-- says; a role is what the copy holds, never what the token says.
CREATE FUNCTION faircopy.current_org_id() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT clerk_org_id FROM faircopy.current_memberships() WHERE clerk_org_id = (SELECT faircopy.claimed_org_id())
$$;
COMMENT ON FUNCTION faircopy.current_org_id() IS 'the active organization, if the caller is a member of it now';

CREATE FUNCTION faircopy.current_org_role() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT role FROM faircopy.current_memberships() WHERE clerk_org_id = (SELECT faircopy.claimed_org_id())
$$;
COMMENT ON FUNCTION faircopy.current_org_role() IS 'the caller''s role in the active organization: org:admin, org:member, …';

CREATE FUNCTION faircopy.current_workspace_id() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT workspace_id FROM faircopy.current_memberships() WHERE clerk_org_id = (SELECT faircopy.claimed_org_id())
$$;
COMMENT ON FUNCTION faircopy.current_workspace_id() IS 'the workspace of the active organization';

CREATE FUNCTION faircopy.is_member(clerk_org_id text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM faircopy.current_memberships() AS m WHERE m.clerk_org_id = $1)
$$;
COMMENT ON FUNCTION faircopy.is_member(text) IS 'whether the caller is a member of this organization now, active or not';

-- Clerk's own form, `org:admin`, or without the prefix as in version 2 of the token.
CREATE FUNCTION faircopy.has_role(role text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(faircopy.current_org_role() IN ($1, 'org:' || $1), false)
$$;
COMMENT ON FUNCTION faircopy.has_role(text) IS 'whether the caller has this role in the active organization';

CREATE FUNCTION faircopy.has_permission(permission text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM faircopy.current_memberships() AS m
        WHERE m.clerk_org_id = (SELECT faircopy.claimed_org_id()) AND m.permissions @> to_jsonb($1)
    )
$$;
COMMENT ON FUNCTION faircopy.has_permission(text) IS 'whether the caller has this permission in the active organization';

-- The policies. What they ask stands in a sub-select: it is answered once a query, not once a row.
CREATE POLICY reader ON faircopy.users FOR SELECT USING (
    clerk_user_id = (SELECT faircopy.current_user_id())
    OR clerk_user_id IN (SELECT faircopy.current_colleagues())
);
CREATE POLICY reader ON faircopy.organizations FOR SELECT USING (
    clerk_org_id = (SELECT faircopy.current_org_id())
);
CREATE POLICY reader ON faircopy.organization_members FOR SELECT USING (
    clerk_org_id = (SELECT faircopy.current_org_id())
);
CREATE POLICY reader ON faircopy.organization_invitations FOR SELECT USING (
    clerk_org_id = (SELECT faircopy.current_org_id()) AND (SELECT faircopy.has_role('org:admin'))
);

-- Every table, the program's own too, is closed to all but its owner, who is held by row-level security like anybody else
-- and passes by a policy that is a constant: the planner drops it, and the writer pays nothing. Policies and functions
-- follow the tables' owner, who need not be the one who migrates.
DO $$
DECLARE
    subject record;
    holder  text;
BEGIN
    FOR subject IN
        SELECT oid::regclass AS name, pg_get_userbyid(relowner) AS owner FROM pg_class
        WHERE relnamespace = 'faircopy'::regnamespace AND relkind IN ('r', 'p')
    LOOP
        EXECUTE format('CREATE POLICY owner ON %s TO %I USING (true) WITH CHECK (true)', subject.name, subject.owner);
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', subject.name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', subject.name);
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', subject.name);
    END LOOP;
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOR subject IN
        SELECT oid::regprocedure AS name, pg_get_userbyid(proowner) AS owner FROM pg_proc
        WHERE pronamespace = 'faircopy'::regnamespace AND prokind = 'f'
    LOOP
        IF subject.owner <> holder THEN
            EXECUTE format('ALTER FUNCTION %s OWNER TO %I', subject.name, holder);
        END IF;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION faircopy.current_claims(), faircopy.current_user_id(), faircopy.claimed_org_id(),
    faircopy.current_memberships(), faircopy.current_colleagues(), faircopy.current_org_id(), faircopy.current_org_role(),
    faircopy.current_workspace_id(), faircopy.is_member(text), faircopy.has_role(text), faircopy.has_permission(text)
    FROM PUBLIC;

-- The one role that may read, and what the service's own API reads as: `GRANT faircopy_reader TO <your role>` gives a role
-- what it needs and no more. Roles belong to the whole server: one that lacks the right to make them goes without, and the
-- grants can be made by hand. Databases of one server may get here together.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'faircopy_reader') THEN
        BEGIN
            CREATE ROLE faircopy_reader NOLOGIN;
        EXCEPTION
            WHEN insufficient_privilege THEN RAISE NOTICE 'no right to create the role faircopy_reader';
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'faircopy_reader') THEN
        GRANT USAGE ON SCHEMA faircopy TO faircopy_reader;
        GRANT SELECT ON faircopy.users, faircopy.organizations, faircopy.organization_members,
            faircopy.organization_invitations, faircopy.user_profiles TO faircopy_reader;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA faircopy TO faircopy_reader;
        -- So that the service itself can step down to it.
        BEGIN
            -- From version 16 on, whoever makes a role is a member without the right to become it.
            IF NOT pg_has_role(current_user, 'faircopy_reader',
                CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
                EXECUTE format('GRANT faircopy_reader TO %I', current_user);
            END IF;
        EXCEPTION WHEN insufficient_privilege THEN RAISE NOTICE 'no right to become faircopy_reader';
        END;
    END IF;
END $$;
