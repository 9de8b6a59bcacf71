/** Every wait of this package, in milliseconds. */
export interface Limits {
  /** For an answer, from its first byte to its last. */
  readonly requestMs: number
  /** For `getToken`. */
  readonly tokenMs: number
  /** For a stream's first event. */
  readonly connectMs: number
  /** A stream that says nothing for so long is lost: the service says something every 10 seconds. */
  readonly silenceMs: number
  /** For a query's first value. The error that ends it is not the end of the query: a value may follow. */
  readonly loadingMs: number
  /** A query that nobody listens to any more is kept for so long: React mounts twice, and pages change. */
  readonly lingerMs: number
  /** A page in the background keeps its stream for so long. */
  readonly hiddenMs: number
  /** For the tab that listens for all tabs to say a word to another: from here to twice as long. */
  readonly answerMs: number
  /** The next stream is opened so long before the token of the one before ends. */
  readonly renewMs: number
  /** The first wait after a failure is at most so long, each further one at most twice as long, … */
  readonly backoffMs: number
  /** … and none longer than this. */
  readonly backoffMaxMs: number
  /** No longer wait that the service asks for (`Retry-After`) is granted. */
  readonly retryAfterMaxMs: number
}

export const LIMITS: Limits = {
  requestMs: 10_000,
  tokenMs: 10_000,
  connectMs: 10_000,
  silenceMs: 30_000,
  loadingMs: 15_000,
  lingerMs: 2_000,
  hiddenMs: 60_000,
  answerMs: 1_000,
  renewMs: 15_000,
  backoffMs: 500,
  backoffMaxMs: 30_000,
  retryAfterMaxMs: 300_000,
}

/** Queries of one stream: the service takes no more. */
export const MAX_QUERIES_PER_STREAM = 32
/** Streams of one client. Browsers keep six connections to a host, and one must stay for requests. */
export const MAX_STREAMS = 4
/** Attempts to store the caller, or to get a token, until that is a failure. */
export const MAX_ATTEMPTS = 4

/** How long to wait after so many failures: anything up to the bound, so that those who lost a server together do not come again together. */
export function backoff(failures: number, limits: Limits, random: () => number): number {
  return random() * Math.min(limits.backoffMaxMs, limits.backoffMs * 2 ** Math.min(failures - 1, 20))
}
