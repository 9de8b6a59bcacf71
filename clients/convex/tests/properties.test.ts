// Whatever is delivered in whichever order and however often: once every change has come at least once, the tables are what
// a reader of the feed who does it right would hold.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Deployment, Message, Row } from "./support";
import { apply, deployment, put, remove, resent, rowsOf, sweepAll } from "./support";

const runs = { numRuns: 60 };

const subjects = [
  ["user", "user_a"],
  ["user", "user_b"],
  ["organization", "org_a"],
  ["member", "org_a/user_a"],
  ["invitation", "orginv_a"],
  ["workspace", "ws_a"],
] as const;
const keyOf = ({ entity, id }: { entity: string; id: string }) => `${entity} ${id}`;

const metadata = fc.oneof(fc.constant("{}"), fc.json());
const row: fc.Arbitrary<Row> = fc.record({
  name: fc.option(fc.string()),
  workspace_id: fc.option(fc.constantFrom("ws_a", "ws_b")),
  public_metadata: fc.option(metadata),
  settings: fc.option(metadata),
  role: fc.option(fc.constantFrom("org:admin", "org:member", "org:ünusual")),
  status: fc.option(fc.constantFrom("pending", "revoked")),
});

/** A feed: its changes are numbered as they come. */
const feed = (first: number): fc.Arbitrary<Message[]> =>
  fc
    .array(fc.tuple(fc.constantFrom(...subjects), fc.option(row)), { minLength: 1, maxLength: 25 })
    .map((changes) =>
      changes.map(([[entity, id], row], at) =>
        row === null ? remove(first + at, entity, id) : put(first + at, entity, id, row),
      ),
    );

/** Who does it right keeps the last change of each subject. */
function live(messages: Message[]): Message[] {
  const last = new Map<string, Message>();
  for (const message of messages) last.set(keyOf(message), message);
  return [...last.values()].filter((message) => message.operation === "put");
}

/** The tables of a deployment that was only ever told the end of it. */
async function expected(messages: Message[]) {
  const t = deployment();
  await apply(t, ...live(messages));
  return sorted(t);
}

async function sorted(t: Deployment) {
  const rows = await rowsOf(t);
  return Object.fromEntries(
    Object.entries(rows).map(([table, docs]) => [table, docs.map((doc) => JSON.stringify(doc)).sort()]),
  );
}

/** Attempts: each message at least once, some again, in any order, cut into batches anywhere. */
const attempts = (messages: Message[]): fc.Arbitrary<Message[][]> =>
  fc
    .tuple(fc.array(fc.constantFrom(...messages), { maxLength: messages.length }), fc.integer({ min: 1, max: 8 }))
    .chain(([again, size]) => {
      const all = [...messages, ...again];
      return fc
        .shuffledSubarray(all, { minLength: all.length, maxLength: all.length })
        .map((order) =>
          Array.from({ length: Math.ceil(order.length / size) }, (_, at) => order.slice(at * size, (at + 1) * size)),
        );
    });

test("any order, any repetition: the last change of each subject wins", async () => {
  const delivered = feed(1).chain((messages) => fc.tuple(fc.constant(messages), attempts(messages)));
  await fc.assert(
    fc.asyncProperty(delivered, async ([messages, batches]) => {
      const t = deployment();
      for (const batch of batches) await apply(t, ...batch);
      expect(await sorted(t)).toEqual(await expected(messages));
    }),
    runs,
  );
});

test("what is delivered again after everything came is stale, change for change", async () => {
  await fc.assert(
    fc.asyncProperty(feed(1), async (messages) => {
      const t = deployment();
      await apply(t, ...messages);
      const before = await sorted(t);
      expect((await apply(t, ...messages)).outcomes).toEqual(messages.map(() => "stale"));
      expect(await sorted(t)).toEqual(before);
    }),
    runs,
  );
});

test("a resend and its sweep end with the rows that were sent, whatever was here, and late attempts change nothing", async () => {
  const stray = fc.constantFrom(...subjects.map(([entity, id]) => [entity, `${id}_stray`] as const));
  const delivered = feed(1).chain((before) => {
    const since = before.length;
    // A resend of nothing has an attempt, too: of a removal that says nothing new.
    const rows = [
      ...live(before).map(({ entity, id, row }) => resent(since, entity, id, row as Row)),
      remove(0, "user", "none"),
    ];
    return fc.record({
      before: fc.constant(before),
      // What the destination got of it, before it was damaged or forgotten.
      got: fc.subarray(before),
      strays: fc.array(stray, { maxLength: 4 }),
      again: attempts(rows),
      late: fc.array(fc.constantFrom(...before), { maxLength: 8 }),
      after: feed(since + 1),
      later: fc.array(fc.constantFrom(...before), { maxLength: 8 }),
    });
  });
  await fc.assert(
    fc.asyncProperty(delivered, async ({ before, got, strays, again, late, after, later }) => {
      const t = deployment();
      await apply(t, ...got, ...strays.map(([entity, id]) => put(0, entity, id)));
      for (const batch of again) await apply(t, ...late, ...batch);
      await sweepAll(t, before.length);
      await apply(t, ...late);
      expect(await sorted(t)).toEqual(await expected(before));

      // The feed goes on, and attempts from before the resend come in between.
      for (const change of after) await apply(t, ...later, change);
      await apply(t, ...before);
      expect(await sorted(t)).toEqual(await expected([...before, ...after]));
    }),
    runs,
  );
});

test("an attempt of a resend that is late brings nothing back that the feed has removed since", async () => {
  const delivered = feed(1).chain((before) => {
    const again = live(before).map(({ entity, id, row }) => resent(before.length, entity, id, row as Row));
    return fc.tuple(fc.constant(before), fc.constant(again), feed(before.length + 1));
  });
  await fc.assert(
    fc.asyncProperty(delivered, async ([before, again, after]) => {
      const t = deployment();
      await apply(t, ...again);
      await sweepAll(t, before.length);
      await apply(t, ...after);
      await apply(t, ...again);
      // A subject that did not change since may be written again: with the same row.
      expect(await sorted(t)).toEqual(await expected([...before, ...after]));
    }),
    runs,
  );
});
