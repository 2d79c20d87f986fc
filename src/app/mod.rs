//! Sessions, settings, history; publishes one [`snapshot::Snapshot`], takes [`snapshot::Command`]s.

pub mod demo;
pub mod snapshot;
