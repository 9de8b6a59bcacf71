-- The places that the copy goes on to (docs/decisions/0026-destinations.md): declared in the settings, each with where it stands. Times are
-- milliseconds since 1970.
CREATE TABLE faircopy.destinations (
    name             text COLLATE "C" PRIMARY KEY,
    kind             text NOT NULL,
    target           text NOT NULL,
    is_paused        boolean NOT NULL DEFAULT false,
    revision         bigint NOT NULL DEFAULT 0,
    sequence         bigint NOT NULL,
    runs             bigint NOT NULL DEFAULT 0,
    resend_number    bigint,
    resend_began_at  bigint,
    resend_entity    text,
    resend_after     text,
    sweep_number     bigint,
    sweep_began_at   bigint,
    failures         bigint NOT NULL DEFAULT 0,
    failing_since    bigint,
    last_error       text,
    last_ok_at       bigint,
    declared_at      bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN faircopy.destinations.target IS 'a hash of where it leads and what it wants: when it changes, everything is sent again';
COMMENT ON COLUMN faircopy.destinations.revision IS 'goes up with each order of an operator: what was under way before it is not written down';

-- Whose message was not taken, with the last of his changes: `due_at` says when the next attempt is due, and is NULL for who is parked.
CREATE TABLE faircopy.destination_parked (
    destination  text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    sequence     bigint NOT NULL,
    operation    text NOT NULL,
    changed_at   bigint NOT NULL,
    is_resend    boolean NOT NULL,
    attempts     bigint NOT NULL,
    due_at       bigint,
    since        bigint NOT NULL,
    error        text NOT NULL,
    PRIMARY KEY (destination, subject)
);
CREATE INDEX destination_parked_due ON faircopy.destination_parked (destination, due_at);

DO $$
DECLARE
    holder text;
    made   text;
BEGIN
    SELECT pg_get_userbyid(relowner) INTO holder FROM pg_class WHERE oid = 'faircopy.users'::regclass;
    FOREACH made IN ARRAY ARRAY['destinations', 'destination_parked'] LOOP
        EXECUTE format('ALTER TABLE faircopy.%I ENABLE ROW LEVEL SECURITY', made);
        EXECUTE format('ALTER TABLE faircopy.%I FORCE ROW LEVEL SECURITY', made);
        EXECUTE format('REVOKE ALL ON faircopy.%I FROM PUBLIC', made);
        EXECUTE format('CREATE POLICY owner ON faircopy.%I TO %I USING (true) WITH CHECK (true)', made, holder);
        IF holder <> current_user THEN
            EXECUTE format('ALTER TABLE faircopy.%I OWNER TO %I', made, holder);
        END IF;
    END LOOP;
END $$;
