// The story of the minimal mirror, as the feed tells it to the destination: one row per Clerk user with a single workspace,
// no name or address stored, created, updated, deleted, out of order, retried; organizations and memberships; the link.

import { expect, test } from "vitest";
import type { Message } from "./support";
import { api, apply, as, deployment, internal, put, remove, rowsOf } from "./support";

/** A row of the minimal profile mode: the columns are there, and null. */
const minimal = (id: string, workspace_id: string | null) => ({
  clerk_user_id: id,
  external_id: null,
  username: null,
  first_name: null,
  last_name: null,
  name: null,
  email: null,
  image_url: null,
  workspace_id,
  public_metadata: null,
  banned: null,
  locked: null,
  provenance: "webhook",
  created_at: "2026-11-29T09:00:00.000Z",
  updated_at: "2026-11-29T10:00:00.000Z",
});

test("the minimal mirror", async () => {
  const t = deployment();
  const user = (clerkUserId: string) => t.query(api.faircopy.getUserByClerkId, { clerkUserId });

  // user.created; delivered twice, since the first answer was lost. Nothing personal is stored.
  const created = put(1, "user", "user_1", minimal("user_1", null));
  expect((await apply(t, created)).outcomes).toEqual(["applied"]);
  expect((await apply(t, created)).outcomes).toEqual(["stale"]);
  const [row] = (await rowsOf(t)).users;
  expect(row).toEqual({
    clerkUserId: "user_1",
    provenance: "webhook",
    createdAt: Date.parse("2026-11-29T09:00:00.000Z"),
    updatedAt: Date.parse("2026-11-29T10:00:00.000Z"),
  });
  expect(await user("user_1")).toMatchObject({ clerkUserId: "user_1", profile: null });

  // user.updated of somebody unknown creates the row; the public metadata's link key has become the workspace.
  await apply(t, put(2, "user", "user_2", minimal("user_2", "ws_linked")));
  expect((await user("user_2"))?.workspaceId).toBe("ws_linked");

  // An organization that is linked, and one that is not; the first membership gives its user a workspace, in the same batch.
  await apply(
    t,
    put(3, "organization", "org_linked", {
      name: "Linked",
      settings: '{"convexWorkspaceId":"ws_9"}',
      workspace_id: "ws_9",
    }),
    put(4, "organization", "org_free", { name: "Free", settings: "{}", workspace_id: null }),
    put(5, "member", "org_linked/user_1", { clerk_membership_id: "orgmem_1", role: "org:admin" }),
    put(6, "user", "user_1", minimal("user_1", "ws_9")),
    put(7, "member", "org_free/user_1", { clerk_membership_id: "orgmem_2", role: "org:billing_clerk" }),
  );
  expect((await user("user_1"))?.workspaceId).toBe("ws_9");
  expect(await as(t, "user_1").query(api.faircopy.listMyOrganizations)).toMatchObject([
    { clerkOrgId: "org_free", role: "org:billing_clerk" },
    { clerkOrgId: "org_linked", role: "org:admin", organization: { workspaceId: "ws_9" } },
  ]);

  // user.deleted, and after it the attempts that were under way: the row is gone for good.
  await apply(t, remove(8, "member", "org_free/user_2"), remove(9, "user", "user_2"));
  expect((await apply(t, put(2, "user", "user_2", minimal("user_2", "ws_linked")))).outcomes).toEqual(["stale"]);
  expect(await user("user_2")).toBeNull();

  // organization.deleted takes its members along. The removals arrive in the wrong order, with an old update in between.
  const goes: Message[] = [
    remove(12, "organization", "org_linked"),
    put(5, "member", "org_linked/user_1", { role: "org:admin" }),
    put(11, "user", "user_1", minimal("user_1", null)),
    remove(10, "member", "org_linked/user_1"),
    put(6, "user", "user_1", minimal("user_1", "ws_9")),
  ];
  expect((await apply(t, ...goes)).outcomes).toEqual(["applied", "stale", "applied", "applied", "stale"]);
  expect(await user("user_1")).toMatchObject({ clerkUserId: "user_1" });
  expect((await user("user_1"))?.workspaceId).toBeUndefined();
  expect((await rowsOf(t)).organizationMembers).toMatchObject([{ clerkOrgId: "org_free", clerkUserId: "user_1" }]);

  // The audit has every attempt with its outcome, for the operator alone.
  const { page } = await t.query(internal.faircopy.listBatches, { paginationOpts: { numItems: 100, cursor: null } });
  const told = page.reverse().flatMap(({ changes }) => changes.map((change) => `${change.sequence} ${change.outcome}`));
  expect(told).toEqual([
    "1 applied",
    "1 stale",
    "2 applied",
    ...[3, 4, 5, 6, 7, 8, 9].map((sequence) => `${sequence} applied`),
    "2 stale",
    "12 applied",
    "5 stale",
    "11 applied",
    "10 applied",
    "6 stale",
  ]);
});
