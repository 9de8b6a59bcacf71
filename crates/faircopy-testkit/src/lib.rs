//! What the tests and the benchmark share: private PostgreSQL clusters, the real binary, a signing sender.
