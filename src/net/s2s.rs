//! Streams between servers.
//!
//! `identity` says whether a certificate proves a domain, `roots` whom we believe that. `check` looks at another domain for
//! an admin.

pub mod check;
pub mod identity;
pub mod roots;
