// What the samples of the documentation take from Clerk; the example is checked against Clerk's own types.

declare module '@clerk/react' {
  import type { ReactNode } from 'react'
  export function ClerkProvider(props: { publishableKey: string; children: ReactNode }): ReactNode
  export function SignInButton(): ReactNode
  export { useAuth } from './packages/react/test/clerk.js'
}

declare module '@clerk/nextjs/server' {
  export function auth(): Promise<{ getToken: (options?: { skipCache?: boolean }) => Promise<string | null> }>
}
