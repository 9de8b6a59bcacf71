//! What is asked of others: the issuer's keys, Clerk's Backend API, Liveblocks, destinations, the application's own outside steps, and who is told of
//! trouble. Only configured addresses are asked, without redirects and without a proxy of the environment, within a deadline and up to a size.

pub mod address;
pub mod alert;
pub mod clerk;
pub mod destination;
pub mod endpoint;
pub mod exchange;
pub mod keys;
pub mod liveblocks;
pub mod step;
