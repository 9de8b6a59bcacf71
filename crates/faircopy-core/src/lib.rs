//! The pure heart of Faircopy: signatures, events, records and the merge. No I/O, no clock, no randomness.
