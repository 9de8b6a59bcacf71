// What a page downloads for each package: minified, compressed, without React. More than its limit is a mistake.

import { gzipSync } from 'node:zlib'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

// The limits are what was needed when they were set and a twentieth: whoever raises one says why.
const LIMITS = {
  '@faircopy/client': { entry: '../packages/client/dist/index.js', external: [], bytes: 8_200 },
  '@faircopy/react': { entry: '../packages/react/dist/index.js', external: ['@faircopy/client'], bytes: 1_750 },
}

let isWrong = false
for (const [name, { entry, external, bytes }] of Object.entries(LIMITS)) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(entry, import.meta.url))], bundle: true, minify: true, write: false, format: 'esm', target: 'es2022',
    external: ['react', 'react/jsx-runtime', ...external], logLevel: 'error',
  })
  const [{ contents }] = outputFiles
  const packed = gzipSync(contents, { level: 9 }).length
  console.log(`${name}: ${contents.length} bytes minified, ${packed} compressed (limit ${bytes})`)
  if (packed > bytes) isWrong = true
}
if (isWrong) console.error('a package is larger than its limit')
process.exit(isWrong ? 1 : 0)
