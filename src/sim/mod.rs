//! A world for the real engine: virtual clock, network and viewers, a seed, and the same trace each time.
//!
//! Architecture invariant: nothing in here is a sketch of the engine. Every viewer and seed runs [`crate::engine::Engine`] itself;
//! only what `stream`, `swarm` and `origin` do with sockets and disks is replaced, by [`World`]. Peers with other habits (slow,
//! silent, lying, pulsing) are scripts. Time is virtual, all chance comes from one seed.
//!
//! Where to look: the network in `net`, who speaks to whom in `world` and `links`, what an engine says in `carry`, a viewer in
//! `player`, foreign peers in `script`, what must always hold in `watch`, what was forecast and what came in `record`.

mod agenda;
mod carry;
pub mod catalogue;
mod census;
mod dice;
pub mod experiments;
mod fast;
mod film;
pub mod fluid;
mod host;
mod links;
mod net;
mod origin;
pub mod output;
mod player;
pub mod record;
pub mod report;
pub mod scenario;
mod script;
mod step;
mod store;
mod trace;
mod watch;
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
