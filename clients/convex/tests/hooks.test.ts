import { beforeEach, expect, test, vi } from "vitest";
import { onEffect } from "../convex/faircopyHooks";
import { apply, deployment, put, remove, resent, rowsOf, sweepAll } from "./support";

vi.mock("../convex/faircopyHooks", () => ({ onEffect: vi.fn(async () => {}) }));

const told = () =>
  vi.mocked(onEffect).mock.calls.map(([, { operation, entity, id, before }]) => {
    return `${operation} ${entity} ${id}${before && "name" in before ? ` was ${before.name}` : ""}`;
  });

beforeEach(() => {
  vi.mocked(onEffect).mockReset();
});

test("your hook is told of each change once, and never of what is stale", async () => {
  const t = deployment();
  await apply(t, put(1, "user", "user_a", { name: "Ada" }), put(1, "user", "user_a", { name: "Ada" }));
  await apply(t, put(2, "user", "user_a", { name: "Ada L" }), remove(3, "user", "user_a"), remove(4, "user", "user_a"));
  await apply(t, put(5, "member", "org_a/user_a"), resent(9, "user", "user_b"));
  await sweepAll(t, 9);
  expect(told()).toEqual([
    "created user user_a",
    "changed user user_a was Ada",
    "removed user user_a was Ada L",
    "created member org_a/user_a",
    "created user user_b",
    "removed member org_a/user_a",
  ]);
});

test("what your hook throws refuses the batch whole", async () => {
  const t = deployment();
  vi.mocked(onEffect).mockImplementation(async (_ctx, { id }) => {
    if (id === "user_b") throw new Error("mine");
  });
  await expect(apply(t, put(1, "user", "user_a"), put(2, "user", "user_b"))).rejects.toThrow("mine");
  expect((await rowsOf(t)).users).toEqual([]);
  await apply(t, put(1, "user", "user_a"));
  expect((await rowsOf(t)).users).toHaveLength(1);
});
