-- Reading Clerk from end to end (docs/decisions/0015-sweeps.md).

-- Who may do what only one process should. The fence counts the holders: whoever has an older one commits nothing.
CREATE TABLE leases (
    name      text PRIMARY KEY,
    holder    text NOT NULL,
    fence     integer NOT NULL,
    until_at  integer NOT NULL
) STRICT, WITHOUT ROWID;

-- Each sweep, under way or over: where its walks stand, and what it found.
CREATE TABLE sweeps (
    id           integer PRIMARY KEY,
    kind         text NOT NULL,
    outcome      text,
    began_at     text NOT NULL,
    saved_at     text NOT NULL,
    finished_at  text,
    state        text NOT NULL,
    report       text NOT NULL
) STRICT;

-- What the walks of a sweep have seen, until it is over; and what it looked for and did not find.
CREATE TABLE sweep_seen (
    sweep    integer NOT NULL,
    kind     text NOT NULL,
    subject  text NOT NULL,
    PRIMARY KEY (sweep, kind, subject)
) STRICT, WITHOUT ROWID;
CREATE TABLE sweep_absences (
    sweep      integer NOT NULL,
    kind       text NOT NULL,
    subject    text NOT NULL,
    denied_at  integer NOT NULL,
    is_token   integer NOT NULL,
    PRIMARY KEY (sweep, kind, subject)
) STRICT, WITHOUT ROWID;

-- The time before which everything is proven to be in the copy (docs/freshness.md), and the instance that it was proven with.
CREATE TABLE proofs (
    singleton    integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    complete_at  text,
    instance_id  text
) STRICT;
INSERT INTO proofs (complete_at) VALUES (NULL);
