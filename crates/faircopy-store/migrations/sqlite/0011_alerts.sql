-- What is said of troubles, and to whom (docs/decisions/0021-alerts.md). Times that decide are milliseconds since 1970.

-- How bad a finding is; where nothing is said, as bad as its name.
ALTER TABLE findings ADD COLUMN severity text;

-- A finding from when it was first seen until it was over, and what came before.
CREATE TABLE alerts (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    severity     text NOT NULL,
    detail       text NOT NULL,
    since        integer NOT NULL,
    seen_at      integer NOT NULL,
    first_at     integer NOT NULL,
    raised_at    integer,
    gone_at      integer,
    resolved_at  integer
) STRICT;
CREATE UNIQUE INDEX alerts_open ON alerts (name) WHERE resolved_at IS NULL;
CREATE INDEX alerts_raised ON alerts (raised_at) WHERE raised_at IS NOT NULL;

-- What each target was told last of each.
CREATE TABLE alerts_told (
    alert     text NOT NULL,
    target    text NOT NULL,
    event     text NOT NULL,
    severity  text NOT NULL,
    number    integer NOT NULL,
    told_at   integer NOT NULL,
    PRIMARY KEY (alert, target)
) STRICT;

-- How each target answered.
CREATE TABLE alert_targets (
    name         text PRIMARY KEY,
    failures     integer NOT NULL DEFAULT 0,
    due_at       integer NOT NULL DEFAULT 0,
    last_ok_at   integer,
    last_error   text
) STRICT;

-- What the endpoint answered, by slots of time, all replicas together.
CREATE TABLE tallies (
    slot    integer NOT NULL,
    kind    text NOT NULL,
    number  integer NOT NULL,
    PRIMARY KEY (slot, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX tallies_kind ON tallies (kind, slot);

-- What each replica measured last, of its clock.
CREATE TABLE gauges (
    holder  text NOT NULL,
    name    text NOT NULL,
    value   integer NOT NULL,
    at      integer NOT NULL,
    PRIMARY KEY (holder, name)
) STRICT, WITHOUT ROWID;

-- When something was done that is to be remembered.
CREATE TABLE marks (
    name  text PRIMARY KEY,
    at    integer NOT NULL
) STRICT;
