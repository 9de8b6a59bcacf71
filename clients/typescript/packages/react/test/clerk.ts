// The form of what Clerk's `useAuth` returns, in the words of its documentation: three cases, each with its own literals.

type GetToken = (options?: { template?: string; organizationId?: string; leewayInSeconds?: number; skipCache?: boolean }) => Promise<string | null>

interface Always {
  signOut: (options?: { redirectUrl?: string }) => Promise<void>
  getToken: GetToken
}

type ClerkAuth = Always &
  (
    | { isLoaded: false; isSignedIn: undefined; userId: undefined; sessionId: undefined; orgId: undefined; orgRole: undefined }
    | { isLoaded: true; isSignedIn: false; userId: null; sessionId: null; orgId: null; orgRole: null }
    | { isLoaded: true; isSignedIn: true; userId: string; sessionId: string; orgId: null; orgRole: null }
    | { isLoaded: true; isSignedIn: true; userId: string; sessionId: string; orgId: string; orgRole: string }
  )

export const useAuth = (): ClerkAuth => ({
  isLoaded: false, isSignedIn: undefined, userId: undefined, sessionId: undefined, orgId: undefined, orgRole: undefined,
  signOut: async () => undefined, getToken: async () => null,
})
