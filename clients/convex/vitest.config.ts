import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // What a mutation may use is what Convex' own runtime has.
    environment: "edge-runtime",
    server: { deps: { inline: ["convex-test"] } },
    include: ["tests/**/*.test.ts"],
    // Where much else runs, processes and compilers take their time.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
