//! A pure model of a Clerk instance: it changes at random, emits the events that Clerk would send, and knows the truth.
