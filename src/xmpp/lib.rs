//! The words of the RFCs: addresses, namespaces, errors, counters. Bytes and time come in, events and bytes go out;
//! there is no socket, no clock, no database and no task in this crate.

mod chars;
pub mod element;
pub mod error;
mod escape;
pub mod jid;
pub mod name;
pub mod ns;
pub mod sasl;
mod write;
