// What is built from sources that are gone must not be packed.

import { rmSync } from 'node:fs'

for (const name of ['client', 'react']) rmSync(new URL(`../packages/${name}/dist`, import.meta.url), { recursive: true, force: true })
