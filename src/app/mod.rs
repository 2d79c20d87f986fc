//! Sessions, settings, history; publishes one [`snapshot::Snapshot`], takes [`snapshot::Command`]s.
//!
//! Invariant: whatever may block (disk, name look-ups, closing a stream) happens on the app's and the session's own
//! threads; the window only reads the latest snapshot and puts commands into a queue.
//!
//! Without the `gui` feature only what `sluicegate info` and `sluicegate serve` need is here: telling what the user handed us,
//! the settings that say which way to ask for it, and how the program is asked to end.

pub mod args;
pub mod ending;
pub mod failure;
pub mod open;

#[cfg(any(all(test, feature = "gui"), fuzzing))]
pub(crate) mod fuzz;

#[cfg(feature = "gui")]
mod control;
#[cfg(feature = "gui")]
pub mod demo;
#[cfg(feature = "gui")]
pub mod headless;
#[cfg(feature = "gui")]
pub mod history;
#[cfg(feature = "gui")]
pub mod lock;
#[cfg(feature = "gui")]
pub mod net;
pub mod paths;
#[cfg(feature = "gui")]
pub mod process;
#[cfg(feature = "gui")]
pub mod report;
#[cfg(feature = "gui")]
pub mod session;
pub mod settings;
#[cfg(feature = "gui")]
mod signal;
#[cfg(feature = "gui")]
pub mod snapshot;
#[cfg(feature = "gui")]
mod status_line;
#[cfg(feature = "gui")]
#[cfg(test)]
mod tests;
#[cfg(feature = "gui")]
mod view;
#[cfg(feature = "gui")]
mod words;

#[cfg(feature = "gui")]
pub use control::{App, AppError, AppOptions, OpenAtStart};
pub use failure::{ErrorText, Failure};
