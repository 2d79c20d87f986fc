//! Bytes to packets to frames and samples, on one clock.
//!
//! Invariants: nothing here knows where bytes come from (only `stream::reader`); every queue is bounded; a seek raises
//! the serial, and whatever carries an older one is dropped; the screen pulls pictures, nothing is pushed at it.
//! One mutex guards [`state`]; no decoding, reading or waiting for bytes happens under it. Lock order: there is only that one.

pub mod api;
pub mod picture;

mod audio;
mod clock;
mod demux;
mod device;
mod error;
mod framemd5;
mod frames;
mod index;
mod io;
mod line;
mod open;
mod pacer;
mod packets;
mod pictures;
mod player;
mod resample;
mod ring;
mod state;
mod video;

#[cfg(test)]
mod tests;

pub use error::MediaError;
pub use player::Player;
