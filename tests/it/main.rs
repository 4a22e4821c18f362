//! What the server promises, tried on the server itself, in this process.

mod delivery;
mod world;
