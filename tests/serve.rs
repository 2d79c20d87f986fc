//! `sluicegate serve`, the program: beside nginx and behind it, with its torrents, its signals and its last words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "serve/beside_nginx.rs"]
mod beside_nginx;
#[path = "serve/program.rs"]
mod program;
#[path = "serve/torrents.rs"]
mod torrents;
