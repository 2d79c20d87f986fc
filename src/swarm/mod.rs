//! Sockets to peers: wire, link, metadata exchange, discovery, listener.

pub mod api;
