//! The server model: modules and their hooks, accounts and sessions, the router, and what it asks of the database.
//!
//! Core knows stanzas and addresses (`rookery-xmpp`) and nothing of sockets, SQL or single XEPs' features.

pub mod config;
pub mod control;
pub mod roster;
pub mod store;
