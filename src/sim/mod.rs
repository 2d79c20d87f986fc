//! A world for the real engine: virtual clock, network and viewers, a seed, and the same trace each time.
//!
//! Architecture invariant: nothing in here is a sketch of the engine. Every viewer and seed runs [`crate::engine::Engine`] itself;
//! only what `stream`, `swarm` and `origin` do with sockets and disks is replaced, by [`World`]. Peers with other habits (slow,
//! silent, lying, pulsing) are scripts. Time is virtual, all chance comes from one seed.
//!
//! Where to look: how time goes on many threads in `shard`, who comes and goes in `node`, who meets whom in `meet`, links in `ends`, access links in
//! `net`, messages in `mail`, what an engine says in `carry`, a viewer in `player`, foreign peers in `script`, the server in `web`
//! and its allocation in `origin`, what must always hold in `watch`, what was forecast and what came in `record`.

mod carry;
pub mod catalogue;
mod census;
mod dice;
mod ends;
pub mod experiments;
mod fast;
mod film;
pub mod fluid;
mod host;
mod mail;
mod meet;
mod net;
mod node;
mod origin;
pub mod output;
mod player;
mod post;
pub mod record;
pub mod report;
pub mod scenario;
mod script;
mod shard;
mod step;
mod store;
mod trace;
mod watch;
mod web;
mod world;

#[cfg(test)]
mod tests;

pub use census::Census;
pub use film::FilmSpec;
pub use player::Seen;
pub use report::{Outcome, Report};
pub use scenario::{Group, Habits, Kind, OriginSpec, Scenario, ScenarioError, Viewing};
pub use trace::Trace;
pub use watch::Counts;
pub use world::{Options, World};
