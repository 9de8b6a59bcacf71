// What is to go wrong, request by request. A list; the first fault that fits a mutation happens to it:
//
//   {"kind": "status", "status": 503, "retry_after": 1}   refused before anything runs
//   {"kind": "slow", "delay_ms": 500}                     runs later
//   {"kind": "drop"}                                      the connection ends before anything runs
//   {"kind": "error", "id": "user_x"}                     the function fails when this subject is in the batch
//   {"kind": "lost"}                                      committed, but no byte of the answer comes
//   {"kind": "cut"}                                       committed, but only half of the answer comes
//   {"kind": "die_before"} {"kind": "die_after"}          the process is killed before or after the commit
//
// Each may have "skip" (that many pass first), "times" (then it is over) and "id" (only batches with this subject).

const KINDS = ['status', 'slow', 'drop', 'error', 'lost', 'cut', 'die_before', 'die_after']

export class Faults {
  #faults = []

  constructor(faults) {
    this.set(faults)
  }

  set(faults) {
    for (const { kind } of faults) if (!KINDS.includes(kind)) throw new Error(`no fault is called ${kind}`)
    this.#faults = faults.map((fault) => ({ ...fault }))
  }

  all() {
    return this.#faults
  }

  next(call) {
    const changes = Array.isArray(call.args?.changes) ? call.args.changes : []
    for (const fault of this.#faults) {
      if (fault.id !== undefined && !changes.some((change) => change?.id === fault.id)) continue
      if (fault.skip > 0) {
        fault.skip -= 1
        continue
      }
      if (fault.times === 0) continue
      if (fault.times !== undefined) fault.times -= 1
      return fault
    }
    return undefined
  }
}
