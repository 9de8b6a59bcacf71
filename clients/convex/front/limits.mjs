// Convex' bounds of a value. Names of fields are checked where JSON is read.

const MAX_NESTING = 64
const MAX_ARRAY = 8192
const MAX_FIELDS = 1024

/** Throws what is wrong with a value. */
export function refusedValue(value, depth = 1) {
  if (typeof value !== 'object' || value === null || value instanceof ArrayBuffer) return
  if (depth > MAX_NESTING) throw new Error(`Value is too nested (maximum nesting ${MAX_NESTING})`)
  const parts = Array.isArray(value) ? value : Object.values(value)
  const most = Array.isArray(value) ? MAX_ARRAY : MAX_FIELDS
  if (parts.length > most) throw new Error(`${Array.isArray(value) ? 'Array' : 'Object'} is too long (${parts.length} > ${most})`)
  for (const part of parts) refusedValue(part, depth + 1)
}
