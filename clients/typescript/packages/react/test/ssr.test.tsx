// @vitest-environment node
import { renderToString } from 'react-dom/server'
import { expect, test, vi } from 'vitest'
import { Clerk, SERVED, Served, UNKNOWN, signedIn } from './kit.js'

test.each([['while Clerk loads', UNKNOWN], ['also where the server knows who is signed in', signedIn()]])('on a server everything is loading, and nothing is asked: %s', (_, auth) => {
  const complaints = vi.spyOn(console, 'error')
  const asked = vi.spyOn(globalThis, 'fetch')
  expect(renderToString(<Served server={{ url: 'http://127.0.0.1:9' }} clerk={new Clerk(auth)} />)).toBe(SERVED)
  expect(complaints).not.toHaveBeenCalled()
  expect(asked).not.toHaveBeenCalled()
})
