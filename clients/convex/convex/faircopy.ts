// The copy of Clerk's users, organizations, members, invitations and workspaces, as Faircopy pushes it here.
//
//   apply       what Faircopy calls: a batch of changes, in one transaction. Internal, like all that writes
//   queries     what your pages call: each tells the caller what the caller may know
//   functions   what your own queries and mutations call: `requireMember`, `currentUser`, `metadataOf`, …
//
// The rules, whatever comes how often and in which order: each change has a number. A row keeps the number that it is from,
// and a subject that was removed is remembered with its number. What is not newer is left out.

import { paginationOptsValidator } from "convex/server";
import { ConvexError, v } from "convex/values";
import type { GenericValidator, Infer } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel";
import { internalMutation, internalQuery, query } from "./_generated/server";
import type { MutationCtx, QueryCtx } from "./_generated/server";
import { onEffect } from "./faircopyHooks";
import type { faircopyFields } from "./faircopySchema";

// --- Bounds ----------------------------------------------------------------------------------------------------------

/** Changes in one batch. A change reads up to three of the 4,096 index ranges that a mutation may read. */
const MAX_CHANGES = 1000;
/** Rows that one call of a sweep or of `reset` takes away, of the 16,000 that a mutation may write; hooks write, too. */
const STEP_ROWS = 500;
/** Characters of a metadata column, of the 1 MiB that a row may have. Clerk's own bound is 8 KB. */
const MAX_METADATA = 131_072;
/** Characters of any other column: names and addresses are shorter. */
const MAX_TEXT = 8_192;
/** Permissions of a member, of the 8,192 values that an array may have. */
const MAX_PERMISSIONS = 1000;
/** Rows for one subject that are looked at: an older webhook of your own may have made several. */
const MAX_TWINS = 10;
/** How long the audit is kept, and how many batches are cleared away with each new one. */
const AUDIT_MS = 30 * 24 * 60 * 60 * 1000;
const AUDIT_CLEARED = 20;
/** Organizations of a user that a query looks at. */
const MAX_MEMBERSHIPS = 200;
/** Rows on a page. A batch in the audit may have 150 KB, of the 16 MiB that a query may read. */
const MAX_PAGE = 200;
const MAX_BATCHES = 50;

// --- What is sent ----------------------------------------------------------------------------------------------------

type Row = Record<string, unknown>;
type Outcome = "applied" | "stale" | "unknown";

interface Change {
  sequence: number;
  entity: string;
  id: string;
  operation: string;
  resend: boolean;
  row: Row | null;
}

/** Refuses a change that no version of Faircopy sends; what only a newer one may send is read past. */
function readChange(sent: unknown, at: number): Change {
  const refuse = (why: string) =>
    new ConvexError({ code: "faircopy-malformed-change", message: `changes[${at}]: ${why}` });
  if (typeof sent !== "object" || sent === null || Array.isArray(sent)) throw refuse("not an object");
  const { sequence, entity, id, operation, resend, row } = sent as Row;
  if (typeof sequence !== "number" || !Number.isSafeInteger(sequence) || sequence < 0) {
    throw refuse("`sequence` is not a whole number");
  }
  if (typeof operation !== "string") throw refuse("`operation` is not a text");
  const change = { sequence, operation, resend: resend === true, row: readRow(row) };
  if (operation === "sweep") return { ...change, entity: "", id: "" };
  if (typeof entity !== "string" || typeof id !== "string") throw refuse("`entity` or `id` is not a text");
  const kind = kinds.get(entity);
  if (kind !== undefined && !kind.isId(id)) throw refuse(`\`id\` is not that of a ${entity}`);
  if (kind !== undefined && operation === "put" && change.row === null) throw refuse("a put without a `row`");
  return { ...change, entity, id };
}

/** A row comes as an object or as JSON text, in which no name of a column can be one that Convex refuses. */
function readRow(sent: unknown): Row | null {
  const row = typeof sent === "string" ? parsed(sent) : sent;
  return typeof row === "object" && row !== null && !Array.isArray(row) ? (row as Row) : null;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Reads the columns of one row. What is missing, null or of another form is absent; what is too large is named. */
class Columns {
  private readonly row: Row;
  private readonly tooLarge: string[] = [];

  constructor(row: Row) {
    this.row = row;
  }

  text(name: string): string | undefined {
    const value = this.row[name];
    return typeof value === "string" ? this.bounded(name, value, MAX_TEXT) : undefined;
  }

  /** RFC 3339, or milliseconds since 1970. */
  time(name: string): number | undefined {
    const value = this.row[name];
    const time = typeof value === "string" ? Date.parse(value) : value;
    return typeof time === "number" && Number.isFinite(time) ? time : undefined;
  }

  flag(name: string): boolean | undefined {
    const value = this.row[name];
    if (value === 0 || value === 1) return value === 1;
    return typeof value === "boolean" ? value : undefined;
  }

  /** As JSON text, whether it comes as one or as an object. */
  json(name: string): string | undefined {
    const value = this.row[name];
    if (value === undefined || value === null) return undefined;
    return this.bounded(name, typeof value === "string" ? value : JSON.stringify(value), MAX_METADATA);
  }

  texts(name: string): string[] | undefined {
    const value = this.row[name];
    const list = typeof value === "string" ? parsed(value) : value;
    if (!Array.isArray(list)) return undefined;
    const texts = list.filter((one): one is string => typeof one === "string");
    if (texts.length <= MAX_PERMISSIONS && texts.every((one) => one.length <= MAX_TEXT)) return texts;
    this.tooLarge.push(name);
    return undefined;
  }

  leftOut(): string[] | undefined {
    return this.tooLarge.length > 0 ? this.tooLarge : undefined;
  }

  private bounded(name: string, value: string, most: number): string | undefined {
    if (value.length <= most) return value;
    this.tooLarge.push(name);
    return undefined;
  }
}

// --- The five kinds of rows ------------------------------------------------------------------------------------------

type CopyTable = keyof typeof faircopyFields;
type Bookkeeping = "sequence" | "leftOut";
/** Every column by name, also the absent ones: they are taken off an older row. Fields of your own are not among them. */
type Fields<Table extends CopyTable> = {
  [
    Field in Exclude<keyof (typeof faircopyFields)[Table], Bookkeeping>
  ]: (typeof faircopyFields)[Table][Field] extends GenericValidator
    ? Infer<(typeof faircopyFields)[Table][Field]>
    : never;
};

interface Kind<Table extends CopyTable> {
  isId(id: string): boolean;
  /** The row that is held, with its twins if there are any. */
  find(ctx: QueryCtx, id: string): Promise<Doc<Table>[]>;
  put(ctx: MutationCtx, change: Change, held: Doc<Table>[]): Promise<void>;
  remove(ctx: MutationCtx, id: string, held: Doc<Table>[]): Promise<void>;
  /** Takes away rows that are older than the number, up to so many, and says how many there were. */
  sweep(ctx: MutationCtx, below: number, most: number): Promise<number>;
  /** Forgets the numbers of rows, up to so many, and says of how many. */
  forget(ctx: MutationCtx, most: number): Promise<number>;
}

// Which table a kind is of is known to `kindOf` alone.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyKind = Kind<any>;

interface KindOf<Entity extends string, Table extends CopyTable> {
  entity: Entity;
  table: Table;
  isId?: (id: string) => boolean;
  find(ctx: QueryCtx, id: string): Promise<Doc<Table>[]>;
  idOf(doc: Doc<Table>): string;
  fields(id: string, columns: Columns): Fields<Table>;
}

function kindOf<Entity extends string, Table extends CopyTable>(of: KindOf<Entity, Table>): Kind<Table> {
  // The types of `ctx.db` do not follow a table that is a type parameter; `Fields` has checked what is written.
  const rows = (ctx: MutationCtx) => ctx.db as unknown as RowsOf<Table>;
  const numbered = (ctx: MutationCtx, range: (q: Numbers) => unknown, most: number) =>
    rows(ctx).query(of.table).withIndex("by_sequence", range).take(most);

  const tell = (
    ctx: MutationCtx,
    operation: Effect["operation"],
    id: string,
    rowId: Doc<Table>["_id"],
    before: Doc<Table> | null,
  ) => onEffect(ctx, { entity: of.entity, id, operation, before, rowId } as unknown as Effect);

  const takeAway = async (ctx: MutationCtx, id: string, doc: Doc<Table>) => {
    await rows(ctx).delete(doc._id);
    await tell(ctx, "removed", id, doc._id, doc);
  };

  return {
    isId: of.isId ?? ((id) => id !== ""),
    find: of.find,

    async put(ctx, { id, row, sequence }, held) {
      const [doc, ...twins] = held;
      for (const twin of twins) await takeAway(ctx, id, twin);
      const columns = new Columns(row ?? {});
      const fields = { ...of.fields(id, columns), sequence, leftOut: columns.leftOut() };
      if (doc === undefined) {
        await tell(ctx, "created", id, await rows(ctx).insert(of.table, fields), null);
      } else {
        await rows(ctx).patch(doc._id, fields);
        await tell(ctx, "changed", id, doc._id, doc);
      }
    },

    async remove(ctx, id, held) {
      for (const doc of held) await takeAway(ctx, id, doc);
    },

    async sweep(ctx, below, most) {
      // What has no number is lower than every number.
      const docs = await numbered(ctx, (q) => q.lt("sequence", below), most);
      for (const doc of docs) await takeAway(ctx, of.idOf(doc), doc);
      return docs.length;
    },

    async forget(ctx, most) {
      const docs = await numbered(ctx, (q) => q.gte("sequence", 0), most);
      for (const doc of docs) await rows(ctx).patch(doc._id, { sequence: undefined });
      return docs.length;
    },
  };
}

interface Numbers {
  lt(field: "sequence", than: number): unknown;
  gte(field: "sequence", than: number): unknown;
}

interface RowsOf<Table extends CopyTable> {
  query(table: Table): {
    withIndex(index: "by_sequence", range: (q: Numbers) => unknown): { take(most: number): Promise<Doc<Table>[]> };
  };
  insert(table: Table, fields: object): Promise<Doc<Table>["_id"]>;
  patch(id: Doc<Table>["_id"], fields: object): Promise<void>;
  delete(id: Doc<Table>["_id"]): Promise<void>;
}

/** The organization and the user of a member's id. */
function memberOf(id: string): [string, string] {
  const slash = id.indexOf("/");
  return [id.slice(0, slash), id.slice(slash + 1)];
}

/** In the order of a sweep: who belongs goes before what they belong to. */
const kinds = new Map<string, AnyKind>([
  [
    "member",
    kindOf({
      entity: "member",
      table: "organizationMembers",
      isId: (id) => memberOf(id).every((part) => part !== "") && id.includes("/"),
      find: (ctx, id) => {
        const [clerkOrgId, clerkUserId] = memberOf(id);
        return ctx.db
          .query("organizationMembers")
          .withIndex("by_organization_and_user", (q) => q.eq("clerkOrgId", clerkOrgId).eq("clerkUserId", clerkUserId))
          .take(MAX_TWINS);
      },
      idOf: (doc: Doc<"organizationMembers">) => `${doc.clerkOrgId}/${doc.clerkUserId}`,
      fields: (id, columns) => {
        const [clerkOrgId, clerkUserId] = memberOf(id);
        return {
          clerkOrgId,
          clerkUserId,
          clerkMembershipId: columns.text("clerk_membership_id"),
          role: columns.text("role"),
          permissions: columns.texts("permissions"),
          provenance: columns.text("provenance"),
          createdAt: columns.time("created_at"),
          updatedAt: columns.time("updated_at"),
        };
      },
    }),
  ],
  [
    "invitation",
    kindOf({
      entity: "invitation",
      table: "organizationInvitations",
      find: (ctx, id) =>
        ctx.db
          .query("organizationInvitations")
          .withIndex("by_clerk_invitation_id", (q) => q.eq("clerkInvitationId", id))
          .take(MAX_TWINS),
      idOf: (doc: Doc<"organizationInvitations">) => doc.clerkInvitationId,
      fields: (id, columns) => ({
        clerkInvitationId: id,
        clerkOrgId: columns.text("clerk_org_id"),
        email: columns.text("email"),
        role: columns.text("role"),
        status: columns.text("status"),
        expiresAt: columns.time("expires_at"),
        provenance: columns.text("provenance"),
        createdAt: columns.time("created_at"),
        updatedAt: columns.time("updated_at"),
      }),
    }),
  ],
  [
    "workspace",
    kindOf({
      entity: "workspace",
      table: "workspaces",
      find: (ctx, id) =>
        ctx.db
          .query("workspaces")
          .withIndex("by_workspace_id", (q) => q.eq("workspaceId", id))
          .take(MAX_TWINS),
      idOf: (doc: Doc<"workspaces">) => doc.workspaceId,
      fields: (id, columns) => ({
        workspaceId: id,
        clerkOrgId: columns.text("clerk_org_id"),
        name: columns.text("name"),
        ownerId: columns.text("owner_id"),
        isLinked: columns.flag("is_linked"),
        endedAt: columns.time("ended_at"),
        createdAt: columns.time("created_at"),
      }),
    }),
  ],
  [
    "user",
    kindOf({
      entity: "user",
      table: "users",
      find: (ctx, id) =>
        ctx.db
          .query("users")
          .withIndex("by_clerk_user_id", (q) => q.eq("clerkUserId", id))
          .take(MAX_TWINS),
      idOf: (doc: Doc<"users">) => doc.clerkUserId,
      fields: (id, columns) => ({
        clerkUserId: id,
        externalId: columns.text("external_id"),
        username: columns.text("username"),
        firstName: columns.text("first_name"),
        lastName: columns.text("last_name"),
        name: columns.text("name"),
        email: columns.text("email"),
        imageUrl: columns.text("image_url"),
        workspaceId: columns.text("workspace_id"),
        publicMetadata: columns.json("public_metadata"),
        banned: columns.flag("banned"),
        locked: columns.flag("locked"),
        provenance: columns.text("provenance"),
        createdAt: columns.time("created_at"),
        updatedAt: columns.time("updated_at"),
      }),
    }),
  ],
  [
    "organization",
    kindOf({
      entity: "organization",
      table: "organizations",
      find: (ctx, id) =>
        ctx.db
          .query("organizations")
          .withIndex("by_clerk_org_id", (q) => q.eq("clerkOrgId", id))
          .take(MAX_TWINS),
      idOf: (doc: Doc<"organizations">) => doc.clerkOrgId,
      fields: (id, columns) => ({
        clerkOrgId: id,
        name: columns.text("name"),
        slug: columns.text("slug"),
        imageUrl: columns.text("image_url"),
        createdBy: columns.text("created_by"),
        settings: columns.json("settings"),
        workspaceId: columns.text("workspace_id"),
        provenance: columns.text("provenance"),
        createdAt: columns.time("created_at"),
        updatedAt: columns.time("updated_at"),
      }),
    }),
  ],
]);

// --- Applying --------------------------------------------------------------------------------------------------------

/**
 * Applies a batch, whole or not at all. Called by Faircopy, which reads the answer: what became of each change, in their
 * order, and whether a sweep has more to take away. Then the same sweep is to be sent again.
 */
export const apply = internalMutation({
  // Changes are checked by `readChange`: a validator here would refuse what a newer Faircopy adds.
  args: { changes: v.array(v.any()) },
  returns: v.object({
    outcomes: v.array(v.union(v.literal("applied"), v.literal("stale"), v.literal("unknown"))),
    more: v.boolean(),
  }),
  handler: async (ctx, { changes }): Promise<{ outcomes: Outcome[]; more: boolean }> => {
    if (changes.length > MAX_CHANGES) {
      const message = `${changes.length} changes in one batch; the most is ${MAX_CHANGES}`;
      throw new ConvexError({ code: "faircopy-batch-too-large", message });
    }
    const audit: Doc<"faircopyBatches">["changes"] = [];
    let swept: number | undefined;
    let more = false;
    for (const [at, sent] of changes.entries()) {
      const change = readChange(sent, at);
      let outcome: Outcome;
      if (change.operation === "sweep") {
        const step = await sweep(ctx, change.sequence, STEP_ROWS - (swept ?? 0));
        swept = (swept ?? 0) + step.rows;
        more = more || step.more;
        outcome = "applied";
      } else {
        outcome = await applyOne(ctx, change);
      }
      const { sequence, entity, id, operation } = change;
      audit.push({ sequence, entity, id, operation, outcome, ...(change.resend && { resend: true }) });
    }
    if (audit.length > 0) await record(ctx, audit, swept);
    return { outcomes: audit.map((entry) => entry.outcome), more };
  },
});

async function applyOne(ctx: MutationCtx, change: Change): Promise<Outcome> {
  const { entity, id, sequence } = change;
  const kind = kinds.get(entity);
  if (kind === undefined || (change.operation !== "put" && change.operation !== "remove")) return "unknown";

  const known = await standing(ctx, kind, entity, id);
  // Sending everything again goes under one number, which the row may have already, of an older state.
  const isNew = change.resend ? sequence >= known.sequence : sequence > known.sequence;
  if (!isNew) return "stale";

  const { tombstone, held } = known;
  if (change.operation === "put") {
    await kind.put(ctx, change, held);
    if (tombstone !== null) await ctx.db.delete(tombstone._id);
  } else {
    await kind.remove(ctx, id, held);
    if (tombstone !== null) await ctx.db.patch(tombstone._id, { sequence });
    else await ctx.db.insert("faircopyRemoved", { entity, id, sequence });
  }
  return "applied";
}

interface Standing {
  /** The number of the last change; -1 for what was never heard of, or is from before Faircopy. */
  sequence: number;
  held: Doc<CopyTable>[];
  tombstone: Doc<"faircopyRemoved"> | null;
}

/** What is known of a subject: by its row, else by the memory of its removal, else by the last sweep. */
async function standing(ctx: QueryCtx, kind: AnyKind, entity: string, id: string): Promise<Standing> {
  const held = await kind.find(ctx, id);
  if (held.length > 0) return { sequence: Math.max(...held.map((doc) => doc.sequence ?? -1)), held, tombstone: null };
  const tombstone = await tombstoneOf(ctx, entity, id);
  const floor = (await ctx.db.query("faircopyFloor").first())?.sequence ?? -1;
  return { sequence: Math.max(tombstone?.sequence ?? -1, floor), held, tombstone };
}

const tombstoneOf = (ctx: QueryCtx, entity: string, id: string) =>
  ctx.db
    .query("faircopyRemoved")
    .withIndex("by_subject", (q) => q.eq("entity", entity).eq("id", id))
    .first();

/**
 * Takes away what sending everything again has not brought, up to so many rows. From here on the floor remembers those
 * subjects, and the removed ones before them: their own memories go, too.
 */
async function sweep(ctx: MutationCtx, below: number, most: number): Promise<{ rows: number; more: boolean }> {
  const floor = await ctx.db.query("faircopyFloor").first();
  if (floor === null) await ctx.db.insert("faircopyFloor", { sequence: below });
  else if (floor.sequence < below) await ctx.db.patch(floor._id, { sequence: below });

  let rows = 0;
  for (const kind of kinds.values()) {
    if (rows < most) rows += await kind.sweep(ctx, below, most - rows);
  }
  const memories = await ctx.db
    .query("faircopyRemoved")
    .withIndex("by_sequence", (q) => q.lte("sequence", below))
    .take(Math.max(most - rows, 0));
  for (const memory of memories) await ctx.db.delete(memory._id);
  return { rows, more: rows + memories.length >= most };
}

async function record(ctx: MutationCtx, changes: Doc<"faircopyBatches">["changes"], swept: number | undefined) {
  const appliedAt = Date.now();
  await ctx.db.insert("faircopyBatches", { appliedAt, changes, ...(swept !== undefined && { swept }) });
  const old = await ctx.db
    .query("faircopyBatches")
    .withIndex("by_applied_at", (q) => q.lt("appliedAt", appliedAt - AUDIT_MS))
    .take(AUDIT_CLEARED);
  for (const batch of old) await ctx.db.delete(batch._id);
}

/**
 * Forgets all numbers, so that a Faircopy whose numbers begin anew (its database was lost, or is another) is heard again.
 * Pause the destination, call this until `more` is false, then resend. No row of the copy goes.
 */
export const reset = internalMutation({
  args: {},
  returns: v.object({ more: v.boolean() }),
  handler: async (ctx): Promise<{ more: boolean }> => {
    const floor = await ctx.db.query("faircopyFloor").first();
    if (floor !== null) await ctx.db.delete(floor._id);
    let left = STEP_ROWS;
    for (const kind of kinds.values()) {
      if (left > 0) left -= await kind.forget(ctx, left);
    }
    const memories = await ctx.db.query("faircopyRemoved").take(left);
    for (const memory of memories) await ctx.db.delete(memory._id);
    return { more: memories.length >= left };
  },
});

// --- The audit -------------------------------------------------------------------------------------------------------

/** The batches that were applied, the newest first. */
export const listBatches = internalQuery({
  args: { paginationOpts: paginationOptsValidator },
  handler: (ctx, { paginationOpts }) =>
    ctx.db.query("faircopyBatches").order("desc").paginate(bounded(paginationOpts, MAX_BATCHES)),
});

/** What is known of one subject: whether it is held, and the number of its last change. `null` if it was never heard of. */
export const getSubject = internalQuery({
  args: { entity: v.string(), id: v.string() },
  handler: async (ctx, { entity, id }) => {
    const kind = kinds.get(entity);
    if (kind === undefined || !kind.isId(id)) return null;
    const { sequence, held, tombstone } = await standing(ctx, kind, entity, id);
    if (held.length > 0) return { state: "held" as const, sequence };
    return tombstone === null ? null : { state: "removed" as const, sequence };
  },
});

// --- For your hook ---------------------------------------------------------------------------------------------------

interface EffectOn<Entity extends string, Table extends CopyTable> {
  entity: Entity;
  /** Clerk's id; of a member `<organization>/<user>`. */
  id: string;
  operation: "created" | "changed" | "removed";
  /** The row as it was. */
  before: Doc<Table> | null;
  /** The row as it is: `ctx.db.get(rowId)`. Nothing is there when it was removed. */
  rowId: Id<Table>;
}

/** What a change has done to a row. */
export type Effect =
  | EffectOn<"user", "users">
  | EffectOn<"organization", "organizations">
  | EffectOn<"member", "organizationMembers">
  | EffectOn<"invitation", "organizationInvitations">
  | EffectOn<"workspace", "workspaces">;

// --- For your own functions ------------------------------------------------------------------------------------------

/** The Clerk id of the caller, or `null`. Trusts every provider in `auth.config.ts`: name no other beside Clerk there. */
export async function currentUserId(ctx: Pick<QueryCtx, "auth">): Promise<string | null> {
  return (await ctx.auth.getUserIdentity())?.subject ?? null;
}

/** The caller's row. `null` when nobody is signed in, and until the copy has the user. */
export async function currentUser(ctx: QueryCtx): Promise<Doc<"users"> | null> {
  const id = await currentUserId(ctx);
  return id === null ? null : userByClerkId(ctx, id);
}

/** The row of a user. */
export const userByClerkId = (ctx: QueryCtx, clerkUserId: string): Promise<Doc<"users"> | null> =>
  ctx.db
    .query("users")
    .withIndex("by_clerk_user_id", (q) => q.eq("clerkUserId", clerkUserId))
    .first();

/** The row of an organization. */
export const organizationByClerkId = (ctx: QueryCtx, clerkOrgId: string): Promise<Doc<"organizations"> | null> =>
  ctx.db
    .query("organizations")
    .withIndex("by_clerk_org_id", (q) => q.eq("clerkOrgId", clerkOrgId))
    .first();

/** The membership of a user in an organization. An organization that was removed has no members, whatever is yet to come. */
export async function membership(
  ctx: QueryCtx,
  clerkOrgId: string,
  clerkUserId: string,
): Promise<Doc<"organizationMembers"> | null> {
  const member = await ctx.db
    .query("organizationMembers")
    .withIndex("by_organization_and_user", (q) => q.eq("clerkOrgId", clerkOrgId).eq("clerkUserId", clerkUserId))
    .first();
  if (member === null || (await tombstoneOf(ctx, "organization", clerkOrgId)) !== null) return null;
  return member;
}

/** The caller's membership in an organization, or `null`. */
export async function currentMembership(ctx: QueryCtx, clerkOrgId: string): Promise<Doc<"organizationMembers"> | null> {
  const id = await currentUserId(ctx);
  return id === null ? null : membership(ctx, clerkOrgId, id);
}

/** The caller's membership in an organization. Throws when there is none. */
export async function requireMember(ctx: QueryCtx, clerkOrgId: string): Promise<Doc<"organizationMembers">> {
  const id = await currentUserId(ctx);
  if (id === null) throw new ConvexError({ code: "not-authenticated", message: "Not authenticated" });
  const member = await membership(ctx, clerkOrgId, id);
  if (member === null) throw new ConvexError({ code: "not-a-member", message: "Not a member of this organization" });
  return member;
}

/** What a role in Clerk's own form means in a workspace. */
export const workspaceRole = (role: string | undefined): "owner" | "member" =>
  role === "org:admin" ? "owner" : "member";

/** The public metadata of a user or the settings of an organization, as an object. Works in the browser, too. */
export function metadataOf(json: string | undefined): Record<string, unknown> {
  return (json === undefined ? null : readRow(json)) ?? {};
}

// --- Queries ---------------------------------------------------------------------------------------------------------

/**
 * A user by Clerk id. Everybody sees what the minimal mirror has: that there is such a user, and the workspace. The user,
 * and whoever shares an organization, sees the profile as well.
 */
export const getUserByClerkId = query({
  args: { clerkUserId: v.string() },
  handler: async (ctx, { clerkUserId }) => {
    const user = await userByClerkId(ctx, clerkUserId);
    if (user === null) return null;
    const { _id, workspaceId, createdAt, updatedAt } = user;
    const caller = await currentUserId(ctx);
    const isKnown = caller !== null && (caller === clerkUserId || (await shareOrganization(ctx, caller, clerkUserId)));
    return { _id, clerkUserId, workspaceId, createdAt, updatedAt, profile: isKnown ? profileOf(user) : null };
  },
});

/** The caller's own row, whole. `null` when nobody is signed in, and until the copy has the user. */
export const getCurrentUser = query({
  args: {},
  handler: async (ctx) => {
    const user = await currentUser(ctx);
    if (user === null) return null;
    const { _id, clerkUserId, externalId, workspaceId, createdAt, updatedAt, banned, locked } = user;
    const { publicMetadata } = user;
    const profile = profileOf(user);
    return { _id, clerkUserId, externalId, workspaceId, createdAt, updatedAt, banned, locked, publicMetadata, profile };
  },
});

/** The organizations of the caller, with the caller's role in each. */
export const listMyOrganizations = query({
  args: {},
  handler: async (ctx) => {
    const caller = await currentUserId(ctx);
    if (caller === null) return [];
    const mine = [];
    for (const { clerkOrgId, role } of await membershipsOf(ctx, caller)) {
      if (await tombstoneOf(ctx, "organization", clerkOrgId)) continue;
      const organization = await organizationByClerkId(ctx, clerkOrgId);
      mine.push({ clerkOrgId, role, organization: organization && organizationForMembers(organization) });
    }
    return mine;
  },
});

/** An organization, for its members; `null` for everybody else. */
export const getOrganization = query({
  args: { clerkOrgId: v.string() },
  handler: async (ctx, { clerkOrgId }) => {
    if ((await currentMembership(ctx, clerkOrgId)) === null) return null;
    const organization = await organizationByClerkId(ctx, clerkOrgId);
    return organization && organizationForMembers(organization);
  },
});

/** The members of an organization, for its members; nobody for everybody else. */
export const listMembers = query({
  args: { clerkOrgId: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { clerkOrgId, paginationOpts }) => {
    if ((await currentMembership(ctx, clerkOrgId)) === null) return nothing();
    const members = await ctx.db
      .query("organizationMembers")
      .withIndex("by_organization_and_user", (q) => q.eq("clerkOrgId", clerkOrgId))
      .paginate(bounded(paginationOpts));
    const page = [];
    for (const { _id, clerkUserId, role, createdAt } of members.page) {
      const user = await userByClerkId(ctx, clerkUserId);
      page.push({ _id, clerkOrgId, clerkUserId, role, createdAt, profile: user && profileOf(user) });
    }
    return { ...members, page };
  },
});

/** The invitations of an organization, for members who may see them: admins, and who manages memberships. */
export const listInvitations = query({
  args: { clerkOrgId: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { clerkOrgId, paginationOpts }) => {
    const member = await currentMembership(ctx, clerkOrgId);
    const isManager = member?.role === "org:admin" || member?.permissions?.includes("org:sys_memberships:manage");
    if (!isManager) return nothing();
    const invitations = await ctx.db
      .query("organizationInvitations")
      .withIndex("by_organization", (q) => q.eq("clerkOrgId", clerkOrgId))
      .paginate(bounded(paginationOpts));
    const page = invitations.page.map(({ _id, clerkInvitationId, email, role, status, expiresAt, createdAt }) => {
      return { _id, clerkInvitationId, clerkOrgId, email, role, status, expiresAt, createdAt };
    });
    return { ...invitations, page };
  },
});

/** The workspace of an organization and the caller's role in it, for members of the organization; else `null`. */
export const getWorkspace = query({
  args: { clerkOrgId: v.string() },
  handler: async (ctx, { clerkOrgId }) => {
    const member = await currentMembership(ctx, clerkOrgId);
    if (member === null) return null;
    const role = workspaceRole(member.role);
    const organization = await organizationByClerkId(ctx, clerkOrgId);
    const workspace = await workspaceOf(ctx, clerkOrgId, organization?.workspaceId);
    if (workspace !== null) {
      const { workspaceId, name, ownerId, createdAt, endedAt } = workspace;
      return endedAt === undefined ? { workspaceId, clerkOrgId, name, ownerId, createdAt, role } : null;
    }
    // Where no workspaces are kept, there is the one that the organization's metadata names.
    if (organization?.workspaceId === undefined) return null;
    const { workspaceId, name, createdBy, createdAt } = organization;
    return { workspaceId, clerkOrgId, name, ownerId: createdBy, createdAt, role };
  },
});

/** The organization's own workspace, else the one that it links: that may belong to another organization first. */
async function workspaceOf(
  ctx: QueryCtx,
  clerkOrgId: string,
  linked: string | undefined,
): Promise<Doc<"workspaces"> | null> {
  const own = await ctx.db
    .query("workspaces")
    .withIndex("by_organization", (q) => q.eq("clerkOrgId", clerkOrgId))
    .first();
  if (own !== null || linked === undefined) return own;
  return ctx.db
    .query("workspaces")
    .withIndex("by_workspace_id", (q) => q.eq("workspaceId", linked))
    .first();
}

const membershipsOf = (ctx: QueryCtx, clerkUserId: string): Promise<Doc<"organizationMembers">[]> =>
  ctx.db
    .query("organizationMembers")
    .withIndex("by_user_and_organization", (q) => q.eq("clerkUserId", clerkUserId))
    .take(MAX_MEMBERSHIPS);

async function shareOrganization(ctx: QueryCtx, one: string, other: string): Promise<boolean> {
  for (const { clerkOrgId } of await membershipsOf(ctx, one)) {
    if ((await membership(ctx, clerkOrgId, other)) !== null) return true;
  }
  return false;
}

/** What members of an organization see of each other. In the minimal profile mode nothing of it is stored. */
function profileOf({ username, firstName, lastName, name, email, imageUrl }: Doc<"users">) {
  return { username, firstName, lastName, name, email, imageUrl };
}

function organizationForMembers(organization: Doc<"organizations">) {
  const { _id, clerkOrgId, name, slug, imageUrl, createdBy, settings, workspaceId, createdAt, updatedAt } =
    organization;
  return { _id, clerkOrgId, name, slug, imageUrl, createdBy, settings, workspaceId, createdAt, updatedAt };
}

/** The page that who may see nothing gets. */
const nothing = () => ({ page: [], isDone: true, continueCursor: "" });

const bounded = <Options extends { numItems: number }>(options: Options, most = MAX_PAGE): Options => ({
  ...options,
  numItems: Math.min(options.numItems, most),
});
