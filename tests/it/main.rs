//! What the server promises, tried on the server itself, in this process.

mod commands;
mod delivery;
mod world;
