//! The words of the RFCs: addresses, namespaces, errors, counters. Bytes and time come in, events and bytes go out;
//! there is no socket, no clock, no database and no task in this crate.

pub mod ack;
pub mod caps;
mod chars;
pub mod dataform;
pub mod datetime;
pub mod dialback;
pub mod element;
pub mod error;
mod escape;
pub mod framer;
pub mod header;
pub mod jid;
pub mod limits;
pub mod name;
pub mod ns;
pub mod parser;
pub mod precis;
mod reader;
pub mod rsm;
pub mod sasl;
mod scope;
pub mod stanza;
pub mod stream;
mod tag;
mod tree;
mod write;
