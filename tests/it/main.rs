//! What the server promises, tried on the server itself, in this process.

mod blocking;
mod caps;
mod contacts;
mod delivery;
mod disco;
mod questions;
mod register;
mod world;
