// What is built from sources that are gone must not be packed.

import { rmSync } from 'node:fs'

for (const name of ['client', 'react']) {
  for (const made of ['dist', '.tsbuildinfo']) rmSync(new URL(`../packages/${name}/${made}`, import.meta.url), { recursive: true, force: true })
}
