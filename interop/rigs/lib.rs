//! Programs that judge an XMPP server from outside, over its sockets and the kernel's accounting of its process. See
//! `README.md` in this folder. Nothing here is shared with Rookery's own code: the client, its scanner, SCRAM and stream
//! management are written a second time, so that a mistake of the server is not repeated by its judge.

pub mod bench;
pub mod client;
pub mod comeback;
pub mod dns;
pub mod kill;
pub mod limits;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod resume;
pub mod rng;
pub mod sasl;
pub mod scanner;
pub mod server;
pub mod sm;
pub mod tls;
pub mod xml;

use std::time::Duration;

/// Why a conversation with the server failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The server ended the stream with an error, this condition.
    #[error("stream error {0}")]
    Stream(String),
    /// Authentication failed.
    #[error("authentication failed: {0}")]
    Sasl(String),
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Something came that makes no sense here.
    #[error("{0}")]
    Protocol(String),
}

impl From<scanner::Malformed> for Failure {
    fn from(error: scanner::Malformed) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<sm::TooHigh> for Failure {
    fn from(error: sm::TooHigh) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A rig's outcome: whether its subject passed.
pub type Verdict = Result<bool, Box<dyn std::error::Error>>;

/// Bounds a conversation in time.
pub async fn within<T>(limit: Duration, conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(limit, conversation).await.unwrap_or(Err(Failure::Timeout(limit)))
}
