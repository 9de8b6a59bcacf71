-- Reading Clerk from end to end (docs/decisions/0015-sweeps.md).

-- Who may do what only one replica should. The fence counts the holders: whoever has an older one commits nothing.
CREATE TABLE faircopy.leases (
    name     text COLLATE "C" PRIMARY KEY,
    holder   text NOT NULL,
    fence    bigint NOT NULL,
    until_at bigint NOT NULL
);

-- Each sweep, under way or over: where its walks stand, and what it found.
CREATE TABLE faircopy.sweeps (
    id           bigint PRIMARY KEY,
    kind         text NOT NULL,
    outcome      text,
    began_at     timestamptz NOT NULL,
    saved_at     timestamptz NOT NULL,
    finished_at  timestamptz,
    state        text NOT NULL,
    report       text NOT NULL
);

-- What the walks of a sweep have seen, until it is over; and what it looked for and did not find.
CREATE TABLE faircopy.sweep_seen (
    sweep    bigint NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    subject  text COLLATE "C" NOT NULL,
    PRIMARY KEY (sweep, kind, subject)
);
CREATE TABLE faircopy.sweep_absences (
    sweep      bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    denied_at  bigint NOT NULL,
    is_token   boolean NOT NULL,
    PRIMARY KEY (sweep, kind, subject)
);

-- The time before which everything is proven to be in the copy (docs/freshness.md), and the instance that it was proven with.
CREATE TABLE faircopy.proofs (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    complete_at  timestamptz,
    instance_id  text
) WITH (fillfactor = 10);
INSERT INTO faircopy.proofs (complete_at) VALUES (NULL);

DO $$
DECLARE
    holder text;
    made   text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOREACH made IN ARRAY ARRAY['leases', 'sweeps', 'sweep_seen', 'sweep_absences', 'proofs'] LOOP
        EXECUTE format('ALTER TABLE faircopy.%I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('ALTER TABLE faircopy.%I FORCE ROW LEVEL SECURITY', made);
        EXECUTE format('REVOKE ALL ON faircopy.%I FROM PUBLIC', made);
        EXECUTE format('CREATE POLICY owner ON faircopy.%I TO %I USING (true) WITH CHECK (true)', made, holder);
        IF holder <> current_user THEN
            EXECUTE format('ALTER TABLE faircopy.%I OWNER TO %I', made, holder);
        END IF;
    END LOOP;
END $$;
