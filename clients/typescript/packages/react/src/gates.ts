'use client'

import type { ReactNode } from 'react'
import { useFaircopyContext } from './provider.js'

interface Gate {
  readonly children?: ReactNode
}

/** Shows its children once somebody is signed in and stored. Where storing has failed, too: what Clerk's webhooks brought is there. */
export function Authenticated({ children }: Gate): ReactNode {
  const { sessionKey, user } = useFaircopyContext()
  return typeof sessionKey === 'string' && !user.isLoading ? children : null
}

/** Shows its children while nobody is signed in. */
export function Unauthenticated({ children }: Gate): ReactNode {
  return useFaircopyContext().sessionKey === null ? children : null
}

/** Shows its children while Clerk loads, or the caller is being stored. */
export function AuthLoading({ children }: Gate): ReactNode {
  return useFaircopyContext().user.isLoading ? children : null
}
