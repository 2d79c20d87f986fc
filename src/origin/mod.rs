//! Sockets to the server: ranged GETs over connections that are kept, and bids.
//!
//! Invariants: a byte leaves here only from a response that said, and kept to, exactly the range it was asked for; a
//! server that does otherwise is told of once and left alone. Nothing here decides what is fetched. Memory is bounded
//! by the event channel: a slow driver slows the sockets. No message carries a URL's user name or password.

pub mod api;

mod bid;
mod check;
mod client;
mod error;
mod fetch;
mod get;
mod map;
mod probe;
mod state;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use bid::{BidOut, Bidder};
pub use error::OriginError;
pub use get::{UrlProbe, get_small, probe_url};
pub use map::{display_url, web_seed_map};
pub use state::Origin;
