// Each package as npm would pack it: what publint and "are the types wrong" say of it, and what is in it.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'faircopy-packages-'))
let isWrong = false
try {
  for (const name of ['client', 'react']) {
    const pkgDir = join(root, 'packages', name)
    const { messages, pkg } = await publint({ pkgDir, strict: true })
    for (const message of messages) {
      isWrong = true
      console.error(`${pkg.name}: ${formatMessage(message, pkg)}`)
    }
    const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--pack-destination', folder], { cwd: pkgDir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
    const strange = packed.files.map(({ path }) => path).filter((path) => !/^(package\.json|README\.md|LICENSE|dist\/[\w.]+\.(js|d\.ts))$/.test(path))
    if (strange.length > 0 || !packed.files.some(({ path }) => path === 'README.md')) {
      isWrong = true
      console.error(`${pkg.name}: packs ${strange.length > 0 ? strange.join(', ') : 'no README.md'}`)
    }
    // Modules of CommonJS cannot require an ES module everywhere, and are not promised to.
    execFileSync(join(root, 'node_modules/.bin/attw'), [join(folder, packed.filename), '--profile', 'esm-only', '--quiet', '--no-color', '--no-emoji'], { stdio: ['ignore', 'inherit', 'inherit'] })
    console.log(`${pkg.name} ${pkg.version}: ${packed.files.length} files, ${(packed.unpackedSize / 1000).toFixed(1)} kB unpacked`)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
process.exit(isWrong ? 1 : 0)
