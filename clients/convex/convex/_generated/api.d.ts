// Stands for what `npx convex dev` writes in a real project; do not copy.
import type { ApiFromModules, FilterApi, FunctionReference } from "convex/server";
import type * as faircopy from "../faircopy";

declare const all: ApiFromModules<{ faircopy: typeof faircopy }>;
export declare const api: FilterApi<typeof all, FunctionReference<any, "public">>;
export declare const internal: FilterApi<typeof all, FunctionReference<any, "internal">>;
