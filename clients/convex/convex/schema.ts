// The smallest schema of an application: nothing but the copy. Yours spreads the same tables beside its own.
import { defineSchema } from "convex/server";
import { faircopyTables } from "./faircopySchema";

export default defineSchema({ ...faircopyTables });
