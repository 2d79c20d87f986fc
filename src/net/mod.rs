//! Which way packets leave this machine: every socket to the outside is made here, and so is every name looked up.
//!
//! Invariant (fail-closed): where the user chose an interface, an address or a proxy, a packet leaves that way or not at
//! all. Nothing falls back to the default route, not for a name server, not while the interface is away. What stays on
//! this machine (loopback) is no packet that leaves it, and goes its own way.

mod dns;
mod http;
mod interface;
mod route;
mod socket;
mod socks5;

pub use http::{HttpWay, http_way, redirects, routed};
pub use route::{Bind, Login, NetRoute, RouteError, Socks5};
pub use socket::Datagrams;
pub use socks5::{Relay, Target};
