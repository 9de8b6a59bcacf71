import { StrictMode, Suspense, lazy } from 'react'
import { createRoot } from 'react-dom/client'
import './style.css'

// Clerk, where there is a key of it; else the sandbox. Only the one that is used is downloaded.
const WithClerk = lazy(() => import('./clerk.js'))
const WithSandbox = lazy(() => import('./sandbox.js'))

const root = document.getElementById('root')
if (root === null) throw new Error('the page has no #root')
createRoot(root).render(
  <StrictMode>
    <Suspense fallback={<p className="wait">Loading…</p>}>{import.meta.env['VITE_CLERK_PUBLISHABLE_KEY'] === undefined ? <WithSandbox /> : <WithClerk />}</Suspense>
  </StrictMode>,
)
