//! Beside the programs people use: we fetch from each of them, and each fetches all from us.
//!
//! | peer | TCP | MSE | uTP | uTP + MSE | by magnet | the player plays from it |
//! |---|---|---|---|---|---|---|
//! | Transmission 3 | both | both | dials us | dials us | both | tests/play |
//! | libtorrent 2.1 | both | both | both | both | both | yes |
//! | aria2 | both | both | – | – | both | yes |
//! | rtorrent | both | both | – | – | both | yes |
//! | librqbit | both | – | both | – | both | yes |
//!
//! "Both" is both ways, "–" what it does not speak. Encrypted means each byte of it (RC4), with the plain stream refused by both sides.
//! Where they fetch, they dial us; Transmission does only where this machine has an address besides loopback, and is dialled else.
//! That Transmission serves us over uTP is tested in src/swarm.
//!
//! Besides, with libtorrent: IPv6, a seed that takes nothing but encrypted links without our knowing, pieces of 4 MiB, a hundred
//! files in a few pieces, padding files, hybrids of v1 and v2 (`shapes`, `matrix`); PEX both ways, the DHT, the local network, the
//! fast extension (`meeting`). The player as a seed, of what it played and of what lay in its cache (`player`).
//!
//! All run on loopback, each on ports and in folders of its own, and are ended by their process id. `SLUICEGATE_LOG` logs our side.

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
#[path = "interop/meeting.rs"]
mod meeting;
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
