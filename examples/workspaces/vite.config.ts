import { fileURLToPath } from 'node:url'
import react from '@vitejs/plugin-react'
import { type ProxyOptions, defineConfig } from 'vite'

const { FAIRCOPY_URL = 'http://127.0.0.1:8787', SANDBOX_URL, SANDBOX_SECRET_KEY } = process.env
const packages = fileURLToPath(new URL('../../clients/typescript/packages', import.meta.url))

/** The sandbox answers no page of another origin; behind this server it is asked by a program of this machine. */
const sandbox = (options: ProxyOptions): ProxyOptions => ({
  changeOrigin: true,
  configure: (proxy) => proxy.on('proxyReq', (request) => request.removeHeader('origin')),
  ...options,
})

const proxy: Record<string, ProxyOptions> = { '/v1': { target: FAIRCOPY_URL } }
if (SANDBOX_URL !== undefined) {
  proxy['/sandbox'] = sandbox({ target: SANDBOX_URL })
  // Clerk's Backend API, with its secret key: only a local stand-in may be asked like this by a page.
  proxy['/clerk'] = sandbox({
    target: SANDBOX_URL,
    rewrite: (path) => path.replace(/^\/clerk/, ''),
    headers: { authorization: `Bearer ${SANDBOX_SECRET_KEY ?? ''}` },
  })
}

export default defineConfig({
  plugins: [react()],
  resolve: {
    // An application of your own installs the two packages; here they are taken from beside it.
    alias: { '@faircopy/client': `${packages}/client/src/index.ts`, '@faircopy/react': `${packages}/react/src/index.ts` },
    dedupe: ['react', 'react-dom'],
  },
  server: { host: '127.0.0.1', port: 5173, proxy, fs: { allow: ['.', packages] } },
})
