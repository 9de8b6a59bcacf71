// The built example behind one origin: its files, and beside them the service and the sandbox, as a proxy of one's own would lead to them.

import { execFile } from 'node:child_process'
import { createReadStream, existsSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { pipeline } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const EXAMPLE = fileURLToPath(new URL('../../../examples/workspaces', import.meta.url))
const FILES = join(EXAMPLE, 'dist')
const KINDS = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css' }

/** The example as it is now. Its packages are installed (`npm ci` in its folder). */
export const build = () => promisify(execFile)(process.execPath, ['node_modules/vite/bin/vite.js', 'build'], { cwd: EXAMPLE })

function forward(target, path, headers, asked, answer) {
  const onward = request(`${target}${path}`, { method: asked.method, headers: { ...asked.headers, host: new URL(target).host, ...headers } }, (answered) => {
    // Server-sent events go on as they come, and a connection that is cut is cut here, too.
    answer.writeHead(answered.statusCode, answered.headers)
    answer.flushHeaders()
    pipeline(answered, answer, () => undefined)
  })
  onward.on('error', () => (answer.headersSent ? answer.destroy() : answer.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad gateway</h1>')))
  answer.on('close', () => onward.destroy())
  pipeline(asked, onward, () => undefined)
}

/** Serves until it is closed. */
export async function site(local) {
  const server = createServer((asked, answer) => {
    const path = asked.url ?? '/'
    if (path.startsWith('/v1/')) return forward(local.url, path, {}, asked, answer)
    // The sandbox answers no page of another origin.
    delete asked.headers.origin
    if (path.startsWith('/sandbox/')) return forward(local.sandboxUrl, path, {}, asked, answer)
    if (path.startsWith('/clerk/')) return forward(local.sandboxUrl, path.slice('/clerk'.length), { authorization: `Bearer ${local.secretKey}` }, asked, answer)
    const file = join(FILES, normalize(path.split('?')[0] === '/' ? '/index.html' : path.split('?')[0]))
    if (!file.startsWith(FILES) || !existsSync(file)) return answer.writeHead(404).end()
    answer.writeHead(200, { 'content-type': KINDS[extname(file)] ?? 'application/octet-stream' })
    createReadStream(file).pipe(answer)
    return undefined
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((resolve) => {
      server.close(resolve)
      server.closeAllConnections()
    }),
  }
}
