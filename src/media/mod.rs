//! Bytes to packets to frames and samples, on one clock.

pub mod api;
pub mod picture;
