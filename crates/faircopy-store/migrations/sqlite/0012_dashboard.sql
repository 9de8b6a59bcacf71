-- What the dashboard shows of time: one replica adds up each delivery once, by minute and by hour (grain_ms).
CREATE TABLE activity (
    grain_ms    integer NOT NULL,
    at          integer NOT NULL,
    outcome     text NOT NULL,
    deliveries  integer NOT NULL,
    lagging     integer NOT NULL,
    lag_ms      integer NOT NULL,
    max_lag_ms  integer NOT NULL,
    PRIMARY KEY (grain_ms, at, outcome)
) STRICT, WITHOUT ROWID;

-- Up to which arrival that was done.
CREATE TABLE activity_place (
    singleton  integer PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    until_at   integer
) STRICT;
INSERT INTO activity_place (until_at) VALUES (NULL);

-- Rows of large tables, counted now and then.
CREATE TABLE row_counts (
    name        text PRIMARY KEY,
    row_count   integer NOT NULL,
    counted_at  integer NOT NULL
) STRICT, WITHOUT ROWID;

-- Who is signed in to the dashboard: a hash of what the cookie holds.
CREATE TABLE dashboard_sessions (
    id        text PRIMARY KEY,
    began_at  integer NOT NULL,
    until_at  integer NOT NULL
) STRICT, WITHOUT ROWID;
