-- What goes when an organization or a user goes (docs/decisions/0018-workspaces-and-cascades.md).

-- One job for each that went. Times that decide are milliseconds since 1970.
CREATE TABLE cascades (
    subject       text PRIMARY KEY,
    kind          text NOT NULL,
    workspace_id  text,
    name          text,
    state         text NOT NULL,
    reason        text,
    created_at    integer NOT NULL,
    due_at        integer,
    failures      integer NOT NULL DEFAULT 0,
    passes        integer NOT NULL DEFAULT 0,
    found_again   integer NOT NULL DEFAULT 0,
    is_released   integer NOT NULL DEFAULT 0,
    has_skipped   integer NOT NULL DEFAULT 0,
    has_content   integer,
    error         text,
    confirmed_at  text,
    rows_gone_at  text,
    steps_gone_at text,
    finished_at   text
) STRICT;
CREATE INDEX cascades_due ON cascades (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX cascades_created ON cascades (created_at, subject);
CREATE INDEX cascades_under_way ON cascades (workspace_id) WHERE state NOT IN ('done', 'cancelled');

-- What was deleted for a job, by table.
CREATE TABLE cascade_counts (
    subject  text NOT NULL,
    place    text NOT NULL,
    removed  integer NOT NULL,
    PRIMARY KEY (subject, place)
) STRICT;

-- What must be done outside, written with the deletion of the row that it belonged to.
CREATE TABLE outbox (
    subject      text NOT NULL,
    target       text NOT NULL,
    external_id  text NOT NULL,
    state        text NOT NULL,
    attempts     integer NOT NULL DEFAULT 0,
    due_at       integer NOT NULL,
    error        text,
    written_at   text NOT NULL,
    settled_at   text,
    PRIMARY KEY (subject, target, external_id)
) STRICT;
CREATE INDEX outbox_waiting ON outbox (target, due_at) WHERE state = 'waiting';
