//! Every decision, and nothing else: which block is asked of whom, when, and at whose expense.
//!
//! Architecture invariant: sans-IO. Nothing in here reads a clock, opens a socket, starts a thread, sends on a channel,
//! writes a log or draws a random number of its own: time comes in with each event, the seed at construction.

pub mod api;
pub mod snapshot;

pub use api::{Action, Bid, Event, Phase, Timeline};
