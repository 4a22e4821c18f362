//! How a stream between servers came to its end.

use std::fmt;
use std::io;

use rookery_core::remote::Failure;
use rookery_xmpp::error::{Condition, StreamCondition, StreamError};
use rookery_xmpp::stream::Ending;

use super::failure;
use super::rest::Rest;

/// Of what another server says, so much is repeated in the log and to those who wait.
const LONGEST: usize = 200;

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum Gone {
    /// The stream was closed, by either side.
    Closed(Ending),
    /// The socket failed, or ended before the stream.
    Lost(io::Error),
    /// The peer did nothing for too long.
    TimedOut(&'static str),
    /// What it carried is another stream's now, or was too slow for its senders.
    Past,
    /// The peer goes on by another connection.
    HandedOver,
    /// There is nothing to be had from this peer.
    Failed(Box<Failure>),
    /// A bug in the server.
    Panicked,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Ending::ByPeer(None)) => f.write_str("closed by the other server"),
            Self::Closed(Ending::ByPeer(Some(error))) => {
                write!(f, "closed by the other server with {}", in_words(error))
            }
            Self::Closed(Ending::ByUs(None) | Ending::Login(_)) => f.write_str("closed"),
            Self::Closed(Ending::ByUs(Some(error))) => write!(f, "closed with {error}"),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
            Self::TimedOut(what) => f.write_str(what),
            Self::Past => f.write_str("what it carried has waited too long, or goes by another stream"),
            Self::HandedOver => f.write_str("the other server goes on by another connection"),
            Self::Failed(failure) => f.write_str(&failure.text),
            Self::Panicked => f.write_str("a bug in the server"),
        }
    }
}

impl From<io::Error> for Gone {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Gone {
    /// What those are told who wait for a stream that has come to nothing.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => *failure,
            Self::Closed(Ending::ByPeer(Some(error))) if error.condition == StreamCondition::HostUnknown => {
                failure(true, Condition::RemoteServerNotFound, "the server found there does not know the domain")
            }
            other => failure(false, Condition::RemoteServerTimeout, &other.to_string()),
        }
    }

    /// Whether the peer has said that it does not want us, whoever else it may want.
    pub(super) fn is_refusal(&self) -> bool {
        use StreamCondition::{InvalidFrom, NotAuthorized, PolicyViolation};
        let Self::Closed(Ending::ByPeer(Some(error))) = self else { return false };
        matches!(error.condition, InvalidFrom | NotAuthorized | PolicyViolation)
    }

    /// Whether the peer has ended the stream perhaps over something that it was sent.
    pub(super) fn is_complaint(&self) -> bool {
        use StreamCondition::{
            Conflict, ConnectionTimeout, HostGone, HostUnknown, RemoteConnectionFailed, Reset, ResourceConstraint,
            SeeOtherHost, SystemShutdown,
        };
        let Self::Closed(Ending::ByPeer(Some(error))) = self else { return false };
        !matches!(
            error.condition,
            Conflict
                | ConnectionTimeout
                | HostGone
                | HostUnknown
                | RemoteConnectionFailed
                | Reset
                | ResourceConstraint
                | SeeOtherHost
                | SystemShutdown
        )
    }

    /// Whether the peer has cut off the connection: not the network, which is silent or says so.
    pub(super) fn is_drop(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let Self::Lost(error) = self else { return false };
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    }

    /// Whether the connection is gone and the stream may go on.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::TimedOut(_) | Self::HandedOver)
    }
}

/// What is left when a stream is over.
pub(super) struct Ended {
    /// What we can go on with, on a stream that we had opened.
    pub(super) rest: Option<Rest>,
    /// It has ended at once, and nothing has arrived by it.
    pub(super) is_useless: bool,
    pub(super) reason: String,
}

/// What the other server has ended a stream with. Its words are its own: they do not begin a line of our log.
fn in_words(error: &StreamError) -> String {
    let mut words = error.condition.name().to_owned();
    if error.condition == StreamCondition::SeeOtherHost {
        let host = error.host.as_deref().unwrap_or_default();
        words = format!("{words} ({}), where we do not go: what DNS does not say, nobody else may", quoted(host));
    }
    match &error.text {
        Some(text) => format!("{words}: {}", quoted(text)),
        None => words,
    }
}

/// Text of somebody else's on one line.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_on_its_line() {
        let error =
            StreamError::new(StreamCondition::NotAuthorized).with_text(format!("no\nERROR {}", "x".repeat(1000)));
        let words = Gone::Closed(Ending::ByPeer(Some(error))).to_string();
        assert!(words.starts_with("closed by the other server with not-authorized: no\\nERROR x"), "{words}");
        assert!(words.len() < 300 && !words.contains('\n'), "{words}");
        let elsewhere =
            Gone::Closed(Ending::ByPeer(Some(StreamError::see_other_host("evil.example:1")))).into_failure();
        assert!(elsewhere.text.contains("see-other-host (evil.example:1), where we do not go"), "{}", elsewhere.text);
        assert!(!elsewhere.definite);
    }
}
