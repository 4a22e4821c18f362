//! The server model: modules and their hooks, accounts and sessions, the router, and what it asks of the database.
//!
//! Read it in the order a stanza passes: `router` says where it goes and `deliver` what becomes of it there; `session` and
//! `tail` hold it until it is confirmed; `account` and `server` hold those. `module` is what features are written against,
//! `store` what a database must do.
//!
//! Core knows stanzas and addresses (`rookery-xmpp`) and nothing of sockets or SQL, and of single XEPs what more than one
//! module needs.

pub mod account;
pub mod archive;
pub mod archiving;
pub mod caps;
pub mod config;
pub mod control;
mod copies;
mod deliver;
pub mod fan_out;
pub mod host;
pub mod ids;
pub mod mailbox;
pub mod module;
pub mod panic;
mod receipt;
pub mod remote;
mod request;
mod restart;
pub mod retention;
pub mod rooms;
pub mod roster;
mod router;
mod seen;
pub mod server;
pub mod session;
pub mod slots;
pub mod store;
pub mod tail;
mod tombstones;
pub mod turns;
mod writer;
