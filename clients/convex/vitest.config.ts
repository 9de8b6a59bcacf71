import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // What a mutation may use is what Convex' own runtime has.
    environment: "edge-runtime",
    server: { deps: { inline: ["convex-test"] } },
    include: ["tests/**/*.test.ts"],
  },
});
