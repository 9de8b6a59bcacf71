-- What the dashboard shows of time: one replica adds up each delivery once, by minute and by hour (grain_ms).
CREATE TABLE faircopy.activity (
    grain_ms    bigint NOT NULL,
    at          bigint NOT NULL,
    outcome     text COLLATE "C" NOT NULL,
    deliveries  bigint NOT NULL,
    lagging     bigint NOT NULL,
    lag_ms      bigint NOT NULL,
    max_lag_ms  bigint NOT NULL,
    PRIMARY KEY (grain_ms, at, outcome)
) WITH (fillfactor = 80);

-- Up to which arrival that was done.
CREATE TABLE faircopy.activity_place (
    singleton  integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    until_at   bigint
);
INSERT INTO faircopy.activity_place (until_at) VALUES (NULL);

-- Rows of large tables, counted now and then.
CREATE TABLE faircopy.row_counts (
    name        text COLLATE "C" PRIMARY KEY,
    row_count   bigint NOT NULL,
    counted_at  bigint NOT NULL
);

-- Who is signed in to the dashboard: a hash of what the cookie holds.
CREATE TABLE faircopy.dashboard_sessions (
    id        text COLLATE "C" PRIMARY KEY,
    began_at  bigint NOT NULL,
    until_at  bigint NOT NULL
);

DO $$
DECLARE
    holder text;
    made   text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOREACH made IN ARRAY ARRAY['activity', 'activity_place', 'row_counts', 'dashboard_sessions'] LOOP
        EXECUTE format('ALTER TABLE faircopy.%I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('ALTER TABLE faircopy.%I FORCE ROW LEVEL SECURITY', made);
        EXECUTE format('REVOKE ALL ON faircopy.%I FROM PUBLIC', made);
        EXECUTE format('CREATE POLICY owner ON faircopy.%I TO %I USING (true) WITH CHECK (true)', made, holder);
        IF holder <> current_user THEN
            EXECUTE format('ALTER TABLE faircopy.%I OWNER TO %I', made, holder);
        END IF;
    END LOOP;
END $$;
