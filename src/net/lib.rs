//! Bytes between Rookery and the world: listeners, TLS, certificates and the limits on who may connect.
//!
//! Read it in the order a connection passes: `listen` accepts, `limits` admits, `transport` carries the bytes, `tls` secures
//! them with a certificate of `certs`, and `intake` gives them to the stream; `rate` and `throttle` slow down who sends or
//! guesses too much. What the bytes say is `rookery-xmpp`'s, what they do `rookery-core`'s.

mod address;
pub mod c2s;
pub mod certificate;
pub mod certs;
pub mod component;
pub mod dns;
mod intake;
pub mod limits;
pub mod listen;
pub mod outgoing;
mod patience;
mod peer_certificate;
pub mod rate;
pub mod s2s;
mod selfsigned;
pub mod server;
pub mod services;
pub mod throttle;
pub mod tls;
mod tls_session;
pub mod transport;
mod worker;
