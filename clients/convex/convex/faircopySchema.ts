// The tables of the copy. Spread them in your schema: `defineSchema({ ...faircopyTables, … })`.
//
// Faircopy writes all of them, your functions read them. A table may have further fields of your own, as long as they are
// optional: Faircopy leaves them alone until the row goes (docs/convex.md).
//
// Times are milliseconds since 1970. What Clerk has no value for, or what the minimal profile mode does not store, is absent.
// Metadata is JSON text, because Clerk allows keys that Convex refuses: read it with `metadataOf`.

import { defineTable } from "convex/server";
import { v } from "convex/values";

const text = v.optional(v.string());
const time = v.optional(v.number());
const flag = v.optional(v.boolean());

/** What every row of the copy has beside its own columns. */
const bookkeeping = {
  /** The number of the change that the row is from. A row without one was here before Faircopy, and goes with the next sweep. */
  sequence: v.optional(v.number()),
  /** Columns that were too large to be kept here. */
  leftOut: v.optional(v.array(v.string())),
};

/** The fields of each table, for a table of your own that has more. */
export const faircopyFields = {
  users: {
    clerkUserId: v.string(),
    externalId: text,
    username: text,
    firstName: text,
    lastName: text,
    name: text,
    email: text,
    imageUrl: text,
    /** From the user's public metadata, or of the oldest membership. */
    workspaceId: text,
    /** JSON text. */
    publicMetadata: text,
    banned: flag,
    locked: flag,
    provenance: text,
    createdAt: time,
    updatedAt: time,
    ...bookkeeping,
  },
  organizations: {
    clerkOrgId: v.string(),
    name: text,
    slug: text,
    imageUrl: text,
    createdBy: text,
    /** The public metadata. JSON text. */
    settings: text,
    /** The workspace that the public metadata names. */
    workspaceId: text,
    provenance: text,
    createdAt: time,
    updatedAt: time,
    ...bookkeeping,
  },
  organizationMembers: {
    clerkOrgId: v.string(),
    clerkUserId: v.string(),
    clerkMembershipId: text,
    /** In Clerk's own form: `org:admin`, `org:member`, or a custom one. */
    role: text,
    permissions: v.optional(v.array(v.string())),
    provenance: text,
    createdAt: time,
    updatedAt: time,
    ...bookkeeping,
  },
  organizationInvitations: {
    clerkInvitationId: v.string(),
    clerkOrgId: text,
    email: text,
    role: text,
    status: text,
    expiresAt: time,
    provenance: text,
    createdAt: time,
    updatedAt: time,
    ...bookkeeping,
  },
  workspaces: {
    workspaceId: v.string(),
    clerkOrgId: text,
    name: text,
    ownerId: text,
    isLinked: flag,
    endedAt: time,
    createdAt: time,
    ...bookkeeping,
  },
};

export const faircopyTables = {
  users: defineTable(faircopyFields.users)
    .index("by_clerk_user_id", ["clerkUserId"])
    .index("by_workspace", ["workspaceId"])
    .index("by_external_id", ["externalId"])
    .index("by_email", ["email"])
    .index("by_sequence", ["sequence"]),

  organizations: defineTable(faircopyFields.organizations)
    .index("by_clerk_org_id", ["clerkOrgId"])
    .index("by_slug", ["slug"])
    .index("by_workspace", ["workspaceId"])
    .index("by_sequence", ["sequence"]),

  organizationMembers: defineTable(faircopyFields.organizationMembers)
    .index("by_organization_and_user", ["clerkOrgId", "clerkUserId"])
    .index("by_user_and_organization", ["clerkUserId", "clerkOrgId"])
    .index("by_sequence", ["sequence"]),

  organizationInvitations: defineTable(faircopyFields.organizationInvitations)
    .index("by_clerk_invitation_id", ["clerkInvitationId"])
    .index("by_organization", ["clerkOrgId"])
    .index("by_sequence", ["sequence"]),

  workspaces: defineTable(faircopyFields.workspaces)
    .index("by_workspace_id", ["workspaceId"])
    .index("by_organization", ["clerkOrgId"])
    .index("by_sequence", ["sequence"]),

  /** Subjects that were removed, so that an attempt that arrives late cannot bring them back. Ids only. */
  faircopyRemoved: defineTable({ entity: v.string(), id: v.string(), sequence: v.number() })
    .index("by_subject", ["entity", "id"])
    .index("by_sequence", ["sequence"]),

  /** One row: a subject that is neither held nor remembered counts as removed at this number. Raised by each sweep. */
  faircopyFloor: defineTable({ sequence: v.number() }),

  /** The audit: each batch that was applied, and what became of its changes. Ids only. */
  faircopyBatches: defineTable({
    appliedAt: v.number(),
    changes: v.array(
      v.object({
        sequence: v.number(),
        entity: v.string(),
        id: v.string(),
        operation: v.string(),
        outcome: v.union(v.literal("applied"), v.literal("stale"), v.literal("unknown")),
        resend: v.optional(v.boolean()),
      }),
    ),
    /** How many rows a sweep took away. */
    swept: v.optional(v.number()),
  }).index("by_applied_at", ["appliedAt"]),
};
