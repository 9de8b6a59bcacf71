import { cleanup } from '@testing-library/react'
import { afterEach } from 'vitest'

// On a server there is nothing to clean up.
afterEach(() => {
  if (typeof document !== 'undefined') cleanup()
})
