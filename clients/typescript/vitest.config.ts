import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
// Tests run the sources: what is built is checked as a package.
const client = { find: '@faircopy/client', replacement: here('packages/client/src/index.ts') }
const react18 = (name: string) => ({ find: new RegExp(`^${name}(/.*)?$`), replacement: `${here('react-18/node_modules')}/${name}$1` })
const library = { find: '@testing-library/react', replacement: here('node_modules/@testing-library/react/dist/@testing-library/react.esm.js') }
const testTimeout = 20_000
const hooks = {
  testTimeout, 
  environment: 'jsdom',
  include: ['packages/react/test/**/*.test.tsx'],
  setupFiles: [here('packages/react/test/setup.ts')],
}

export default defineConfig({
  test: {
    projects: [
      {
        resolve: { alias: [client] },
        test: { name: 'client', testTimeout, environment: 'node', include: ['packages/client/test/**/*.test.ts'] },
      },
      { resolve: { alias: [client] }, test: { name: 'react', ...hooks } },
      {
        resolve: { alias: [client, library, react18('react-dom'), react18('react')] },
        // It asks for React itself, and must get the same.
        test: { name: 'react 18', ...hooks, server: { deps: { inline: [/@testing-library\/react/] } } },
      },
    ],
  },
})
