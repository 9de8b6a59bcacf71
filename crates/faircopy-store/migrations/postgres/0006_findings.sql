-- Troubles that are known now, whichever replica found them (docs/errors.md). What is over is not here.
CREATE TABLE faircopy.findings (
    name     text COLLATE "C" PRIMARY KEY,
    since    timestamptz NOT NULL,
    seen_at  timestamptz NOT NULL,
    detail   text NOT NULL
);

DO $$
DECLARE
    holder text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    ALTER TABLE faircopy.findings ENABLE ROW LEVEL SECURITY;
    ALTER TABLE faircopy.findings FORCE ROW LEVEL SECURITY;
    REVOKE ALL ON faircopy.findings FROM PUBLIC;
    EXECUTE format('CREATE POLICY owner ON faircopy.findings TO %I USING (true) WITH CHECK (true)', holder);
    IF holder <> current_user THEN
        EXECUTE format('ALTER TABLE faircopy.findings OWNER TO %I', holder);
    END IF;
END $$;
