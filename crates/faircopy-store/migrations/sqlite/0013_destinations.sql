-- The places that the copy goes on to (docs/decisions/0026-destinations.md): declared in the settings, each with where it stands. Times are
-- milliseconds since 1970.
CREATE TABLE destinations (
    name             text PRIMARY KEY,
    kind             text NOT NULL,
    target           text NOT NULL,
    is_paused        integer NOT NULL DEFAULT 0 CHECK (is_paused IN (0, 1)),
    revision         integer NOT NULL DEFAULT 0,
    sequence         integer NOT NULL,
    runs             integer NOT NULL DEFAULT 0,
    resend_number    integer,
    resend_began_at  integer,
    resend_entity    text,
    resend_after     text,
    sweep_number     integer,
    sweep_began_at   integer,
    failures         integer NOT NULL DEFAULT 0,
    failing_since    integer,
    last_error       text,
    last_ok_at       integer,
    declared_at      integer NOT NULL
) STRICT, WITHOUT ROWID;

-- Whose message was not taken, with the last of his changes: `due_at` says when the next attempt is due, and is NULL for who is parked.
CREATE TABLE destination_parked (
    destination  text NOT NULL,
    subject      text NOT NULL,
    sequence     integer NOT NULL,
    operation    text NOT NULL,
    changed_at   integer NOT NULL,
    is_resend    integer NOT NULL CHECK (is_resend IN (0, 1)),
    attempts     integer NOT NULL,
    due_at       integer,
    since        integer NOT NULL,
    error        text NOT NULL,
    PRIMARY KEY (destination, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX destination_parked_due ON destination_parked (destination, due_at);
