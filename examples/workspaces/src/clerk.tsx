import { ClerkProvider, OrganizationSwitcher, SignInButton, UserButton, useAuth } from '@clerk/react'
import { FaircopyProvider } from '@faircopy/react'
import { App } from './app.js'

const KEY = String(import.meta.env['VITE_CLERK_PUBLISHABLE_KEY'])
// Where the page's own origin does not lead to Faircopy (`allowed_origins` there names this page's).
const URL = String(import.meta.env['VITE_FAIRCOPY_URL'] ?? '')

export default function WithClerk() {
  return (
    <ClerkProvider publishableKey={KEY}>
      <FaircopyProvider url={URL} useAuth={useAuth}>
        <App signIn={<SignInButton />} account={<><OrganizationSwitcher hidePersonal /><UserButton /></>} />
      </FaircopyProvider>
    </ClerkProvider>
  )
}
