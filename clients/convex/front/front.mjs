// Stands for a Convex deployment in tests: Convex' HTTP API for functions over the module in `../convex`, as `convex-test`
// runs it, with Convex' limits of a transaction. The first line on standard output is {"url": "http://127.0.0.1:…"}.
// How it is started and what can be set is in README.md, "The front".

import { createServer } from 'node:http'
import { parseArgs } from 'node:util'
import { makeFunctionReference } from 'convex/server'
import { ConvexError, convexToJson, jsonToConvex } from 'convex/values'
import { convexTest } from 'convex-test'
import { clean } from './clean.mjs'
import { Faults } from './faults.mjs'
import { refusedValue } from './limits.mjs'
import { loadModules } from './modules.mjs'
import { State } from './state.mjs'

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'deploy-key': { type: 'string', default: 'dev:test|key' },
    state: { type: 'string' },
    faults: { type: 'string', default: '[]' },
    'failed-status': { type: 'string', default: '200' },
    'with-stdin': { type: 'boolean', default: false },
  },
})

/** What Convex takes: arguments of 16 MiB, and a little around them. */
const MAX_BODY = 16 * 1024 * 1024 + 2000

const { schema, modules, visibility } = await loadModules()
const convex = convexTest({ schema, modules, transactionLimits: true })
const state = await State.open(convex, Object.keys(schema.tables), options.state)
const faults = new Faults(JSON.parse(options.faults))
let failedStatus = Number(options['failed-status'])
const calls = { requests: 0, committed: 0, failed: 0, refused: 0 }

class Refusal extends Error {
  constructor(status, code, message, headers = {}) {
    super(message)
    Object.assign(this, { status, code, headers })
  }
}

/** One mutation after the other: each is durable before the next begins. */
let last = Promise.resolve()
function inTurn(work) {
  const done = last.then(work)
  last = done.catch(() => {})
  return done
}

function isOperator(headers) {
  const sent = headers.authorization
  if (sent === undefined) return false
  if (sent.length < 7) throw new Refusal(400, 'InvalidHeaderFailure', 'Invalid authentication header')
  // Whether a token of a user is good is not known here: the module's queries are tried by its own tests.
  if (sent.slice(0, 7).toLowerCase() !== 'convex ') throw new Refusal(401, 'Unauthenticated', 'No provider for this token')
  if (sent.slice(7) !== options['deploy-key']) {
    throw new Refusal(403, 'BadDeployKey', 'The provided deploy key was invalid for this deployment.')
  }
  return true
}

async function body(request) {
  const chunks = []
  let length = 0
  for await (const chunk of request) {
    length += chunk.length
    // The rest is read and left: whoever is cut off while writing sees no answer.
    if (length <= MAX_BODY) chunks.push(chunk)
  }
  if (length > MAX_BODY) throw new Refusal(413, 'PayloadTooLarge', `The body has ${length} bytes; the most is ${MAX_BODY}`)
  return Buffer.concat(chunks).toString('utf8')
}

function json(text, what) {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Refusal(400, 'BadJsonBody', `${what} is not JSON: ${error.message}`)
  }
}

const failure = (message, data) => ({
  status: failedStatus,
  body: { status: 'error', errorMessage: message, ...(data === undefined ? {} : { errorData: data }) },
})

/** Runs one function, as Convex answers it: what is wrong with the call or in the function is not an error of HTTP. */
async function run(type, call, mayRunInternal) {
  const { path, args } = call
  if (typeof path !== 'string' || typeof args !== 'object' || args === null || Array.isArray(args)) {
    throw new Refusal(400, 'BadJsonBody', 'a call has a `path` and `args`')
  }
  const found = visibility.get(path)
  if (found === undefined || (found.isInternal && !mayRunInternal)) {
    return failure(`Could not find public function for '${path}'. Did you forget to run \`npx convex dev\`?`)
  }
  if (found.type !== type) return failure(`Trying to execute ${path} as ${type}, but it is defined as ${found.type}.`)
  let values
  try {
    values = jsonToConvex(args)
    refusedValue(values)
  } catch (error) {
    return failure(`Invalid arguments for ${path}: ${error.message}`)
  }
  try {
    const value = await convex[type](makeFunctionReference(path), values)
    return { status: 200, body: { status: 'success', value: convexToJson(value) } }
  } catch (error) {
    if (error instanceof ConvexError || Symbol.for('ConvexError') in error) {
      return failure(`Uncaught ConvexError: ${JSON.stringify(error.data)}`, error.data)
    }
    return failure(`Uncaught Error: ${error.message}`)
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function mutate(call, operator, answer) {
  const fault = faults.next(call)
  if (fault?.kind === 'slow') await pause(fault.delay_ms)
  if (fault?.kind === 'status') {
    const headers = fault.retry_after === undefined ? {} : { 'retry-after': String(fault.retry_after) }
    throw new Refusal(fault.status, 'FaultInjected', 'a fault was asked for', headers)
  }
  if (fault?.kind === 'drop') return answer.drop()
  if (fault?.kind === 'die_before') process.kill(process.pid, 'SIGKILL')
  if (fault?.kind === 'error') {
    calls.failed += 1
    return answer.send(failure(fault.message ?? 'Uncaught Error: a fault was asked for'))
  }
  const result = await inTurn(async () => {
    const done = await run('mutation', call, operator)
    if (done.body.status === 'success') await state.save()
    return done
  })
  if (result.body.status === 'success') calls.committed += 1
  else calls.failed += 1
  if (fault?.kind === 'die_after') process.kill(process.pid, 'SIGKILL')
  if (fault?.kind === 'lost') return answer.drop()
  if (fault?.kind === 'cut') return answer.cut(result)
  return answer.send(result)
}

/** The ways to answer one request. Whole numbers are written as Convex writes them, which has one kind of number: `3.0`. */
function answerTo(response) {
  const textOf = (result) => (result.isPlain ? JSON.stringify(result.body) : clean(result.body))
  const head = (result, text) =>
    response.writeHead(result.status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...result.headers,
    })
  return {
    send(result) {
      const text = textOf(result)
      head(result, text)
      response.end(text)
    },
    cut(result) {
      const text = textOf(result)
      head(result, text)
      response.write(text.slice(0, text.length / 2), () => response.destroy())
    },
    drop() {
      response.destroy()
    },
  }
}

const routes = {
  'POST /api/mutation': async (call, operator, answer) => mutate(call, operator, answer),
  'POST /api/query': async (call, operator, answer) => answer.send(await run('query', call, operator)),
  'GET /test/state': async (_call, _operator, answer) =>
    answer.send({ status: 200, isPlain: true, body: { tables: await inTurn(() => state.tables()), calls } }),
  'POST /test/faults': async (call, _operator, answer) => {
    try {
      if (call.faults !== undefined) faults.set(call.faults)
    } catch (error) {
      throw new Refusal(400, 'UnknownFault', error.message)
    }
    if (call.failed_status !== undefined) failedStatus = call.failed_status
    answer.send({ status: 200, isPlain: true, body: { faults: faults.all() } })
  },
  'POST /test/clear': async (call, _operator, answer) => {
    await inTurn(() => state.clear(call.tables))
    answer.send({ status: 200, isPlain: true, body: {} })
  },
}

async function serve(request, response) {
  const answer = answerTo(response)
  try {
    const { pathname } = new URL(request.url, 'http://front')
    const name = `${request.method} ${pathname}`
    const text = await body(request)
    const route = Object.hasOwn(routes, name) ? routes[name] : undefined
    if (route === undefined) throw new Refusal(404, 'NotFound', `no route ${name}`)
    let operator = false
    if (pathname.startsWith('/api/')) {
      calls.requests += 1
      operator = isOperator(request.headers)
      if (!/^application\/json\b/.test(request.headers['content-type'] ?? '')) {
        throw new Refusal(415, 'UnsupportedMediaType', 'Expected request with `Content-Type: application/json`')
      }
    }
    await route(text === '' ? {} : json(text, 'the body'), operator, answer)
  } catch (error) {
    // Who hung up is not answered.
    if (request.destroyed && !request.complete) return
    if (!(error instanceof Refusal)) process.stderr.write(`${error.stack}\n`)
    calls.refused += 1
    const status = error.status ?? 500
    const refused = { code: error.code ?? 'InternalServerError', message: error.message }
    if (response.headersSent) response.destroy()
    else answer.send({ status, isPlain: true, headers: error.headers, body: refused })
  }
}

const server = createServer(serve)
server.listen(Number(options.port), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })}\n`)
})
// Who starts this and dies leaves nothing running.
if (options['with-stdin']) process.stdin.resume().on('end', () => process.exit(0))
