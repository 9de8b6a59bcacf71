-- SQLite has no roles to read as: of this step's two halves it has the secrets alone.

-- Secrets that all who open this file share. The cursors' key (docs/decisions/0011-sealed-cursors.md) is made here, out of
-- 256 random bits, and so is there as soon as the schema is complete.
CREATE TABLE secrets (
    name    text PRIMARY KEY,
    secret  text NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO secrets (name, secret) VALUES ('cursors', lower(hex(randomblob(32))));
