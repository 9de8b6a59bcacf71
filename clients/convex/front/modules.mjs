// The module in `../convex`, for Node: TypeScript is taken out of it, and what it imports is found beside this package.

import { mkdtemp, rm } from 'node:fs/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { join } from 'node:path'
import { build } from 'esbuild'

const here = fileURLToPath(new URL('..', import.meta.url))

export async function loadModules() {
  // Below `node_modules`, so that `convex/server` is found from there and the work tree stays clean.
  const folder = await mkdtemp(join(here, 'node_modules', '.front-'))
  try {
    await build({
      entryPoints: ['faircopy', 'schema'].map((name) => join(here, 'convex', `${name}.ts`)),
      outdir: folder,
      outExtension: { '.js': '.mjs' },
      bundle: true,
      packages: 'external',
      format: 'esm',
      logLevel: 'warning',
    })
    const load = (name) => import(pathToFileURL(join(folder, `${name}.mjs`)).href)
    const [faircopy, { default: schema }] = await Promise.all([load('faircopy'), load('schema')])
    const visibility = new Map()
    for (const [name, value] of Object.entries(faircopy)) {
      const type = value.isMutation ? 'mutation' : value.isQuery ? 'query' : undefined
      if (type !== undefined) visibility.set(`faircopy:${name}`, { type, isInternal: value.isInternal === true })
    }
    // convex-test finds the folder of the functions by its generated one.
    const modules = { '/convex/faircopy.ts': async () => faircopy, '/convex/_generated/server.js': async () => ({}) }
    return { schema, modules, visibility }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
