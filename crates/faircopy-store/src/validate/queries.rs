//! The queries. Each gives the ids of what should not be there, in a column `id`.
//!
//! Registers hold ids in the order of bytes, the public tables in the database's own: what is compared across says so, and is
//! then joined by hashes on PostgreSQL and by keys on SQLite.

use faircopy_core::WorkspaceMode;

use crate::engine::Dialect;
use crate::records::wanted_workspace;

/// One query.
pub(super) struct Query {
    pub(super) check: &'static str,
    pub(super) finds: &'static str,
    pub(super) advice: &'static str,
    sql: &'static str,
    pub(super) since: Since,
}

/// Which queries hold in a mode of workspaces alone; all others hold in each.
const ONLY_IN: &[(&str, WorkspaceMode)] = &[("organization-without-workspace", WorkspaceMode::PerOrganization)];

/// What `$1` is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Since {
    /// There is none.
    Ever,
    /// The time so many seconds ago.
    Time { seconds: i64 },
    /// The same in milliseconds since 1970.
    Millis { seconds: i64 },
}

/// How long a row may stand on a token's word alone: a minute is what confirming takes while Clerk answers.
const PROVISIONAL_SECONDS: i64 = 3_600;
/// How long past its time an invitation may be pending. The janitor looks twice a minute.
const PENDING_SECONDS: i64 = 300;

const RECONCILE: &str =
    "read Clerk again: replay the deliveries that name these ids (`faircopy replay`), or reconcile.";
const DAMAGED: &str = "somebody has changed the tables by hand, or a backup was restored in part. Replay all deliveries \
    (`faircopy replay --all`): the merge heals what it passes.";

pub(super) const QUERIES: &[Query] = &[
    Query {
        check: "member-without-organization",
        finds: "memberships whose organization the copy does not have",
        advice: RECONCILE,
        sql: "SELECT m.clerk_org_id || '/' || m.clerk_user_id AS id\n\
              FROM {s}organization_members m\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}organizations o WHERE o.clerk_org_id = m.clerk_org_id)",
        since: Since::Ever,
    },
    Query {
        check: "member-without-user",
        finds: "memberships whose user the copy does not have",
        advice: RECONCILE,
        sql: "SELECT m.clerk_org_id || '/' || m.clerk_user_id AS id\n\
              FROM {s}organization_members m\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}users u WHERE u.clerk_user_id = m.clerk_user_id)",
        since: Since::Ever,
    },
    Query {
        check: "invitation-without-organization",
        finds: "invitations whose organization the copy does not have",
        advice: RECONCILE,
        sql: "SELECT i.clerk_invitation_id AS id\n\
              FROM {s}organization_invitations i\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}organizations o WHERE o.clerk_org_id = i.clerk_org_id)",
        since: Since::Ever,
    },
    Query {
        check: "workspace-without-meaning",
        finds: "users whose `workspace_id` is neither the one that their metadata names nor that of their oldest membership",
        advice: DAMAGED,
        sql: "SELECT u.clerk_user_id AS id\n\
              FROM {s}users u\n\
              WHERE u.workspace_id IS DISTINCT FROM\n  {wanted-workspace}",
        since: Since::Ever,
    },
    Query {
        check: "organization-without-workspace",
        finds: "organizations without a workspace of their own. With `[workspaces] mode = \"per_organization\"` alone",
        advice: "start `faircopy serve` again, or run `faircopy migrate`: both bring the workspaces up to the mode.",
        sql: "SELECT o.clerk_org_id AS id\n\
              FROM {s}organizations o\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}workspaces w\n  \
                WHERE w.id = o.clerk_org_id AND (w.clerk_org_id = o.clerk_org_id OR w.ended_at IS NOT NULL))",
        since: Since::Ever,
    },
    Query {
        check: "workspace-without-organization",
        finds: "workspaces that have not ended, although the organization that they belong to is not there",
        advice: "the organization went without its workspace: somebody has changed the tables by hand, or a backup was restored \
            in part. Look at what is in it, and set `ended_at` if it shall go.",
        sql: "SELECT w.id\n\
              FROM {s}workspaces w\n\
              WHERE w.ended_at IS NULL\n  \
                AND ((w.clerk_org_id IS NOT NULL\n      \
                    AND NOT EXISTS (SELECT 1 FROM {s}organizations o WHERE o.clerk_org_id = w.clerk_org_id))\n    \
                  OR (NOT w.is_linked\n      \
                    AND NOT EXISTS (SELECT 1 FROM {s}organizations o WHERE o.clerk_org_id = w.id)))",
        since: Since::Ever,
    },
    Query {
        check: "content-without-parent",
        finds: "channels, messages, rooms and what is in them, whose parent is missing: foreign keys were off when it was written",
        advice: "let every connection that writes to SQLite run `PRAGMA foreign_keys = ON`; then delete these rows.",
        sql: "SELECT c.id FROM {s}channels c\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}workspaces w WHERE w.id = c.workspace_id)\n\
              UNION ALL\n\
              SELECT m.id FROM {s}messages m\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}channels c WHERE c.id = m.channel_id)\n\
              UNION ALL\n\
              SELECT l.channel_id || '/' || l.clerk_user_id FROM {s}last_reads l\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}channels c WHERE c.id = l.channel_id)\n\
              UNION ALL\n\
              SELECT r.id FROM {s}rooms r\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}workspaces w WHERE w.id = r.workspace_id)\n\
              UNION ALL\n\
              SELECT d.id FROM {s}documents d\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}rooms r WHERE r.id = d.room_id)\n\
              UNION ALL\n\
              SELECT f.id FROM {s}code_files f\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}rooms r WHERE r.id = f.room_id)\n\
              UNION ALL\n\
              SELECT b.id FROM {s}whiteboards b\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}rooms r WHERE r.id = b.room_id)\n\
              UNION ALL\n\
              SELECT t.id FROM {s}meetings t\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}rooms r WHERE r.id = t.room_id)",
        since: Since::Ever,
    },
    Query {
        check: "duplicate-key",
        finds: "keys that two rows have. The primary keys forbid it; an index that was damaged (on PostgreSQL by an upgrade \
            of the system's language rules, for instance) no longer does",
        advice: "repair the index (`REINDEX`), after removing the older of the two rows.",
        sql: "SELECT clerk_user_id AS id FROM {s}users GROUP BY clerk_user_id HAVING count(*) > 1\n\
              UNION ALL\n\
              SELECT clerk_org_id FROM {s}organizations GROUP BY clerk_org_id HAVING count(*) > 1\n\
              UNION ALL\n\
              SELECT clerk_org_id || '/' || clerk_user_id FROM {s}organization_members\n\
              GROUP BY clerk_org_id, clerk_user_id HAVING count(*) > 1\n\
              UNION ALL\n\
              SELECT clerk_invitation_id FROM {s}organization_invitations GROUP BY clerk_invitation_id HAVING count(*) > 1",
        since: Since::Ever,
    },
    Query {
        check: "duplicate-membership",
        finds: "membership ids that two pairs have",
        advice: DAMAGED,
        sql: "SELECT clerk_membership_id AS id\n\
              FROM {s}organization_members\n\
              WHERE clerk_membership_id IS NOT NULL\n\
              GROUP BY clerk_membership_id HAVING count(*) > 1",
        since: Since::Ever,
    },
    Query {
        check: "shown-although-ended",
        finds: "rows of what has a tombstone, and of what lies below it: deleted stays deleted",
        advice: DAMAGED,
        sql: "SELECT u.clerk_user_id AS id\n\
              FROM {s}users u JOIN {s}registers r ON r.subject = {bytes u.clerk_user_id}\n\
              WHERE r.tombstone_at IS NOT NULL\n\
              UNION ALL\n\
              SELECT o.clerk_org_id\n\
              FROM {s}organizations o JOIN {s}registers r ON r.subject = {bytes o.clerk_org_id}\n\
              WHERE r.tombstone_at IS NOT NULL\n\
              UNION ALL\n\
              SELECT i.clerk_invitation_id\n\
              FROM {s}organization_invitations i JOIN {s}registers r ON r.subject = {bytes i.clerk_org_id}\n\
              WHERE r.tombstone_at IS NOT NULL\n\
              UNION ALL\n\
              SELECT m.clerk_org_id || '/' || m.clerk_user_id\n\
              FROM {s}organization_members m\n\
              LEFT JOIN {s}registers o ON o.subject = {bytes m.clerk_org_id}\n\
              LEFT JOIN {s}registers u ON u.subject = {bytes m.clerk_user_id}\n\
              LEFT JOIN {s}registers p ON p.subject = {bytes (m.clerk_org_id || '/' || m.clerk_user_id)}\n\
              WHERE o.tombstone_at IS NOT NULL OR u.tombstone_at IS NOT NULL\n  \
                OR (p.tombstone_at IS NOT NULL AND m.provenance <> 'token')",
        since: Since::Ever,
    },
    Query {
        check: "row-missing",
        finds: "what the merge knows to be alive and no row shows",
        advice: DAMAGED,
        sql: "SELECT r.subject AS id\n\
              FROM {s}registers r\n\
              WHERE r.subject >= 'user_' AND r.subject < 'user`' AND r.tombstone_at IS NULL\n  \
                AND (r.full_updated_at IS NOT NULL OR r.partial_event_at > COALESCE(r.last_end_at, -1))\n  \
                AND NOT EXISTS (SELECT 1 FROM {s}users u WHERE {bytes u.clerk_user_id} = r.subject)\n\
              UNION ALL\n\
              SELECT r.subject\n\
              FROM {s}registers r\n\
              WHERE r.subject >= 'org_' AND r.subject < 'org`' AND r.clerk_user_id IS NULL AND r.tombstone_at IS NULL\n  \
                AND (r.full_updated_at IS NOT NULL OR r.partial_event_at > COALESCE(r.last_end_at, -1))\n  \
                AND NOT EXISTS (SELECT 1 FROM {s}organizations o WHERE {bytes o.clerk_org_id} = r.subject)\n\
              UNION ALL\n\
              SELECT r.subject\n\
              FROM {s}registers r\n\
              WHERE r.subject >= 'orginv_' AND r.subject < 'orginv`' AND r.tombstone_at IS NULL\n  \
                AND r.full_updated_at IS NOT NULL\n  \
                AND NOT EXISTS (SELECT 1 FROM {s}organization_invitations i WHERE {bytes i.clerk_invitation_id} = r.subject)\n\
              UNION ALL\n\
              SELECT r.subject\n\
              FROM {s}registers r\n\
              WHERE r.clerk_user_id IS NOT NULL\n  \
                AND ((r.generation_at IS NOT NULL AND r.tombstone_at IS NULL)\n    \
                  OR {first r.token} > COALESCE(r.last_end_at, -1))\n  \
                AND NOT EXISTS (SELECT 1 FROM {s}organization_members m\n    \
                  WHERE {bytes m.clerk_org_id} = r.clerk_org_id AND {bytes m.clerk_user_id} = r.clerk_user_id)",
        since: Since::Ever,
    },
    Query {
        check: "row-without-register",
        finds: "rows that the merge knows nothing of: they came by another way",
        advice: "take them out by hand, and let nothing but Faircopy write these tables.",
        sql: "SELECT u.clerk_user_id AS id\n\
              FROM {s}users u\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}registers r WHERE r.subject = {bytes u.clerk_user_id})\n\
              UNION ALL\n\
              SELECT o.clerk_org_id\n\
              FROM {s}organizations o\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}registers r WHERE r.subject = {bytes o.clerk_org_id})\n\
              UNION ALL\n\
              SELECT i.clerk_invitation_id\n\
              FROM {s}organization_invitations i\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}registers r WHERE r.subject = {bytes i.clerk_invitation_id})\n\
              UNION ALL\n\
              SELECT m.clerk_org_id || '/' || m.clerk_user_id\n\
              FROM {s}organization_members m\n\
              WHERE NOT EXISTS (SELECT 1 FROM {s}registers r\n  \
                WHERE r.subject = {bytes (m.clerk_org_id || '/' || m.clerk_user_id)})",
        since: Since::Ever,
    },
    Query {
        check: "row-of-another-version",
        finds: "rows that are older (or newer) than the version that the merge knows, or of another membership than the newest",
        advice: DAMAGED,
        sql: "SELECT u.clerk_user_id AS id\n\
              FROM {s}users u JOIN {s}registers r ON r.subject = {bytes u.clerk_user_id}\n\
              WHERE r.full_updated_at IS NOT NULL AND {ms u.updated_at} IS DISTINCT FROM r.full_updated_at\n\
              UNION ALL\n\
              SELECT o.clerk_org_id\n\
              FROM {s}organizations o JOIN {s}registers r ON r.subject = {bytes o.clerk_org_id}\n\
              WHERE r.full_updated_at IS NOT NULL AND {ms o.updated_at} IS DISTINCT FROM r.full_updated_at\n\
              UNION ALL\n\
              SELECT i.clerk_invitation_id\n\
              FROM {s}organization_invitations i JOIN {s}registers r ON r.subject = {bytes i.clerk_invitation_id}\n\
              WHERE r.full_updated_at IS NOT NULL AND {ms i.updated_at} IS DISTINCT FROM r.full_updated_at\n\
              UNION ALL\n\
              SELECT m.clerk_org_id || '/' || m.clerk_user_id\n\
              FROM {s}organization_members m\n\
              JOIN {s}registers r ON r.subject = {bytes (m.clerk_org_id || '/' || m.clerk_user_id)}\n\
              WHERE r.generation_at IS NOT NULL AND r.tombstone_at IS NULL\n  \
                AND ({ms m.updated_at} IS DISTINCT FROM r.full_updated_at\n    \
                  OR {bytes m.clerk_membership_id} IS DISTINCT FROM r.generation_id)",
        since: Since::Ever,
    },
    Query {
        check: "provisional-for-long",
        finds: "rows that only a session token has spoken for, for more than an hour",
        advice: "set `CLERK_SECRET_KEY`, so that they are read from Clerk; where it is set, `/readyz` says under `clerk` \
            whether the key is good, and the log why it is not asked.",
        sql: "SELECT u.clerk_user_id AS id\n\
              FROM {s}users u JOIN {s}registers r ON r.subject = {bytes u.clerk_user_id}\n\
              WHERE u.provenance = 'token' AND r.partial_event_at < $1\n\
              UNION ALL\n\
              SELECT o.clerk_org_id\n\
              FROM {s}organizations o JOIN {s}registers r ON r.subject = {bytes o.clerk_org_id}\n\
              WHERE o.provenance = 'token' AND r.partial_event_at < $1\n\
              UNION ALL\n\
              SELECT m.clerk_org_id || '/' || m.clerk_user_id\n\
              FROM {s}organization_members m\n\
              JOIN {s}registers r ON r.subject = {bytes (m.clerk_org_id || '/' || m.clerk_user_id)}\n\
              WHERE m.provenance = 'token' AND {first r.token} < $1",
        since: Since::Millis { seconds: PROVISIONAL_SECONDS },
    },
    Query {
        check: "delivery-quarantined",
        finds: "deliveries that could not be understood: what they say is not in the copy",
        advice: "look at their `error` (`GET /admin/v1/deliveries?outcome=quarantined`); after an update that understands \
            them, `faircopy replay --failed`.",
        sql: "SELECT svix_id AS id\n\
              FROM {s}webhook_deliveries\n\
              WHERE outcome = 'quarantined'",
        since: Since::Ever,
    },
    Query {
        check: "feed-gap",
        finds: "numbers that the change feed lacks (the first of each gap)",
        advice: "whoever follows the feed must read the tables anew. Entries were deleted by hand, or a backup is of two times.",
        sql: "SELECT CAST(n.sequence + 1 AS text) AS id\n\
              FROM (SELECT forgotten AS sequence FROM {s}feed UNION ALL SELECT sequence FROM {s}changes) n\n\
              WHERE n.sequence < (SELECT max(sequence) FROM {s}changes)\n  \
                AND NOT EXISTS (SELECT 1 FROM {s}changes c WHERE c.sequence = n.sequence + 1)",
        since: Since::Ever,
    },
    Query {
        check: "feed-counter",
        finds: "a counter of the change feed that is not its last number, or none",
        advice: "stop every replica and set it (`UPDATE feed SET sequence = …`) to the greatest number of `changes`.",
        sql: "SELECT CAST(f.sequence AS text) AS id\n\
              FROM {s}feed f\n\
              WHERE f.sequence <> (SELECT COALESCE(max(sequence), 0) FROM {s}changes)\n\
              UNION ALL\n\
              SELECT 'missing' WHERE NOT EXISTS (SELECT 1 FROM {s}feed)",
        since: Since::Ever,
    },
    Query {
        check: "invitation-past-its-time",
        finds: "invitations that are pending more than 5 minutes after they have expired",
        advice: "`faircopy serve` lets them expire twice a minute: look whether one runs on this database, and into its log.",
        sql: "SELECT clerk_invitation_id AS id\n\
              FROM {s}organization_invitations\n\
              WHERE status = 'pending' AND expires_at < {as-time $1}",
        since: Since::Time { seconds: PENDING_SECONDS },
    },
];

impl Query {
    /// Whether it holds in this mode.
    pub(super) fn holds_in(&self, mode: WorkspaceMode) -> bool {
        ONLY_IN.iter().all(|(check, only)| *check != self.check || *only == mode)
    }

    /// The text with the words of a [`Dialect`] still to be filled in.
    pub(super) fn statement(&self) -> String {
        self.sql.replace("{wanted-workspace}", &wanted_workspace("u"))
    }

    /// The text as people run it: nothing is to be filled in.
    pub(super) fn for_people(&self, dialect: Dialect) -> String {
        let since = match (self.since, dialect) {
            (Since::Ever, _) => String::new(),
            (Since::Time { seconds }, Dialect::Postgres) => format!("now() - interval '{seconds} seconds'"),
            (Since::Time { seconds }, Dialect::Sqlite) => {
                format!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{seconds} seconds')")
            }
            (Since::Millis { seconds }, Dialect::Postgres) => {
                format!("(extract(epoch FROM now()) - {seconds}) * 1000")
            }
            (Since::Millis { seconds }, Dialect::Sqlite) => format!("(unixepoch('now') - {seconds}) * 1000"),
        };
        dialect.fill(&self.statement()).replace("$1", &since)
    }
}
