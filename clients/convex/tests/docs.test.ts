// @vitest-environment node
// The code of docs/convex.md is what a project of a reader would have: it is put into one, and type-checked there.

import { spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

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

/** What TypeScript finds in the project of a reader, in the version that is named. */
async function check(typescript: string, change: (project: string) => Promise<void>): Promise<string> {
  // Below `node_modules`: packages are found from there, and the work tree stays clean.
  const project = await mkdtemp(join(home, "node_modules", ".docs-"));
  try {
    await cp(join(home, "convex"), join(project, "convex"), { recursive: true });
    for (const [file, code] of await samples()) {
      if (file === OTHER) continue;
      await mkdir(dirname(join(project, file)), { recursive: true });
      await writeFile(join(project, file), code);
    }
    await writeFile(join(project, "convex/_generated/api.d.ts"), generated(["cleanup", "faircopy", "projects"]));
    const compilerOptions = { jsx: "react-jsx", types: ["node"] };
    const config = { extends: "../../tsconfig.json", compilerOptions, include: ["convex", "src"] };
    await writeFile(join(project, "tsconfig.json"), JSON.stringify(config));
    await change(project);
    const { stdout, error } = spawnSync(
      process.execPath,
      [join(home, `node_modules/${typescript}/bin/tsc`), "-p", project],
      {
        encoding: "utf8",
      },
    );
    if (error) throw error;
    return stdout;
  } finally {
    await rm(project, { recursive: true });
  }
}

/** As `npx convex dev` writes it for these modules. */
const generated = (modules: string[]) => `
import type { ApiFromModules, FilterApi, FunctionReference } from "convex/server";
${modules.map((name) => `import type * as ${name} from "../${name}";`).join("\n")}
declare const all: ApiFromModules<{ ${modules.map((name) => `${name}: typeof ${name}`).join("; ")} }>;
export declare const api: FilterApi<typeof all, FunctionReference<any, "public">>;
export declare const internal: FilterApi<typeof all, FunctionReference<any, "internal">>;
`;

test.each(["typescript", "typescript-5"])(
  "the samples fit the module and each other: %s",
  { timeout: 60_000 },
  async (version) => {
    expect(await check(version, async () => {})).toBe("");
  },
);

test(
  "with a table of users that has more fields the module fits as well, and a mistake would be seen",
  { timeout: 60_000 },
  async () => {
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
  },
);
