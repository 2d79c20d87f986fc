//! Sluicegate: a player for torrents. The swarm carries the stream; a server's gate opens exactly as far as the swarm
//! is about to fall short.
//!
//! See ARCHITECTURE.md for the layers; every arrow between the modules below points down.

pub mod units;

pub mod engine;
pub mod net;
pub mod torrent;

pub mod origin;
pub mod swarm;

pub mod stream;

pub mod serve;
pub mod sim;

#[cfg(feature = "gui")]
pub mod media;

pub mod app;

#[cfg(feature = "gui")]
pub mod ui;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
