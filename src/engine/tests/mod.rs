//! The engine in a small world of its own, and in pictures.

mod pictures;
mod properties;
mod recorded;
mod scenes;
mod world;
