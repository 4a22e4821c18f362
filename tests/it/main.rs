//! What the server promises, tried on the server itself, in this process.

mod commands;
mod delivery;
mod outside;
mod presence;
mod rfc6121;
mod roster;
mod rules;
mod subscription;
mod told;
mod world;
