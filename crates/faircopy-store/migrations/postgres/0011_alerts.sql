-- What is said of troubles, and to whom (docs/decisions/0021-alerts.md). Times that decide are milliseconds since 1970.

-- How bad a finding is; where nothing is said, as bad as its name.
ALTER TABLE faircopy.findings ADD COLUMN severity text;

-- A finding from when it was first seen until it was over, and what came before.
CREATE TABLE faircopy.alerts (
    id           text COLLATE "C" PRIMARY KEY,
    name         text COLLATE "C" NOT NULL,
    severity     text NOT NULL,
    detail       text NOT NULL,
    since        bigint NOT NULL,
    seen_at      bigint NOT NULL,
    first_at     bigint NOT NULL,
    raised_at    bigint,
    gone_at      bigint,
    resolved_at  bigint
);
CREATE UNIQUE INDEX alerts_open ON faircopy.alerts (name) WHERE resolved_at IS NULL;
CREATE INDEX alerts_raised ON faircopy.alerts (raised_at) WHERE raised_at IS NOT NULL;

-- What each target was told last of each.
CREATE TABLE faircopy.alerts_told (
    alert     text COLLATE "C" NOT NULL,
    target    text COLLATE "C" NOT NULL,
    event     text NOT NULL,
    severity  text NOT NULL,
    number    bigint NOT NULL,
    told_at   bigint NOT NULL,
    PRIMARY KEY (alert, target)
);

-- How each target answered.
CREATE TABLE faircopy.alert_targets (
    name         text COLLATE "C" PRIMARY KEY,
    failures     bigint NOT NULL DEFAULT 0,
    due_at       bigint NOT NULL DEFAULT 0,
    last_ok_at   bigint,
    last_error   text
);

-- What the endpoint answered, by slots of time, all replicas together.
CREATE TABLE faircopy.tallies (
    slot    bigint NOT NULL,
    kind    text COLLATE "C" NOT NULL,
    number  bigint NOT NULL,
    PRIMARY KEY (slot, kind)
);
CREATE INDEX tallies_kind ON faircopy.tallies (kind, slot);

-- What each replica measured last, of its clock.
CREATE TABLE faircopy.gauges (
    holder  text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    value   bigint NOT NULL,
    at      bigint NOT NULL,
    PRIMARY KEY (holder, name)
);

-- When something was done that is to be remembered.
CREATE TABLE faircopy.marks (
    name  text COLLATE "C" PRIMARY KEY,
    at    bigint NOT NULL
);

DO $$
DECLARE
    holder text;
    made   text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOREACH made IN ARRAY ARRAY['alerts', 'alerts_told', 'alert_targets', 'tallies', 'gauges', 'marks'] LOOP
        EXECUTE format('ALTER TABLE faircopy.%I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('ALTER TABLE faircopy.%I FORCE ROW LEVEL SECURITY', made);
        EXECUTE format('REVOKE ALL ON faircopy.%I FROM PUBLIC', made);
        EXECUTE format('CREATE POLICY owner ON faircopy.%I TO %I USING (true) WITH CHECK (true)', made, holder);
        IF holder <> current_user THEN
            EXECUTE format('ALTER TABLE faircopy.%I OWNER TO %I', made, holder);
        END IF;
    END LOOP;
END $$;
