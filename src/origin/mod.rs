//! Sockets to the server: ranged GETs, bids.

pub mod api;
