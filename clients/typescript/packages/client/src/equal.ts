type Json = Record<string, unknown>

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null

/**
 * The newer of two JSON values, made of the older one's parts wherever these are equal; the older itself when nothing differs. What
 * did not change is the same object, and whoever compares by reference sees what did.
 */
export function share<T>(older: unknown, newer: T): T {
  if (older === newer) return newer
  if (!isObject(older) || !isObject(newer) || Array.isArray(older) !== Array.isArray(newer)) return newer
  const keys = Object.keys(newer)
  let same = keys.length === Object.keys(older).length
  const result: Json | unknown[] = Array.isArray(newer) ? [] : {}
  for (const key of keys) {
    const before = Object.hasOwn(older, key) ? older[key] : undefined
    const part = share(before, (newer as Json)[key])
    if (part !== before || !Object.hasOwn(older, key)) same = false
    // A key may be `__proto__`: it is a word like any other.
    Object.defineProperty(result, key, { value: part, enumerable: true, configurable: true, writable: true })
  }
  return (same ? older : result) as T
}
