// Stands for what `npx convex dev` writes in a real project; do not copy.
import { anyApi } from "convex/server";

export const api = anyApi;
export const internal = anyApi;
