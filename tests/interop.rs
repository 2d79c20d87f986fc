//! Beside the programs people use: we fetch from each of them, and each fetches all from us.
//!
//! | peer | TCP | uTP | MSE | magnet | besides |
//! |---|---|---|---|---|---|
//! | Transmission | both | | | both | |
//! | libtorrent | both | | | both | IPv6, 4 MiB pieces, padding, hybrid v1+v2, PEX, fast extension |
//! | aria2 | both | | | both | |
//! | rtorrent | both | | | both | |
//! | librqbit | both | | | both | |
//!
//! "Both" is both ways. Where they fetch, they dial us (Transmission, which dials nobody on loopback, is dialled). All run on
//! loopback, each on ports and in folders of its own, and are ended by their process id.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "interop/aria2.rs"]
mod aria2;
#[path = "interop/content.rs"]
mod content;
#[path = "interop/foreign.rs"]
mod foreign;
#[path = "interop/libtorrent.rs"]
mod libtorrent;
#[path = "interop/matrix.rs"]
mod matrix;
#[path = "interop/ours.rs"]
mod ours;
#[path = "interop/player.rs"]
mod player;
#[path = "interop/rqbit.rs"]
mod rqbit;
#[path = "interop/rtorrent.rs"]
mod rtorrent;
#[path = "interop/shapes.rs"]
mod shapes;
#[path = "interop/tracker.rs"]
mod tracker;
#[path = "interop/transmission.rs"]
mod transmission;
