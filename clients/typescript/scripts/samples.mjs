// Every sample of code in the documentation becomes a module of its own, which `npm run types` checks.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = new URL('../../../', import.meta.url)
const folder = new URL('../samples/', import.meta.url)
const files = ['docs/client.md', 'clients/typescript/README.md', 'clients/typescript/packages/client/README.md', 'clients/typescript/packages/react/README.md']

rmSync(folder, { recursive: true, force: true })
mkdirSync(folder)
let count = 0
for (const file of files) {
  const text = readFileSync(new URL(file, root), 'utf8')
  for (const [, kind, code] of text.matchAll(/^```(tsx?)\n([^]*?)^```$/gm)) {
    count += 1
    const line = text.slice(0, text.indexOf(code)).split('\n').length
    writeFileSync(fileURLToPath(new URL(`${file.replaceAll(/[/.]/g, '-')}-${line}.${kind}`, folder)), `${code}\nexport {}\n`)
  }
}
if (count < 7) throw new Error(`only ${count} samples were found`)
console.log(`${count} samples of the documentation`)
