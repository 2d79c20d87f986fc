//! Drives one engine with swarm, origin and store, and gives media a blocking [`reader::Reader`].
//!
//! Architecture invariant: nothing in here decides; it only carries out the engine's actions.

pub mod reader;
