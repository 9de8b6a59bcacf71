-- Troubles that are known now, whichever replica found them (docs/errors.md). What is over is not here.
CREATE TABLE findings (
    name     text PRIMARY KEY,
    since    text NOT NULL,
    seen_at  text NOT NULL,
    detail   text NOT NULL
) STRICT;
