//! What the server promises, tried on the server itself, in this process.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod archive;
mod archive_keeping;
mod authority;
mod blocking;
mod canary;
mod caps;
mod carbons;
mod chaos;
mod commands;
mod component;
mod contacts;
mod delivery;
mod disco;
mod documents;
mod flexible_offline;
mod floods;
mod layout;
mod outside;
mod presence;
mod questions;
mod races;
mod register;
mod remote;
mod remote_in;
mod remote_random;
mod resend;
mod restart;
mod rfc6121;
mod room_archive;
mod room_commands;
mod rooms;
mod rooms_durable;
mod rooms_floods;
mod rooms_races;
mod rooms_secrets;
mod roster;
mod rules;
mod s2s;
mod s2s_check;
mod s2s_check_broken;
mod s2s_check_certificates;
mod s2s_hostile;
mod s2s_peers;
mod security;
mod served;
mod subscription;
mod tables;
mod talk;
mod told;
mod world;
mod writer;
