//! The database of Rookery: SQLite for one machine, PostgreSQL for larger ones, memory for tests.
//!
//! It answers the traits of `rookery_core::store` and knows nothing of stanzas. Three promises hold for every backend:
//!
//! * what `Ok` was said to is on disk (design: ack after commit), unless the conf relaxes it, which the log then says;
//! * every call ends within [`DEADLINE`], whatever the disk or the network does;
//! * a failing database is logged once per kind of failure and ten seconds, and once when it answers again.
//!
//! SQL is written as literals with bound parameters only; no statement is ever put together from text.

mod archive;
mod batch;
mod codec;
mod conf;
mod epochs;
mod health;
mod memory;
mod migrations;
mod open;
mod outgoing;
mod postgres;
mod rooms;
mod rows;
mod sessions;
mod span;
mod sqlite;
mod words;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use conf::{Backend, Durability, StoreConf};
pub use health::DEADLINE;
pub use memory::{MemoryStore, Tails};
pub use open::{OpenError, look, open, open_within};
