// @vitest-environment node
// The code of docs/convex.md is what a project of a reader would have: it is put into one, and type-checked there.

import { spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeFunctionReference } from "convex/server";
import { convexTest } from "convex-test";
import { build } from "esbuild";
import { expect, test, vi } from "vitest";
import { internal, put, remove } from "./support";

const home = fileURLToPath(new URL("..", import.meta.url));
const page = join(home, "../../docs/convex.md");

const OTHER = "convex/schema.ts, where users have a field of their own";

/** The blocks of TypeScript, by their first line: it names the file. */
async function samples(): Promise<Map<string, string>> {
  const blocks = (await readFile(page, "utf8")).matchAll(/^```tsx?\n\/\/ ([^\n]+)\n(.*?)^```$/gms);
  return new Map(Array.from(blocks, ([, file, code]) => [file!, code!]));
}

test("the samples are all found", async () => {
  const all = (await readFile(page, "utf8")).match(/^```tsx?$/gm);
  expect([...(await samples()).keys()]).toHaveLength(all!.length);
  expect([...(await samples()).keys()].sort()).toEqual([
    "convex/auth.config.ts",
    "convex/cleanup.ts",
    "convex/faircopyHooks.ts",
    "convex/projects.ts",
    "convex/schema.ts",
    OTHER,
    "src/Team.tsx",
  ]);
});

/** Does something in the project of a reader. */
async function inProject<Found>(work: (project: string) => Promise<Found>): Promise<Found> {
  // Below `node_modules`: packages are found from there, and the work tree stays clean.
  const project = await mkdtemp(join(home, "node_modules", ".docs-"));
  try {
    await cp(join(home, "convex"), join(project, "convex"), { recursive: true });
    for (const [file, code] of await samples()) {
      if (file === OTHER) continue;
      await mkdir(dirname(join(project, file)), { recursive: true });
      await writeFile(join(project, file), code);
    }
    return await work(project);
  } finally {
    await rm(project, { recursive: true });
  }
}

/** What TypeScript finds in it, in the version that is named. */
const check = (typescript: string, change: (project: string) => Promise<void>): Promise<string> =>
  inProject(async (project) => {
    await writeFile(join(project, "convex/_generated/api.d.ts"), generated(["cleanup", "faircopy", "projects"]));
    const compilerOptions = { jsx: "react-jsx", types: ["node"] };
    const config = { extends: "../../tsconfig.json", compilerOptions, include: ["convex", "src"] };
    await writeFile(join(project, "tsconfig.json"), JSON.stringify(config));
    await change(project);
    const compiler = join(home, `node_modules/${typescript}/bin/tsc`);
    const { stdout, error } = spawnSync(process.execPath, [compiler, "-p", project], { encoding: "utf8" });
    if (error) throw error;
    return stdout;
  });

/** As `npx convex dev` writes it for these modules. */
const generated = (modules: string[]) => `
import type { ApiFromModules, FilterApi, FunctionReference } from "convex/server";
${modules.map((name) => `import type * as ${name} from "../${name}";`).join("\n")}
declare const all: ApiFromModules<{ ${modules.map((name) => `${name}: typeof ${name}`).join("; ")} }>;
export declare const api: FilterApi<typeof all, FunctionReference<any, "public">>;
export declare const internal: FilterApi<typeof all, FunctionReference<any, "internal">>;
`;

test.each(["typescript", "typescript-5"])("the samples fit the module and each other: %s", async (version) => {
  expect(await check(version, async () => {})).toBe("");
});

test("with a table of users that has more fields the module fits as well, and a mistake would be seen", async () => {
  const extended = async (project: string, field: string) => {
    const schema = (await samples()).get(OTHER)!;
    const own = (await samples()).get("convex/schema.ts")!.match(/^ {2}projects:.*^ {2}channels:[^\n]*\n/ms)![0];
    await writeFile(join(project, "convex/schema.ts"), schema.replace("  users:", `${own}  users:`));
    await writeFile(
      join(project, "convex/mine.ts"),
      `import { currentUser } from "./faircopy";
       import { query } from "./_generated/server";
       export const mine = query({ args: {}, handler: async (ctx) => (await currentUser(ctx))?.${field} });\n`,
    );
  };
  expect(await check("typescript", (project) => extended(project, "onboardedAt"))).toBe("");
  expect(await check("typescript", (project) => extended(project, "onbordedAt"))).toContain(
    "'onbordedAt' does not exist",
  );
});

test("the samples do what the page says: a channel for each workspace, and nothing left of an organization", async () => {
  const names = ["cleanup", "faircopy", "projects", "schema"];
  const { schema, ...modules } = await inProject(async (project) => {
    const entryPoints = names.map((name) => join(project, "convex", `${name}.ts`));
    await build({ entryPoints, outdir: project, bundle: true, packages: "external", format: "esm" });
    const loaded = names.map(
      async (name) => [name, await import(/* @vite-ignore */ join(project, `${name}.js`))] as const,
    );
    return Object.fromEntries(await Promise.all(loaded));
  });
  const t = convexTest({
    schema: schema.default,
    modules: {
      "/convex/_generated/server.js": async () => ({}),
      ...Object.fromEntries(
        Object.entries(modules).map(([name, module]) => [`/convex/${name}.ts`, async () => module]),
      ),
    },
  });
  const push = (...changes: unknown[]) => t.mutation(internal.faircopy.apply, { changes });
  const held = (table: string) => t.run(async (ctx) => ctx.db.query(table as never).collect());
  const ada = t.withIdentity({ subject: "user_ada" });
  const create = makeFunctionReference<"mutation">("projects:create");
  const list = makeFunctionReference<"query">("projects:list");

  await push(
    put(1, "organization", "org_a", { name: "A" }),
    put(2, "workspace", "org_a", { clerk_org_id: "org_a", name: "A" }),
    put(3, "user", "user_ada", { name: "Ada" }),
    put(4, "member", "org_a/user_ada", { role: "org:admin" }),
    put(5, "member", "org_a/user_bob", { role: "org:member" }),
  );
  expect(await held("channels")).toMatchObject([{ workspaceId: "org_a", name: "general" }]);

  await ada.mutation(create, { clerkOrgId: "org_a", title: "Plan" });
  const byBob = t.withIdentity({ subject: "user_bob" }).mutation(create, { clerkOrgId: "org_a", title: "Mine" });
  await expect(byBob).rejects.toThrow("Only owners");
  expect(await ada.query(list, { clerkOrgId: "org_a" })).toMatchObject([{ title: "Plan", author: "Ada" }]);
  expect(await t.query(list, { clerkOrgId: "org_a" })).toEqual([]);

  vi.useFakeTimers();
  try {
    await push(remove(6, "organization", "org_a"));
    await t.finishAllScheduledFunctions(vi.runAllTimers);
  } finally {
    vi.useRealTimers();
  }
  expect(await held("projects")).toEqual([]);
});
