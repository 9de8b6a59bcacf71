// @vitest-environment node
// A long history, pushed through everything that a network and a crashing destination do: the tables end as the copy.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Message } from "./support";
import { put, remove, resent, sweep } from "./support";

const script = fileURLToPath(new URL("../front/front.mjs", import.meta.url));
const seed = Number(process.env.FAIRCOPY_TEST_SEED ?? 20261129);

/** A destination that is started again whenever it died. */
class Destination {
  private running: { url: string; exited: Promise<unknown>; end: () => Promise<void> } | null = null;
  private readonly state: string;
  starts = 0;

  constructor(state: string) {
    this.state = state;
  }

  private async url(): Promise<string> {
    if (this.running !== null) return this.running.url;
    const child = spawn(process.execPath, [script, "--with-stdin", "--state", this.state], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.starts += 1;
    const exited = once(child, "exit");
    const end = async () => {
      child.stdin.end();
      await exited;
    };
    void exited.then(() => (this.running = null));
    for await (const line of createInterface({ input: child.stdout })) {
      this.running = { url: JSON.parse(line).url, exited, end };
      return this.running.url;
    }
    throw new Error("the front ended before it said where it is");
  }

  async post(path: string, body: unknown): Promise<{ status: number; body: any }> {
    const headers = { "content-type": "application/json", authorization: "Convex dev:test|key" };
    const answer = await fetch(`${await this.url()}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    return { status: answer.status, body: await answer.json() };
  }

  async tables(): Promise<Record<string, { clerkUserId: string; name: string }[]>> {
    return (await (await fetch(`${await this.url()}/test/state`)).json()).tables;
  }

  /** Waits until it has died: what is asked for before is refused by nobody. */
  async death() {
    await this.running?.exited;
  }

  async end() {
    await this.running?.end();
  }
}

const faults = [
  { kind: "status", status: 503 },
  { kind: "drop" },
  { kind: "lost" },
  { kind: "cut" },
  { kind: "error" },
  { kind: "die_before" },
  { kind: "die_after" },
];

const step = fc.record({
  user: fc.integer({ min: 1, max: 12 }),
  isRemoval: fc.boolean(),
  fault: fc.option(fc.constantFrom(...faults), { freq: 2 }),
});

test("crashes of the destination, lost answers, retries: every change arrives, none twice", async () => {
  const steps = fc.sample(fc.array(step, { minLength: 60, maxLength: 60, size: "max" }), { seed, numRuns: 1 })[0]!;
  const folder = await mkdtemp(join(tmpdir(), "crashes-"));
  const destination = new Destination(join(folder, "state.json"));
  const copy = new Map<string, string>();
  const failed: Record<string, number> = {};
  try {
    /** Tries until it is taken, as the pusher does; the fault happens to the first attempt. */
    const push = async (changes: Message[], fault: { kind: string } | null) => {
      await destination.post("/test/faults", { faults: fault === null ? [] : [{ ...fault, times: 1 }] });
      for (let attempt = 1; attempt <= 2; attempt += 1) {
        const { status, body } = await destination
          .post("/api/mutation", { path: "faircopy:apply", args: { changes }, format: "json" })
          .catch(() => ({ status: 0, body: {} }));
        if (status === 200 && body.status === "success") return body.value as { outcomes: string[]; more: boolean };
        if (attempt === 1 && fault?.kind.startsWith("die_")) await destination.death();
        failed[fault?.kind ?? "none"] = (failed[fault?.kind ?? "none"] ?? 0) + 1;
      }
      throw new Error(`not taken, seed ${seed}`);
    };

    const late: Message[] = [];
    for (const [at, { user, isRemoval, ...chance }] of steps.entries()) {
      // Each fault comes at least once, whatever the seed.
      const fault = faults[at] ?? chance.fault;
      const sequence = at + 1;
      const id = `user_${user}`;
      const name = `${id} at ${sequence}`;
      const change = isRemoval ? remove(sequence, "user", id) : put(sequence, "user", id, JSON.stringify({ name }));
      if (isRemoval) copy.delete(id);
      else copy.set(id, name);
      // Whatever is behind the change, its number decides: an old attempt comes along with it.
      await push([change, ...late.slice(-3, -1)], fault);
      late.push(change);
      if (at === 40) {
        await destination.post("/test/clear", { tables: ["users"] });
        const rows = [...copy].map(([id, name]) => resent(sequence, "user", id, { name }));
        await push(rows, { kind: "lost" });
        while ((await push([sweep(sequence)], { kind: "die_after" })).more);
      }
    }

    const held = (await destination.tables()).users!.map(({ clerkUserId, name }) => [clerkUserId, name]);
    expect(held.sort()).toEqual([...copy].sort());
    // The history has what it is to have.
    expect(Object.keys(failed).sort()).toEqual(faults.map(({ kind }) => kind).sort());
    expect(destination.starts).toBeGreaterThan(3);
  } finally {
    await destination.end();
    await rm(folder, { recursive: true });
  }
});
