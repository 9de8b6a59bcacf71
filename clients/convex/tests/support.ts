// What all suites share: a fresh deployment with Convex' own limits, the messages that Faircopy sends, and the tables as
// they compare.

import { convexTest } from "convex-test";
import { api, internal } from "../convex/_generated/api";
import schema from "../convex/schema";

export { api, internal };

const modules = import.meta.glob("../convex/**/*.*s");

export const deployment = () => convexTest({ schema, modules, transactionLimits: true });
export type Deployment = ReturnType<typeof deployment>;

export type Row = Record<string, unknown>;
export interface Message {
  sequence: number;
  entity: string;
  id: string;
  operation: string;
  changed_at: string;
  row?: Row | string;
  resend?: boolean;
}

const changed_at = "2026-11-29T10:00:00.000Z";

export const put = (sequence: number, entity: string, id: string, row: Row | string = {}): Message => ({
  sequence,
  entity,
  id,
  operation: "put",
  changed_at,
  row,
});
export const remove = (sequence: number, entity: string, id: string): Message => ({
  sequence,
  entity,
  id,
  operation: "remove",
  changed_at,
});
export const resent = (sequence: number, entity: string, id: string, row: Row = {}): Message => ({
  ...put(sequence, entity, id, row),
  resend: true,
});
export const sweep = (sequence: number): Message => ({
  sequence,
  entity: "",
  id: "",
  operation: "sweep",
  changed_at,
});

export const apply = (t: Deployment, ...changes: unknown[]) => t.mutation(internal.faircopy.apply, { changes });

/** Sends a sweep as the pusher does, until nothing is left to take away. Answers how many calls it took. */
export async function sweepAll(t: Deployment, sequence: number): Promise<number> {
  for (let calls = 1; ; calls += 1) {
    if (!(await apply(t, sweep(sequence))).more) return calls;
    if (calls > 100) throw new Error("a sweep that does not end");
  }
}

export const copyTables = [
  "users",
  "organizations",
  "organizationMembers",
  "organizationInvitations",
  "workspaces",
] as const;

/** The rows of the copy, by table, without what Convex and the bookkeeping add. */
export async function rowsOf(t: Deployment): Promise<Record<(typeof copyTables)[number], Row[]>> {
  const entries = await t.run(async (ctx) => {
    const tables = [];
    for (const table of copyTables) {
      const docs: Row[] = await ctx.db.query(table).collect();
      tables.push([table, docs.map(({ _id, _creationTime, sequence, ...row }) => row)] as const);
    }
    return tables;
  });
  return Object.fromEntries(entries) as Record<(typeof copyTables)[number], Row[]>;
}

/** Ada and Bob are in Acme, Eve is in Other; Acme has a workspace and an invitation. */
export async function company(): Promise<Deployment> {
  const t = deployment();
  await apply(
    t,
    put(1, "organization", "org_acme", {
      name: "Acme",
      slug: "acme",
      created_by: "user_ada",
      workspace_id: "org_acme",
    }),
    put(2, "workspace", "org_acme", { clerk_org_id: "org_acme", name: "Acme", owner_id: "user_ada", is_linked: 0 }),
    put(3, "user", "user_ada", { name: "Ada", email: "ada@example.com", workspace_id: "org_acme" }),
    put(4, "user", "user_bob", { name: "Bob", email: "bob@example.com", workspace_id: "org_acme" }),
    put(5, "user", "user_eve", { name: "Eve", email: "eve@example.com", workspace_id: "org_other" }),
    put(6, "member", "org_acme/user_ada", { role: "org:admin", permissions: '["org:sys_memberships:manage"]' }),
    put(7, "member", "org_acme/user_bob", { role: "org:member", permissions: [] }),
    put(8, "organization", "org_other", { name: "Other" }),
    put(9, "member", "org_other/user_eve", { role: "org:admin" }),
    put(10, "invitation", "orginv_1", { clerk_org_id: "org_acme", email: "new@example.com", status: "pending" }),
  );
  return t;
}

export const as = (t: Deployment, subject: string) => t.withIdentity({ subject, issuer: "https://clerk.example.com" });
