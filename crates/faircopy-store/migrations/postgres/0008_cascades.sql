-- What goes when an organization or a user goes (docs/decisions/0018-workspaces-and-cascades.md).

-- One job for each that went. Times that decide are milliseconds since 1970.
CREATE TABLE faircopy.cascades (
    subject       text COLLATE "C" PRIMARY KEY,
    kind          text NOT NULL,
    workspace_id  text COLLATE "C",
    name          text,
    state         text NOT NULL,
    reason        text,
    created_at    bigint NOT NULL,
    due_at        bigint,
    failures      bigint NOT NULL DEFAULT 0,
    passes        bigint NOT NULL DEFAULT 0,
    found_again   boolean NOT NULL DEFAULT false,
    is_released   boolean NOT NULL DEFAULT false,
    has_skipped   boolean NOT NULL DEFAULT false,
    has_content   boolean,
    error         text,
    confirmed_at  timestamptz,
    rows_gone_at  timestamptz,
    steps_gone_at timestamptz,
    finished_at   timestamptz
);
COMMENT ON COLUMN faircopy.cascades.confirmed_at IS 'when Clerk said that it has the subject no more';
COMMENT ON COLUMN faircopy.cascades.has_content IS 'whether an application had anything in it: the burst breaker counts those';
CREATE INDEX cascades_due ON faircopy.cascades (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX cascades_created ON faircopy.cascades (created_at, subject);
CREATE INDEX cascades_under_way ON faircopy.cascades (workspace_id) WHERE state NOT IN ('done', 'cancelled');

-- What was deleted for a job, by table.
CREATE TABLE faircopy.cascade_counts (
    subject  text COLLATE "C" NOT NULL,
    place    text COLLATE "C" NOT NULL,
    removed  bigint NOT NULL,
    PRIMARY KEY (subject, place)
);

-- What must be done outside, written with the deletion of the row that it belonged to.
CREATE TABLE faircopy.outbox (
    subject      text COLLATE "C" NOT NULL,
    target       text COLLATE "C" NOT NULL,
    external_id  text COLLATE "C" NOT NULL,
    state        text NOT NULL,
    attempts     bigint NOT NULL DEFAULT 0,
    due_at       bigint NOT NULL,
    error        text,
    written_at   timestamptz NOT NULL,
    settled_at   timestamptz,
    PRIMARY KEY (subject, target, external_id)
) WITH (fillfactor = 80);
CREATE INDEX outbox_waiting ON faircopy.outbox (target, due_at) WHERE state = 'waiting';

DO $$
DECLARE
    holder text;
    made   text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOREACH made IN ARRAY ARRAY['cascades', 'cascade_counts', 'outbox'] LOOP
        EXECUTE format('ALTER TABLE faircopy.%I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('ALTER TABLE faircopy.%I FORCE ROW LEVEL SECURITY', made);
        EXECUTE format('REVOKE ALL ON faircopy.%I FROM PUBLIC', made);
        EXECUTE format('CREATE POLICY owner ON faircopy.%I TO %I USING (true) WITH CHECK (true)', made, holder);
        IF holder <> current_user THEN
            EXECUTE format('ALTER TABLE faircopy.%I OWNER TO %I', made, holder);
        END IF;
    END LOOP;
END $$;
