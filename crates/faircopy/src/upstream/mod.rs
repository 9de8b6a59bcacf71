//! What is asked of others: the issuer's keys, and Clerk's Backend API. Only configured addresses are asked, without redirects and without a proxy
//! of the environment, within a deadline and up to a size.

pub mod address;
pub mod clerk;
pub mod endpoint;
pub mod keys;
