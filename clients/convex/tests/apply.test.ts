import { describe, expect, test } from "vitest";
import { apply, company, deployment, internal, put, remove, resent, rowsOf, sweep, sweepAll } from "./support";

const outcomes = async (answer: Promise<{ outcomes: string[] }>) => (await answer).outcomes;
const names = async (t: ReturnType<typeof deployment>) => (await rowsOf(t)).users.map((user) => user.name);

describe("a row", () => {
  test("has the columns that it came with, under Convex' names and types", async () => {
    const t = deployment();
    await apply(
      t,
      put(1, "user", "user_a", {
        clerk_user_id: "user_a",
        external_id: "42",
        username: "ada",
        first_name: "Ada",
        last_name: "L",
        name: "Ada L",
        email: "a@example.com",
        image_url: "https://img.example.com/a",
        workspace_id: "ws_1",
        public_metadata: '{"workspaceId":"ws_1"}',
        banned: 0,
        locked: 1,
        provenance: "webhook",
        created_at: "2026-11-29T10:00:00.123Z",
        updated_at: "2026-11-29T11:00:00Z",
      }),
      put(2, "organization", "org_a", { name: "A", settings: { theme: "dark" }, slug: null }),
      put(3, "member", "org_a/user_a", {
        clerk_membership_id: "orgmem_1",
        role: "org:custom",
        permissions: '["org:x:y"]',
      }),
      put(4, "invitation", "orginv_a", {
        clerk_org_id: "org_a",
        email: "i@example.com",
        status: "pending",
        expires_at: 5,
      }),
      put(5, "workspace", "ws_1", { clerk_org_id: "org_a", owner_id: "user_a", is_linked: true, ended_at: null }),
    );
    expect(await rowsOf(t)).toEqual({
      users: [
        {
          clerkUserId: "user_a",
          externalId: "42",
          username: "ada",
          firstName: "Ada",
          lastName: "L",
          name: "Ada L",
          email: "a@example.com",
          imageUrl: "https://img.example.com/a",
          workspaceId: "ws_1",
          publicMetadata: '{"workspaceId":"ws_1"}',
          banned: false,
          locked: true,
          provenance: "webhook",
          createdAt: Date.UTC(2026, 10, 29, 10, 0, 0, 123),
          updatedAt: Date.UTC(2026, 10, 29, 11),
        },
      ],
      organizations: [{ clerkOrgId: "org_a", name: "A", settings: '{"theme":"dark"}' }],
      organizationMembers: [
        {
          clerkOrgId: "org_a",
          clerkUserId: "user_a",
          clerkMembershipId: "orgmem_1",
          role: "org:custom",
          permissions: ["org:x:y"],
        },
      ],
      organizationInvitations: [
        { clerkInvitationId: "orginv_a", clerkOrgId: "org_a", email: "i@example.com", status: "pending", expiresAt: 5 },
      ],
      workspaces: [{ workspaceId: "ws_1", clerkOrgId: "org_a", ownerId: "user_a", isLinked: true }],
    });
  });

  test("loses what its successor does not have: the minimal profile mode takes names away", async () => {
    const t = deployment();
    await apply(t, put(1, "user", "user_a", { name: "Ada", email: "a@example.com", workspace_id: "w" }));
    await apply(t, put(2, "user", "user_a", { name: null, workspace_id: "w" }));
    expect((await rowsOf(t)).users).toEqual([{ clerkUserId: "user_a", workspaceId: "w" }]);
  });

  test("keeps its Convex id through changes, and through sending everything again", async () => {
    const t = deployment();
    const idOf = () => t.run(async (ctx) => (await ctx.db.query("users").unique())?._id);
    await apply(t, put(1, "user", "user_a", { name: "Ada" }));
    const first = await idOf();
    await apply(t, put(2, "user", "user_a", { name: "Ada L" }));
    await apply(t, resent(2, "user", "user_a", { name: "Ada L" }));
    await sweepAll(t, 2);
    expect(first).toBeDefined();
    expect(await idOf()).toBe(first);
  });

  test("may come as JSON text, with columns that nobody knows and columns of another form", async () => {
    const t = deployment();
    const row = JSON.stringify({ name: "Ada", $new: { ключ: 1 }, email: 7, created_at: "soon", banned: "no" });
    expect(await outcomes(apply(t, put(1, "user", "user_a", row)))).toEqual(["applied"]);
    expect((await rowsOf(t)).users).toEqual([{ clerkUserId: "user_a", name: "Ada" }]);
  });
});

describe("metadata", () => {
  const deep = '{"a":'.repeat(100) + "1" + "}".repeat(100);
  const many = JSON.stringify(Object.fromEntries(Array.from({ length: 2000 }, (_, at) => [`k${at}`, at])));
  test.each([
    ["a key that begins with $", '{"$ref":1}'],
    ["a key that means something to Convex", '{"$integer":"x"}'],
    ["a key that begins with _", '{"_id":"x"}'],
    ["a key beyond ASCII", '{"größe":"L","":0}'],
    ["a key of 2,000 characters", `{"${"k".repeat(2000)}":1}`],
    ["a hundred levels", deep],
    ["two thousand keys", many],
    ["half a character", '{"a":"\\ud800"}'],
  ])("is kept as it is: %s", async (_what, text) => {
    const t = deployment();
    await apply(
      t,
      put(1, "user", "user_a", { public_metadata: text }),
      put(2, "organization", "org_a", { settings: text }),
    );
    const { users, organizations } = await rowsOf(t);
    expect([users[0]?.publicMetadata, organizations[0]?.settings]).toEqual([text, text]);
  });

  test("that is too large is left out and named; the rest of the row is applied", async () => {
    const t = deployment();
    const text = JSON.stringify({ a: "x".repeat(200_000) });
    expect(await outcomes(apply(t, put(1, "user", "user_a", { name: "Ada", public_metadata: text })))).toEqual([
      "applied",
    ]);
    expect((await rowsOf(t)).users).toEqual([{ clerkUserId: "user_a", name: "Ada", leftOut: ["public_metadata"] }]);
    await apply(t, put(2, "user", "user_a", { name: "Ada", public_metadata: "{}" }));
    expect((await rowsOf(t)).users).toEqual([{ clerkUserId: "user_a", name: "Ada", publicMetadata: "{}" }]);
  });
});

describe("a number", () => {
  test("applies once: the same and lower ones are stale", async () => {
    const t = deployment();
    expect(await outcomes(apply(t, put(5, "user", "user_a", { name: "five" })))).toEqual(["applied"]);
    expect(
      await outcomes(apply(t, put(5, "user", "user_a", { name: "again" }), put(4, "user", "user_a", { name: "four" }))),
    ).toEqual(["stale", "stale"]);
    expect(await names(t)).toEqual(["five"]);
  });

  test("is of one subject: another's lower number is news", async () => {
    const t = deployment();
    const answer = apply(t, put(5, "user", "user_a"), put(2, "user", "user_b"), put(1, "organization", "user_a"));
    expect(await outcomes(answer)).toEqual(["applied", "applied", "applied"]);
  });

  test("of a removal is remembered: a late put does not bring the subject back, a new one does", async () => {
    const t = deployment();
    await apply(t, put(1, "user", "user_a"), remove(3, "user", "user_a"));
    expect(await outcomes(apply(t, put(2, "user", "user_a"), put(3, "user", "user_a")))).toEqual(["stale", "stale"]);
    expect((await rowsOf(t)).users).toEqual([]);
    expect(await outcomes(apply(t, put(4, "user", "user_a", { name: "back" })))).toEqual(["applied"]);
    expect(await names(t)).toEqual(["back"]);
    expect(await outcomes(apply(t, remove(3, "user", "user_a")))).toEqual(["stale"]);
    expect(await names(t)).toEqual(["back"]);
  });

  test("of a removal is remembered of a subject that was never here", async () => {
    const t = deployment();
    expect(await outcomes(apply(t, remove(7, "member", "org_a/user_a")))).toEqual(["applied"]);
    expect(await outcomes(apply(t, put(6, "member", "org_a/user_a")))).toEqual(["stale"]);
    expect(await t.query(internal.faircopy.getSubject, { entity: "member", id: "org_a/user_a" })).toEqual({
      state: "removed",
      sequence: 7,
    });
  });
});

describe("sending everything again", () => {
  test("goes over an equal number, and not over a higher one", async () => {
    const t = deployment();
    await apply(t, put(5, "user", "user_a", { name: "old" }), put(6, "user", "user_b", { name: "newer" }));
    expect(
      await outcomes(
        apply(t, resent(5, "user", "user_a", { name: "now" }), resent(5, "user", "user_b", { name: "older" })),
      ),
    ).toEqual(["applied", "stale"]);
    expect(await names(t)).toEqual(["now", "newer"]);
  });

  test("ends with a sweep: what it did not bring is gone, also rows that no change speaks for", async () => {
    const t = deployment();
    await t.run(async (ctx) => {
      await ctx.db.insert("users", { clerkUserId: "user_mine", name: "by an old webhook of mine" });
      await ctx.db.insert("users", { clerkUserId: "user_gone" });
    });
    await apply(
      t,
      put(1, "user", "user_a", { name: "kept" }),
      put(2, "user", "user_b"),
      put(3, "organization", "org_x"),
    );
    await apply(t, resent(3, "user", "user_a", { name: "kept" }), resent(3, "user", "user_mine", { name: "mine" }));
    await sweepAll(t, 3);
    // The organization has the number at which it began, and so is not older.
    expect(await rowsOf(t)).toMatchObject({
      users: [{ name: "mine" }, { name: "kept" }],
      organizations: [{ clerkOrgId: "org_x" }],
    });
  });

  test("remembers what went in the sweep, and forgets single memories before it", async () => {
    const t = deployment();
    await apply(t, put(1, "user", "user_a"), put(2, "user", "user_b"), remove(3, "user", "user_b"));
    await sweepAll(t, 9);
    expect(await t.run((ctx) => ctx.db.query("faircopyRemoved").collect())).toEqual([]);
    expect(
      await outcomes(apply(t, put(8, "user", "user_a"), put(2, "user", "user_b"), put(9, "user", "user_c"))),
    ).toEqual(["stale", "stale", "stale"]);
    expect(await outcomes(apply(t, put(10, "user", "user_a")))).toEqual(["applied"]);
  });

  test("of an older date does nothing when it arrives late", async () => {
    const t = deployment();
    await apply(t, resent(9, "user", "user_a", { name: "nine" }));
    await sweepAll(t, 9);
    await apply(t, resent(5, "user", "user_a", { name: "five" }), resent(5, "user", "user_b"), sweep(5));
    expect(await names(t)).toEqual(["nine"]);
    expect(await outcomes(apply(t, put(7, "user", "user_c")))).toEqual(["stale"]);
  });

  test("sweeps in bounded steps, each within what a mutation may do", async () => {
    const t = deployment();
    for (let from = 0; from < 1300; from += 650) {
      await apply(t, ...Array.from({ length: 650 }, (_, at) => put(from + at, "user", `user_${from + at}`)));
    }
    await apply(t, resent(2000, "user", "user_7", { name: "stays" }));
    expect(await sweepAll(t, 2000)).toBe(3);
    expect(await names(t)).toEqual(["stays"]);
    expect(await sweepAll(t, 2000)).toBe(1);
  });
});

describe("a batch", () => {
  test("goes whole or not at all", async () => {
    const t = deployment();
    await expect(apply(t, put(1, "user", "user_a"), put(2, "user", ""))).rejects.toThrow(/faircopy-malformed-change/);
    expect((await rowsOf(t)).users).toEqual([]);
    expect(await t.run((ctx) => ctx.db.query("faircopyBatches").collect())).toEqual([]);
  });

  test.each([
    ["nothing", null, /not an object/],
    ["no number", { entity: "user", id: "a", operation: "remove" }, /`sequence`/],
    ["half a number", { sequence: 1.5, entity: "user", id: "a", operation: "remove" }, /`sequence`/],
    ["no operation", { sequence: 1, entity: "user", id: "a" }, /`operation`/],
    ["no id", { sequence: 1, entity: "user", operation: "remove" }, /`id`/],
    ["a member's id without a user", put(1, "member", "org_a/"), /`id`/],
    ["a member's id without an organization", put(1, "member", "user_a"), /`id`/],
    ["a put without a row", { sequence: 1, entity: "user", id: "a", operation: "put" }, /`row`/],
    ["a row that is no JSON", put(1, "user", "a", "{"), /`row`/],
  ])("with a change that no Faircopy sends is refused: %s", async (_what, change, why) => {
    await expect(apply(deployment(), change)).rejects.toThrow(why);
  });

  test("of a newer Faircopy is read past: entities, operations and fields that are not known", async () => {
    const t = deployment();
    const answer = apply(
      t,
      put(1, "domain", "orgdmn_1", { name: "example.com" }),
      { ...put(2, "user", "user_a", { name: "Ada" }), digest: { new: true } },
      { ...remove(3, "user", "user_a"), operation: "redact" },
    );
    expect(await outcomes(answer)).toEqual(["unknown", "applied", "unknown"]);
    expect(await names(t)).toEqual(["Ada"]);
  });

  test("of a thousand changes is within what a mutation may do; a larger one is refused", async () => {
    const t = deployment();
    const puts = Array.from({ length: 1000 }, (_, at) => put(at + 1, "user", `user_${at}`, { name: `${at}` }));
    const removals = puts.map(({ sequence, id }) => remove(sequence + 1000, "user", id));
    expect((await apply(t, ...puts)).outcomes.filter((one) => one === "applied")).toHaveLength(1000);
    expect((await apply(t, ...removals)).outcomes.filter((one) => one === "applied")).toHaveLength(1000);
    expect((await rowsOf(t)).users).toEqual([]);
    await expect(apply(t, ...puts, remove(3000, "user", "x"))).rejects.toThrow(/faircopy-batch-too-large/);
  });

  test("that is empty does nothing", async () => {
    const t = deployment();
    expect(await apply(t)).toEqual({ outcomes: [], more: false });
    expect(await t.run((ctx) => ctx.db.query("faircopyBatches").collect())).toEqual([]);
  });
});

test("twins that an older webhook made become one row", async () => {
  const t = deployment();
  await t.run(async (ctx) => {
    for (const name of ["one", "two", "three"]) await ctx.db.insert("users", { clerkUserId: "user_a", name });
  });
  await apply(t, put(1, "user", "user_a", { name: "Ada" }));
  expect(await names(t)).toEqual(["Ada"]);
});

test("of twins the highest number counts, and a removal takes all", async () => {
  const t = deployment();
  await t.run(async (ctx) => {
    await ctx.db.insert("users", { clerkUserId: "user_a" });
    await ctx.db.insert("users", { clerkUserId: "user_a", sequence: 5 });
  });
  expect(await outcomes(apply(t, put(4, "user", "user_a"), remove(6, "user", "user_a")))).toEqual(["stale", "applied"]);
  expect(await names(t)).toEqual([]);
});

test("the audit tells what became of each change, ids only, and is kept for thirty days", async () => {
  const t = await company();
  await apply(t, remove(11, "user", "user_eve"), put(4, "user", "user_bob"), put(12, "domain", "d"));
  const list = () => t.query(internal.faircopy.listBatches, { paginationOpts: { numItems: 1_000_000, cursor: null } });
  const { page } = await list();
  expect(page).toHaveLength(2);
  expect(page[0]?.changes).toEqual([
    { sequence: 11, entity: "user", id: "user_eve", operation: "remove", outcome: "applied" },
    { sequence: 4, entity: "user", id: "user_bob", operation: "put", outcome: "stale" },
    { sequence: 12, entity: "domain", id: "d", operation: "put", outcome: "unknown" },
  ]);
  expect(JSON.stringify(page)).not.toMatch(/Ada|@example/);

  await t.run(async (ctx) => {
    for (const batch of await ctx.db.query("faircopyBatches").collect()) {
      await ctx.db.patch(batch._id, { appliedAt: Date.now() - 31 * 24 * 60 * 60 * 1000 });
    }
  });
  await apply(t, sweep(1));
  expect((await list()).page.map(({ changes, swept }) => [changes[0]?.operation, swept])).toEqual([["sweep", 0]]);
});

test("numbers can be forgotten, for a Faircopy that counts anew; no row goes", async () => {
  const t = await company();
  await apply(t, remove(11, "user", "user_eve"), sweep(1));
  const before = await rowsOf(t);
  const puts = Array.from({ length: 600 }, (_, at) => put(20 + at, "user", `user_${at}`));
  await apply(t, ...puts);
  expect(await outcomes(apply(t, put(1, "user", "user_bob", { name: "anew" })))).toEqual(["stale"]);

  let calls = 1;
  while ((await t.mutation(internal.faircopy.reset, {})).more) calls += 1;
  expect(calls).toBe(2);
  expect((await rowsOf(t)).users).toHaveLength(before.users.length + 600);
  expect(await outcomes(apply(t, put(0, "user", "user_bob", { name: "anew" }), put(1, "user", "user_eve")))).toEqual([
    "applied",
    "applied",
  ]);
});
