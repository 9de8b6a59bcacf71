// The types of the API for applications, from the committed description. `--check` writes nothing and fails when they differ.

import { readFile, writeFile } from 'node:fs/promises'
import openapi, { astToString } from 'openapi-typescript'

const source = new URL('../../../docs/openapi.json', import.meta.url)
const target = new URL('../packages/client/src/api.ts', import.meta.url)

/** What the operator's routes and the service's own say is of no use to an application, and would be most of the file. */
function forApplications(description) {
  const paths = Object.fromEntries(Object.entries(description.paths).filter(([path]) => path.startsWith('/v1/')))
  const components = {}
  const waiting = [paths]
  while (waiting.length > 0) {
    for (const [, kind, name] of JSON.stringify(waiting.pop()).matchAll(/"#\/components\/(\w+)\/([^"]+)"/g)) {
      if (components[kind]?.[name]) continue
      const found = description.components[kind][name]
      ;(components[kind] ??= {})[name] = found
      waiting.push(found)
    }
  }
  return { ...description, paths, components }
}

export async function generated() {
  const description = JSON.parse(await readFile(source, 'utf8'))
  const tree = await openapi(forApplications(description), { alphabetize: true, emptyObjectsUnknown: true })
  return `// Made by \`npm run generate\` from docs/openapi.json: change that, not this.\n\n${astToString(tree)}`
}

const text = await generated()
if (process.argv.includes('--check')) {
  if ((await readFile(target, 'utf8')) !== text) {
    console.error('packages/client/src/api.ts differs from what docs/openapi.json says: npm run generate')
    process.exit(1)
  }
} else {
  await writeFile(target, text)
}
