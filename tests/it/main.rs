//! What the server promises, tried on the server itself, in this process.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod canary;
mod commands;
mod delivery;
mod roster;
mod subscription;
mod told;
mod world;
