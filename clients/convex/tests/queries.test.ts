import { beforeEach, describe, expect, test } from "vitest";
import { getFunctionName } from "convex/server";
import * as faircopy from "../convex/faircopy";
import type { Deployment } from "./support";
import { api, apply, as, company, internal, put, remove } from "./support";

const paginationOpts = { numItems: 50, cursor: null };
let t: Deployment;
beforeEach(async () => {
  t = await company();
});

test("whatever writes is internal, and so is the audit", () => {
  const registered = Object.entries(faircopy).filter(
    ([, value]) => "isRegistered" in value || "isQuery" in value || "isMutation" in value,
  );
  const visible = registered.filter(([, value]) => "isPublic" in value).map(([name]) => name);
  const hidden = registered.filter(([, value]) => "isInternal" in value).map(([name]) => name);
  expect(visible.sort()).toEqual([
    "getCurrentUser",
    "getOrganization",
    "getUserByClerkId",
    "getWorkspace",
    "listInvitations",
    "listMembers",
    "listMyOrganizations",
  ]);
  expect(hidden.sort()).toEqual(["apply", "getSubject", "listBatches", "reset"]);
  for (const [name, value] of registered) {
    if ("isMutation" in value) expect(hidden).toContain(name);
  }
  expect(getFunctionName(internal.faircopy.apply)).toBe("faircopy:apply");
});

describe("a user by Clerk id", () => {
  const profileFor = async (reader: Pick<Deployment, "query">, clerkUserId = "user_ada") =>
    (await reader.query(api.faircopy.getUserByClerkId, { clerkUserId }))?.profile?.email ?? null;

  test("is there for everybody, with the workspace and nothing personal", async () => {
    const user = await t.query(api.faircopy.getUserByClerkId, { clerkUserId: "user_ada" });
    expect(user).toMatchObject({ clerkUserId: "user_ada", workspaceId: "org_acme", profile: null });
    expect(JSON.stringify(user)).not.toContain("ada@example.com");
    expect(await t.query(api.faircopy.getUserByClerkId, { clerkUserId: "user_none" })).toBeNull();
  });

  test("has a profile for that user and for whoever shares an organization", async () => {
    expect(await profileFor(as(t, "user_ada"))).toBe("ada@example.com");
    expect(await profileFor(as(t, "user_bob"))).toBe("ada@example.com");
    expect(await profileFor(as(t, "user_eve"))).toBeNull();
    expect(await profileFor(t)).toBeNull();
  });

  test("has none any more for who left", async () => {
    await apply(t, remove(11, "member", "org_acme/user_bob"));
    expect(await profileFor(as(t, "user_bob"))).toBeNull();
  });
});

test("the caller's own row is whole, and null for nobody and for who is not here yet", async () => {
  expect(await as(t, "user_ada").query(api.faircopy.getCurrentUser)).toMatchObject({
    clerkUserId: "user_ada",
    profile: { name: "Ada", email: "ada@example.com" },
  });
  expect(await t.query(api.faircopy.getCurrentUser)).toBeNull();
  expect(await as(t, "user_new").query(api.faircopy.getCurrentUser)).toBeNull();
});

test("the caller's organizations are those of the caller", async () => {
  const of = async (who: string) =>
    (await as(t, who).query(api.faircopy.listMyOrganizations)).map(({ clerkOrgId, role, organization }) => [
      clerkOrgId,
      role,
      organization?.name,
    ]);
  expect(await of("user_ada")).toEqual([["org_acme", "org:admin", "Acme"]]);
  expect(await of("user_eve")).toEqual([["org_other", "org:admin", "Other"]]);
  expect(await of("user_none")).toEqual([]);
  expect(await t.query(api.faircopy.listMyOrganizations)).toEqual([]);
});

describe("members see, others do not:", () => {
  const clerkOrgId = "org_acme";
  const look = {
    organization: async (who: Pick<Deployment, "query">) =>
      (await who.query(api.faircopy.getOrganization, { clerkOrgId }))?.name ?? null,
    members: async (who: Pick<Deployment, "query">) =>
      (await who.query(api.faircopy.listMembers, { clerkOrgId, paginationOpts })).page
        .map((member) => `${member.clerkUserId} ${member.role} ${member.profile?.name}`)
        .join(", ") || null,
    workspace: async (who: Pick<Deployment, "query">) => {
      const workspace = await who.query(api.faircopy.getWorkspace, { clerkOrgId });
      return workspace && `${workspace.workspaceId} of ${workspace.ownerId} as ${workspace.role}`;
    },
    invitations: async (who: Pick<Deployment, "query">) =>
      (await who.query(api.faircopy.listInvitations, { clerkOrgId, paginationOpts })).page
        .map((invitation) => invitation.email)
        .join(", ") || null,
  };

  test.each([
    ["organization", "Acme", "Acme"],
    ["members", "user_ada org:admin Ada, user_bob org:member Bob", "user_ada org:admin Ada, user_bob org:member Bob"],
    ["workspace", "org_acme of user_ada as owner", "org_acme of user_ada as member"],
    ["invitations", "new@example.com", null],
  ] as const)("%s", async (what, forAdmin, forMember) => {
    expect(await look[what](as(t, "user_ada"))).toBe(forAdmin);
    expect(await look[what](as(t, "user_bob"))).toBe(forMember);
    expect(await look[what](as(t, "user_eve"))).toBeNull();
    expect(await look[what](t)).toBeNull();
    // A claim in the token does not make a member.
    const claimed = t.withIdentity({ subject: "user_eve", issuer: "https://clerk.example.com", org_id: clerkOrgId });
    expect(await look[what](claimed)).toBeNull();

    await apply(t, remove(11, "organization", clerkOrgId));
    expect(await look[what](as(t, "user_ada"))).toBeNull();
  });
});

test("an organization that went has no members, before their own removals have come", async () => {
  await apply(t, remove(11, "organization", "org_acme"));
  expect(await as(t, "user_bob").query(api.faircopy.listMyOrganizations)).toEqual([]);
  const user = await as(t, "user_bob").query(api.faircopy.getUserByClerkId, { clerkUserId: "user_ada" });
  expect(user?.profile).toBeNull();
});

describe("a workspace", () => {
  const workspace = () => as(t, "user_bob").query(api.faircopy.getWorkspace, { clerkOrgId: "org_acme" });

  test("that is shared is found by the link", async () => {
    await apply(t, remove(11, "workspace", "org_acme"));
    await apply(t, put(12, "organization", "org_acme", { name: "Acme", workspace_id: "ws_shared" }));
    await apply(t, put(13, "workspace", "ws_shared", { clerk_org_id: "org_other", name: "Other", is_linked: 1 }));
    expect(await workspace()).toMatchObject({ workspaceId: "ws_shared", name: "Other" });
  });

  test("that is only named is what the organization says", async () => {
    await apply(t, remove(11, "workspace", "org_acme"));
    expect(await workspace()).toMatchObject({ workspaceId: "org_acme", name: "Acme", ownerId: "user_ada" });
    await apply(t, put(12, "organization", "org_acme", { name: "Acme" }));
    expect(await workspace()).toBeNull();
  });

  test("that has ended is not shown", async () => {
    await apply(
      t,
      put(11, "workspace", "org_acme", { clerk_org_id: "org_acme", ended_at: "2026-11-29T12:00:00.000Z" }),
    );
    expect(await workspace()).toBeNull();
  });
});

describe("in functions of your own", () => {
  test("`requireMember` lets members through", async () => {
    const mine = (who: Pick<Deployment, "run">) => who.run((ctx) => faircopy.requireMember(ctx, "org_acme"));
    expect((await mine(as(t, "user_bob"))).role).toBe("org:member");
    await expect(mine(as(t, "user_eve"))).rejects.toThrow(/not-a-member/);
    await expect(mine(t)).rejects.toThrow(/not-authenticated/);
  });

  test("`metadataOf` reads what there is", () => {
    expect(faircopy.metadataOf('{"$a":{"ö":[1]}}')).toEqual({ $a: { ö: [1] } });
    expect([undefined, "", "null", "[1]", "{"].map((json) => faircopy.metadataOf(json))).toEqual([{}, {}, {}, {}, {}]);
  });

  test("the owner of a workspace is the admin of the organization", () => {
    expect(["org:admin", "org:member", "admin", undefined].map(faircopy.workspaceRole)).toEqual([
      "owner",
      "member",
      "member",
      "member",
    ]);
  });
});

test("a page has at most 200 rows, whatever is asked for", async () => {
  const members = Array.from({ length: 230 }, (_, at) =>
    put(100 + at, "member", `org_acme/user_${1000 + at}`, { role: "org:member" }),
  );
  await apply(t, ...members);
  const all = { numItems: 1_000_000, cursor: null };
  const first = await as(t, "user_bob").query(api.faircopy.listMembers, {
    clerkOrgId: "org_acme",
    paginationOpts: all,
  });
  expect([first.page.length, first.isDone]).toEqual([200, false]);
  const rest = await as(t, "user_bob").query(api.faircopy.listMembers, {
    clerkOrgId: "org_acme",
    paginationOpts: { ...all, cursor: first.continueCursor },
  });
  expect([rest.page.length, rest.isDone]).toEqual([32, true]);
});
