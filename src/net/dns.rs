//! Finding the server of another domain: which hosts and ports DNS names for it (RFC 6120 §3.2, XEP-0368), whether that is
//! certain (DNSSEC), which keys it is to show (DANE), and the first of its addresses that answers (RFC 8305).
//!
//! Read it in the order a search goes: [`Resolver`] (`resolver`) asks (`query`), puts the answers in order (`srv`), leaves
//! out addresses that nobody is to be sent to (`private`), and remembers them (`cache`); [`connect()`](connect::connect)
//! tries. What the peer's certificate is worth is for `identity` to say, with [`dane`] as a witness.

mod cache;
mod conf;
pub mod connect;
pub mod dane;
mod host;
mod private;
mod query;
mod resolver;
pub mod srv;
mod target;

pub use conf::{DnsConf, Override};
pub use connect::{ConnectError, ConnectFault, connect};
pub use resolver::{ResolveError, Resolver};
pub use target::{DEFAULT_PORT, Finding, LookupError, Source, SrvRecord, Target, TlsMode, Tlsa};
