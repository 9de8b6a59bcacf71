// Yours to write: what your application does when the copy changes. An update of Faircopy's module leaves this file alone.

import type { Doc, Id } from "./_generated/dataModel";
import type { MutationCtx } from "./_generated/server";

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

type CopyTable = "users" | "organizations" | "organizationMembers" | "organizationInvitations" | "workspaces";

export type Effect =
  | EffectOn<"user", "users">
  | EffectOn<"organization", "organizations">
  | EffectOn<"member", "organizationMembers">
  | EffectOn<"invitation", "organizationInvitations">
  | EffectOn<"workspace", "workspaces">;

/**
 * Runs in the transaction that changes the row, once for each change. Keep it short, and give what is long to
 * `ctx.scheduler`: if it throws, the change is refused and parked.
 */
export async function onEffect(_ctx: MutationCtx, _effect: Effect): Promise<void> {}
