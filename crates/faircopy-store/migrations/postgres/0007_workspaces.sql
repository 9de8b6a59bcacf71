-- Workspaces and what is in them (docs/workspaces.md). `workspaces` follows the organizations; the tables below it are the
-- application's to write: ids are texts of its own choosing, everything else has a default.

CREATE TABLE faircopy.workspaces (
    id            text PRIMARY KEY,
    clerk_org_id  text UNIQUE,
    name          text,
    owner_id      text,
    is_linked     boolean NOT NULL DEFAULT false,
    ended_at      timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN faircopy.workspaces.clerk_org_id IS 'the organization that it belongs to; null while it rests';
COMMENT ON COLUMN faircopy.workspaces.is_linked IS 'named by public metadata; otherwise it is the organization''s own, with the same id';
COMMENT ON COLUMN faircopy.workspaces.ended_at IS 'since when its organization is gone: it is being deleted';
-- Which organizations name a workspace.
CREATE INDEX organizations_workspace ON faircopy.organizations (workspace_id) WHERE workspace_id IS NOT NULL;

CREATE TABLE faircopy.channels (
    id            text PRIMARY KEY,
    workspace_id  text NOT NULL REFERENCES faircopy.workspaces (id),
    name          text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX channels_workspace ON faircopy.channels (workspace_id);

CREATE TABLE faircopy.messages (
    id          text PRIMARY KEY,
    channel_id  text NOT NULL REFERENCES faircopy.channels (id),
    author_id   text,
    body        text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_channel ON faircopy.messages (channel_id, created_at);

CREATE TABLE faircopy.last_reads (
    channel_id     text NOT NULL REFERENCES faircopy.channels (id),
    clerk_user_id  text NOT NULL,
    read_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel_id, clerk_user_id)
);
CREATE INDEX last_reads_user ON faircopy.last_reads (clerk_user_id);

CREATE TABLE faircopy.rooms (
    id            text PRIMARY KEY,
    workspace_id  text NOT NULL REFERENCES faircopy.workspaces (id),
    name          text NOT NULL DEFAULT '',
    kind          text NOT NULL DEFAULT 'document' CHECK (kind IN ('document', 'code', 'whiteboard', 'conference')),
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX rooms_workspace ON faircopy.rooms (workspace_id);

CREATE TABLE faircopy.documents (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES faircopy.rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX documents_room ON faircopy.documents (room_id);

CREATE TABLE faircopy.code_files (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES faircopy.rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX code_files_room ON faircopy.code_files (room_id);

CREATE TABLE faircopy.whiteboards (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES faircopy.rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX whiteboards_room ON faircopy.whiteboards (room_id);

CREATE TABLE faircopy.meetings (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES faircopy.rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX meetings_room ON faircopy.meetings (room_id);

-- An organization's own workspace begins with a channel. What is in a linked one is the application's.
CREATE FUNCTION faircopy.begin_workspace() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO faircopy.channels (id, workspace_id, name, created_at)
    VALUES (NEW.id || ':general', NEW.id, 'general', NEW.created_at) ON CONFLICT (id) DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER workspaces_general AFTER INSERT ON faircopy.workspaces
    FOR EACH ROW WHEN (NOT NEW.is_linked AND NEW.ended_at IS NULL) EXECUTE FUNCTION faircopy.begin_workspace();

-- Nothing new goes below a workspace that has ended: it is being deleted. Whoever writes need not see the workspace, so this
-- looks with the owner's rights; it tells of no other than the one that the row names.
CREATE FUNCTION faircopy.refuse_below_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM faircopy.workspaces AS w WHERE w.id = NEW.workspace_id AND w.ended_at IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation',
            MESSAGE = 'the workspace has ended and is being deleted: nothing new goes into it';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER channels_not_below_ended BEFORE INSERT ON faircopy.channels
    FOR EACH ROW EXECUTE FUNCTION faircopy.refuse_below_ended();
CREATE TRIGGER channels_not_moved_below_ended BEFORE UPDATE OF workspace_id ON faircopy.channels
    FOR EACH ROW WHEN (NEW.workspace_id <> OLD.workspace_id) EXECUTE FUNCTION faircopy.refuse_below_ended();
CREATE TRIGGER rooms_not_below_ended BEFORE INSERT ON faircopy.rooms
    FOR EACH ROW EXECUTE FUNCTION faircopy.refuse_below_ended();
CREATE TRIGGER rooms_not_moved_below_ended BEFORE UPDATE OF workspace_id ON faircopy.rooms
    FOR EACH ROW WHEN (NEW.workspace_id <> OLD.workspace_id) EXECUTE FUNCTION faircopy.refuse_below_ended();

-- The workspace that the caller's active organization has now: the one that belongs to it, or the linked one that it shares
-- with the organization to which that belongs. One that has ended is nobody's.
CREATE FUNCTION faircopy.active_workspace_id() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.id FROM faircopy.current_memberships() AS m
    JOIN faircopy.workspaces AS w ON w.clerk_org_id = m.clerk_org_id
        OR (w.id = m.workspace_id AND w.is_linked AND w.clerk_org_id IS NOT NULL)
    WHERE m.clerk_org_id = (SELECT faircopy.claimed_org_id()) AND w.ended_at IS NULL
    ORDER BY w.clerk_org_id = m.clerk_org_id DESC LIMIT 1
$$;
COMMENT ON FUNCTION faircopy.active_workspace_id() IS 'the workspace of the active organization, unless it has ended';

-- The policies: what hangs on that workspace can be seen and, with the rights to write, written; of the read marks only one's
-- own. `workspaces` itself follows the organizations and is written by the service alone.
CREATE POLICY reader ON faircopy.workspaces FOR SELECT USING (id = (SELECT faircopy.active_workspace_id()));
CREATE POLICY member ON faircopy.channels
    USING (workspace_id = (SELECT faircopy.active_workspace_id()))
    WITH CHECK (workspace_id = (SELECT faircopy.active_workspace_id()));
CREATE POLICY member ON faircopy.rooms
    USING (workspace_id = (SELECT faircopy.active_workspace_id()))
    WITH CHECK (workspace_id = (SELECT faircopy.active_workspace_id()));
CREATE POLICY reader ON faircopy.last_reads FOR SELECT USING (
    EXISTS (SELECT FROM faircopy.channels AS c
        WHERE c.id = channel_id AND c.workspace_id = (SELECT faircopy.active_workspace_id()))
);
CREATE POLICY member ON faircopy.last_reads
    USING (clerk_user_id = (SELECT faircopy.current_user_id()) AND EXISTS (SELECT FROM faircopy.channels AS c
        WHERE c.id = channel_id AND c.workspace_id = (SELECT faircopy.active_workspace_id())))
    WITH CHECK (clerk_user_id = (SELECT faircopy.current_user_id()) AND EXISTS (SELECT FROM faircopy.channels AS c
        WHERE c.id = channel_id AND c.workspace_id = (SELECT faircopy.active_workspace_id())));
CREATE POLICY member ON faircopy.messages
    USING (EXISTS (SELECT FROM faircopy.channels AS c
        WHERE c.id = channel_id AND c.workspace_id = (SELECT faircopy.active_workspace_id())))
    WITH CHECK (EXISTS (SELECT FROM faircopy.channels AS c
        WHERE c.id = channel_id AND c.workspace_id = (SELECT faircopy.active_workspace_id())));
DO $$
DECLARE below text;
BEGIN
    FOREACH below IN ARRAY ARRAY['documents', 'code_files', 'whiteboards', 'meetings'] LOOP
        EXECUTE format(
            'CREATE POLICY member ON faircopy.%1$I
                USING (EXISTS (SELECT FROM faircopy.rooms AS r
                    WHERE r.id = room_id AND r.workspace_id = (SELECT faircopy.active_workspace_id())))
                WITH CHECK (EXISTS (SELECT FROM faircopy.rooms AS r
                    WHERE r.id = room_id AND r.workspace_id = (SELECT faircopy.active_workspace_id())))',
            below);
    END LOOP;
END $$;

-- As in the migrations before: closed to all but the owner of the tables, who need not be the one who migrates.
REVOKE ALL ON FUNCTION faircopy.begin_workspace(), faircopy.refuse_below_ended(), faircopy.active_workspace_id() FROM PUBLIC;
DO $$
DECLARE
    holder text;
    made   text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOREACH made IN ARRAY ARRAY['workspaces', 'channels', 'messages', 'last_reads', 'rooms', 'documents', 'code_files',
        'whiteboards', 'meetings'] LOOP
        EXECUTE format('ALTER TABLE faircopy.%I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('ALTER TABLE faircopy.%I FORCE ROW LEVEL SECURITY', made);
        EXECUTE format('REVOKE ALL ON faircopy.%I FROM PUBLIC', made);
        EXECUTE format('CREATE POLICY owner ON faircopy.%I TO %I USING (true) WITH CHECK (true)', made, holder);
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'faircopy_reader') THEN
            EXECUTE format('GRANT SELECT ON faircopy.%I TO faircopy_reader', made);
        END IF;
        IF holder <> current_user THEN
            EXECUTE format('ALTER TABLE faircopy.%I OWNER TO %I', made, holder);
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'faircopy_reader') THEN
        GRANT EXECUTE ON FUNCTION faircopy.active_workspace_id() TO faircopy_reader;
    END IF;
    IF holder <> current_user THEN
        EXECUTE format('ALTER FUNCTION faircopy.begin_workspace() OWNER TO %I', holder);
        EXECUTE format('ALTER FUNCTION faircopy.refuse_below_ended() OWNER TO %I', holder);
        EXECUTE format('ALTER FUNCTION faircopy.active_workspace_id() OWNER TO %I', holder);
    END IF;
END $$;
