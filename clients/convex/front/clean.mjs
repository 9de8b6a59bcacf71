// JSON as Convex writes answers: all its numbers are floating-point, and a whole one is written `3.0`.

export function clean(value) {
  if (typeof value === 'number') return Number.isInteger(value) && Math.abs(value) < 1e16 ? `${value}.0` : String(value)
  if (Array.isArray(value)) return `[${value.map(clean).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined)
    return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${clean(field)}`).join(',')}}`
  }
  return JSON.stringify(value)
}
