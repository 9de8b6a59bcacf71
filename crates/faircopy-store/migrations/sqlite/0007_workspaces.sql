-- Workspaces and what is in them (docs/workspaces.md). `workspaces` follows the organizations; the tables below it are the
-- application's to write: ids are texts of its own choosing, everything else has a default. Foreign keys hold for connections
-- with `PRAGMA foreign_keys = ON`.

CREATE TABLE workspaces (
    id            text PRIMARY KEY,
    clerk_org_id  text UNIQUE,
    name          text,
    owner_id      text,
    is_linked     integer NOT NULL DEFAULT 0 CHECK (is_linked IN (0, 1)),
    ended_at      text,
    created_at    text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT, WITHOUT ROWID;
-- Which organizations name a workspace.
CREATE INDEX organizations_workspace ON organizations (workspace_id) WHERE workspace_id IS NOT NULL;

CREATE TABLE channels (
    id            text PRIMARY KEY,
    workspace_id  text NOT NULL REFERENCES workspaces (id),
    name          text NOT NULL DEFAULT '',
    created_at    text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT, WITHOUT ROWID;
CREATE INDEX channels_workspace ON channels (workspace_id);

CREATE TABLE messages (
    id          text NOT NULL PRIMARY KEY,
    channel_id  text NOT NULL REFERENCES channels (id),
    author_id   text,
    body        text NOT NULL DEFAULT '',
    created_at  text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
CREATE INDEX messages_channel ON messages (channel_id, created_at);

CREATE TABLE last_reads (
    channel_id     text NOT NULL REFERENCES channels (id),
    clerk_user_id  text NOT NULL,
    read_at        text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (channel_id, clerk_user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX last_reads_user ON last_reads (clerk_user_id);

CREATE TABLE rooms (
    id            text PRIMARY KEY,
    workspace_id  text NOT NULL REFERENCES workspaces (id),
    name          text NOT NULL DEFAULT '',
    kind          text NOT NULL DEFAULT 'document' CHECK (kind IN ('document', 'code', 'whiteboard', 'conference')),
    created_at    text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT, WITHOUT ROWID;
CREATE INDEX rooms_workspace ON rooms (workspace_id);

CREATE TABLE documents (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT, WITHOUT ROWID;
CREATE INDEX documents_room ON documents (room_id);

CREATE TABLE code_files (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT, WITHOUT ROWID;
CREATE INDEX code_files_room ON code_files (room_id);

CREATE TABLE whiteboards (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT, WITHOUT ROWID;
CREATE INDEX whiteboards_room ON whiteboards (room_id);

CREATE TABLE meetings (
    id          text PRIMARY KEY,
    room_id     text NOT NULL REFERENCES rooms (id),
    title       text NOT NULL DEFAULT '',
    created_at  text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT, WITHOUT ROWID;
CREATE INDEX meetings_room ON meetings (room_id);

-- An organization's own workspace begins with a channel. What is in a linked one is the application's.
CREATE TRIGGER workspaces_general AFTER INSERT ON workspaces WHEN NEW.is_linked = 0 AND NEW.ended_at IS NULL
BEGIN
    INSERT INTO channels (id, workspace_id, name, created_at)
    VALUES (NEW.id || ':general', NEW.id, 'general', NEW.created_at) ON CONFLICT (id) DO NOTHING;
END;

-- Nothing new goes below a workspace that has ended: it is being deleted.
CREATE TRIGGER channels_not_below_ended BEFORE INSERT ON channels
WHEN EXISTS (SELECT 1 FROM workspaces w WHERE w.id = NEW.workspace_id AND w.ended_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the workspace has ended and is being deleted: nothing new goes into it'); END;
CREATE TRIGGER channels_not_moved_below_ended BEFORE UPDATE OF workspace_id ON channels
WHEN NEW.workspace_id <> OLD.workspace_id
    AND EXISTS (SELECT 1 FROM workspaces w WHERE w.id = NEW.workspace_id AND w.ended_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the workspace has ended and is being deleted: nothing new goes into it'); END;
CREATE TRIGGER rooms_not_below_ended BEFORE INSERT ON rooms
WHEN EXISTS (SELECT 1 FROM workspaces w WHERE w.id = NEW.workspace_id AND w.ended_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the workspace has ended and is being deleted: nothing new goes into it'); END;
CREATE TRIGGER rooms_not_moved_below_ended BEFORE UPDATE OF workspace_id ON rooms
WHEN NEW.workspace_id <> OLD.workspace_id
    AND EXISTS (SELECT 1 FROM workspaces w WHERE w.id = NEW.workspace_id AND w.ended_at IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the workspace has ended and is being deleted: nothing new goes into it'); END;
