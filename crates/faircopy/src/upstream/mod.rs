//! What is asked of others: the issuer's keys. Only configured addresses are asked, without redirects and without a proxy
//! of the environment, within a deadline and up to a size.

pub mod keys;
