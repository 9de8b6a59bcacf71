// @vitest-environment node
// The front as the pusher's tests use it: started as a process, spoken to over HTTP, killed.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { put, remove, sweep } from "./support";

const script = fileURLToPath(new URL("../front/front.mjs", import.meta.url));
const KEY = "prod:quiet-otter-123|c2VjcmV0";

interface Front {
  url: string;
  process: ChildProcess;
}

async function start(...options: string[]): Promise<Front> {
  const child = spawn(process.execPath, [script, "--with-stdin", "--deploy-key", KEY, ...options], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  for await (const line of createInterface({ input: child.stdout! }))
    return { url: JSON.parse(line).url, process: child };
  throw new Error("the front ended before it said where it is");
}

async function stop(front: Front) {
  if (front.process.exitCode !== null || front.process.signalCode !== null) return;
  const ended = once(front.process, "exit");
  front.process.stdin!.end();
  await ended;
}

async function post(front: Front, path: string, body: unknown, headers: Record<string, string> = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const answer = await fetch(`${front.url}${path}`, {
    method: "POST",
    body: text,
    headers: { "content-type": "application/json", ...headers },
  });
  return { status: answer.status, text: await answer.text(), retryAfter: answer.headers.get("retry-after") };
}

const key = { authorization: `Convex ${KEY}` };
const call = (changes: unknown[]) => ({ path: "faircopy:apply", args: { changes }, format: "json" });
const push = (front: Front, ...changes: unknown[]) => post(front, "/api/mutation", call(changes), key);
const set = (front: Front, settings: object) => post(front, "/test/faults", settings);
async function held(front: Front): Promise<string[]> {
  const { tables } = await (await fetch(`${front.url}/test/state`)).json();
  return tables.users.map((user: { clerkUserId: string }) => user.clerkUserId).sort();
}

let front: Front;
beforeAll(async () => {
  front = await start();
});
afterAll(() => stop(front));

describe("a call", () => {
  test("is answered as Convex does: 200 either way, and whole numbers with a point", async () => {
    expect(await push(front, put(1, "user", "user_a", { name: "Ada", created_at: 5 }))).toMatchObject({
      status: 200,
      text: '{"status":"success","value":{"more":false,"outcomes":["applied"]}}',
    });
    const query = { path: "faircopy:getUserByClerkId", args: { clerkUserId: "user_a" } };
    expect((await post(front, "/api/query", query)).text).toContain('"createdAt":5.0');
    const refused = await push(front, { sequence: -1 });
    expect(refused.status).toBe(200);
    expect(JSON.parse(refused.text)).toMatchObject({
      status: "error",
      errorMessage: expect.stringContaining("faircopy-malformed-change"),
      errorData: { code: "faircopy-malformed-change" },
    });
  });

  test.each([
    ["arguments of another form", { path: "faircopy:apply", args: { change: [] } }, /Validator error/],
    [
      "a key that Convex refuses",
      call([put(2, "user", "user_b", { public_metadata: { $ref: 1 } })]),
      /starts with a '\$'/,
    ],
    ["too many levels", call([put(2, "user", "u", JSON.parse('{"a":'.repeat(70) + "1" + "}".repeat(70)))]), /nested/],
    ["an array that is too long", call(Array(8193).fill(1)), /too long/],
    ["a function that is not there", { path: "faircopy:applyAll", args: {} }, /Could not find/],
    ["a function of another kind", { path: "faircopy:getCurrentUser", args: {} }, /as mutation/],
  ])("with %s is an error with status 200, or 560", async (_what, body, why) => {
    const answer = await post(front, "/api/mutation", body, key);
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.text)).toMatchObject({ status: "error", errorMessage: expect.stringMatching(why) });
    await set(front, { failed_status: 560 });
    expect((await post(front, "/api/mutation", body, key)).status).toBe(560);
    await set(front, { failed_status: 200 });
  });

  test.each([
    ["without a key finds nothing internal", call([]), {}, 200, "Could not find public function"],
    ["with a wrong key", call([]), { authorization: "Convex prod:other|x" }, 403, "BadDeployKey"],
    ["with a token of nobody", call([]), { authorization: "Bearer abc.def.ghi" }, 401, "Unauthenticated"],
    ["with half a header", call([]), { authorization: "x" }, 400, "InvalidHeaderFailure"],
    ["that is no JSON", "{", key, 400, "BadJsonBody"],
    ["of another type", call([]), { ...key, "content-type": "text/plain" }, 415, "UnsupportedMediaType"],
    ["beyond 16 MiB", `"${"x".repeat(17 * 1024 * 1024)}"`, key, 413, "PayloadTooLarge"],
  ])("%s", async (_what, body, headers, status, code) => {
    const answer = await post(front, "/api/mutation", body, headers);
    expect([answer.status, answer.text]).toEqual([status, expect.stringContaining(code)]);
  });

  test("sweeps, and what was cleared can be sent again", async () => {
    await push(front, put(5, "user", "user_s"), remove(6, "user", "user_gone"));
    expect((await push(front, sweep(7))).text).toContain('"more":false');
    expect(await held(front)).toEqual([]);
    await post(front, "/test/clear", {});
    expect((await push(front, put(1, "user", "user_s"))).text).toContain("applied");
    await post(front, "/test/clear", {});
  });
});

describe("a fault", () => {
  let sequence = 100;
  /** Whether a put under this fault was answered, and whether it is there afterwards. */
  async function tried(fault: object) {
    sequence += 1;
    const id = `user_${sequence}`;
    await set(front, { faults: [{ ...fault, times: 1 }] });
    const change = put(sequence, "user", id);
    const answer = await push(front, change).then(
      ({ status, text }) => (status === 200 ? JSON.parse(text).status : status),
      () => "no answer",
    );
    const isThere = (await held(front)).includes(id);
    // It happens once: the next attempt tells what the first has done.
    const retry = JSON.parse((await push(front, change)).text).value.outcomes[0];
    return [answer, isThere, retry];
  }

  test.each([
    [{ kind: "status", status: 503, retry_after: 2 }, [503, false, "applied"]],
    [{ kind: "slow", delay_ms: 20 }, ["success", true, "stale"]],
    [{ kind: "drop" }, ["no answer", false, "applied"]],
    [{ kind: "error" }, ["error", false, "applied"]],
    [{ kind: "lost" }, ["no answer", true, "stale"]],
    [{ kind: "cut" }, ["no answer", true, "stale"]],
  ])("%j", async (fault, outcome) => {
    expect(await tried(fault)).toEqual(outcome);
  });

  test("can be for one subject, after some have passed", async () => {
    await set(front, {
      faults: [
        { kind: "error", id: "user_poison" },
        { kind: "status", status: 429, retry_after: 3, skip: 1, times: 1 },
      ],
    });
    expect((await push(front, put(1, "user", "user_x"), put(1, "user", "user_poison"))).text).toContain('"error"');
    expect((await push(front, put(1, "user", "user_x"))).text).toContain("applied");
    expect(await push(front, put(2, "user", "user_x"))).toMatchObject({ status: 429, retryAfter: "3" });
    expect((await push(front, put(2, "user", "user_x"))).text).toContain("applied");
    expect((await set(front, { faults: [{ kind: "earthquake" }] })).status).toBe(400);
    await set(front, { faults: [] });
  });
});

test("what is committed outlives a kill, and what is not does not", async () => {
  const folder = await mkdtemp(join(tmpdir(), "front-"));
  try {
    const state = ["--state", join(folder, "state.json")];
    for (const [kind, id, isThere] of [
      ["die_before", "user_lost", false],
      ["die_after", "user_kept", true],
    ] as const) {
      const dying = await start(...state, "--faults", JSON.stringify([{ kind, id }]));
      await push(dying, put(1, "user", "user_first"));
      await expect(push(dying, put(2, "user", id), remove(2, "user", `${id}_removed`))).rejects.toThrow();
      await stop(dying);
      const risen = await start(...state);
      expect(await held(risen)).toEqual(["user_first", ...(isThere ? [id] : [])]);
      const late = await push(risen, put(1, "user", `${id}_removed`));
      expect(late.text).toContain(isThere ? "stale" : "applied");
      await push(risen, remove(9, "user", `${id}_removed`));
      await stop(risen);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("half a request is no request: the front goes on", async () => {
  const sent = request(`${front.url}/api/mutation`, {
    method: "POST",
    headers: { ...key, "content-type": "application/json", "content-length": "100", expect: "100-continue" },
  });
  const begun = once(sent, "continue");
  sent.flushHeaders();
  await begun;
  const closed = once(sent, "close");
  sent.destroy();
  await closed.catch(() => {});
  expect((await push(front)).text).toContain('"outcomes":[]');
});
