//! What an admin sees of another server: its streams, which the network fills in, and what waits for it.

use std::sync::Arc;
use std::time::SystemTime;

use rookery_xmpp::datetime;
use serde::{Deserialize, Serialize};

use super::{Failure, Link};

/// Another server, or an external component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteStatus {
    /// Its domain.
    pub domain: String,
    /// The streams to and from it.
    pub streams: Vec<StreamStatus>,
    /// What waits for it, by our domain.
    pub links: Vec<LinkStatus>,
    /// What went wrong last, if nothing has gone well since.
    pub failure: Option<FailureStatus>,
    /// In how many seconds the next attempt to connect is due, if one has failed and something waits.
    #[serde(default)]
    pub next: Option<u64>,
}

impl RemoteStatus {
    /// One of which nothing more is known.
    pub fn new(domain: impl Into<String>) -> Self {
        Self { domain: domain.into(), streams: Vec::new(), links: Vec::new(), failure: None, next: None }
    }
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its number in the log.
    pub id: u64,
    /// Who has connected: `"out"` if it was us, `"in"` if it was the other server.
    pub direction: String,
    /// The other side's address and port.
    pub address: String,
    /// Since when it is open (RFC 3339, UTC).
    pub since: String,
    /// Seconds since something came in.
    pub silent: u64,
    /// The version of TLS and the cipher; `None` without TLS.
    pub tls: Option<String>,
    /// What is to be said of the other side's certificate, in plain words; `None` when it has shown none.
    pub certificate: Option<String>,
    /// The pairs of domains that may talk on it, each in one direction.
    pub pairs: Vec<PairStatus>,
    /// Stanzas go both ways (XEP-0288).
    pub bidi: bool,
    /// Stanzas are acknowledged (XEP-0198).
    pub acks: bool,
    /// It can be resumed.
    pub resumable: bool,
}

/// A pair of domains that may talk on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairStatus {
    /// Whose stanzas.
    pub from: String,
    /// For whom.
    pub to: String,
    /// How the sender was authenticated: `"certificate"`, `"DANE"` (by a certificate that DNS names), `"dialback"`, `"secret"`.
    pub by: String,
}

/// What waits for another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Our domain.
    pub local: String,
    /// A stream carries it.
    pub carried: bool,
    /// Stanzas that are not confirmed.
    pub stanzas: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How long the oldest has waited, in seconds.
    pub oldest: Option<u64>,
    /// Why the last attempt to connect failed.
    pub failure: Option<FailureStatus>,
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// In plain words.
    pub text: String,
    /// What senders are told, as in `remote-server-timeout`.
    pub condition: String,
    /// It is not tried again by itself.
    pub definite: bool,
    /// When (RFC 3339, UTC).
    pub at: String,
}

impl FailureStatus {
    /// A failure at a time.
    pub fn new(failure: &Failure, at: SystemTime) -> Self {
        Self {
            text: failure.text.clone(),
            condition: failure.condition.name().to_owned(),
            definite: failure.definite,
            at: datetime::format(at),
        }
    }
}

impl LinkStatus {
    pub(super) fn of(link: &Arc<Link>) -> Self {
        let waiting = link.waiting();
        Self {
            local: link.pair().local.to_string(),
            carried: waiting.carried,
            stanzas: waiting.stanzas,
            bytes: waiting.bytes,
            oldest: waiting.oldest.map(|oldest| oldest.as_secs()),
            failure: waiting.failure.map(|(failure, at)| FailureStatus::new(&failure, at)),
        }
    }
}
