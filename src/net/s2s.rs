//! Streams between servers.
//!
//! `identity` says whether a certificate proves a domain, `roots` whom we believe that.

pub mod identity;
pub mod roots;
