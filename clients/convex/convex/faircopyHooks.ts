// Yours to write: what your application does when the copy changes. An update of Faircopy's module leaves this file alone.

import type { MutationCtx } from "./_generated/server";
import type { Effect } from "./faircopy";

/**
 * Runs in the transaction that changes the row, once for each change. Keep it short, and give what is long to
 * `ctx.scheduler`: if it throws, the change is refused and parked.
 */
export async function onEffect(_ctx: MutationCtx, _effect: Effect): Promise<void> {}
