//! The words of the RFCs: addresses, namespaces, errors, counters. Bytes and time come in, events and bytes go out;
//! there is no socket, no clock, no database and no task in this crate.

pub mod error;
pub mod jid;
pub mod ns;
