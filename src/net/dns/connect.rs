//! Connecting to the first address that answers (Happy Eyeballs, RFC 8305 §5), over all targets of a domain.
//!
//! Attempts begin one after the other, sooner when one fails, and run side by side; the first that connects wins and the
//! others are dropped. TLS is not part of it: a caller whose TLS fails goes on with the targets behind the one that it got.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::target::Target;

/// RFC 8305 §5, "Connection Attempt Delay": how long an address has until the next is tried as well.
const STAGGER: Duration = Duration::from_millis(250);
/// The same at the step to another priority: RFC 2782 wants the better servers used while they can be reached, and a slow
/// one can. RFC 8305 §8 allows no more than this.
const STEP_DOWN: Duration = Duration::from_secs(2);
/// More addresses than these are not tried in one go.
const MAX_ATTEMPTS: usize = 40;

/// An attempt that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct ConnectError {
    /// The target's host.
    pub host: String,
    /// The target's port.
    pub port: u16,
    /// The address that was tried; None when there was none to try.
    pub address: Option<SocketAddr>,
    /// Why.
    pub fault: ConnectFault,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectFault {
    /// Nobody listens there.
    Refused,
    /// Nothing came back while there was patience.
    Silent(Duration),
    /// The network says that it does not go there.
    Unreachable(String),
    /// Another error of the system.
    Other(String),
    /// The target has no address to try; in plain words why.
    NoAddress(String),
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused (nobody listens on this port)"),
            Self::Silent(patience) => {
                write!(f, "no answer within {:.1} seconds (a firewall that drops packets?)", patience.as_secs_f32())
            }
            Self::Unreachable(why) | Self::Other(why) | Self::NoAddress(why) => f.write_str(why),
        }
    }
}

impl ConnectError {
    fn describe(&self) -> String {
        let Self { host, port, address, fault } = self;
        match address {
            Some(address) if address.ip().to_string() == *host => format!("{address}: {fault}"),
            Some(address) => format!("{host}:{port} ({}): {fault}", address.ip()),
            None => format!("{host}:{port}: {fault}"),
        }
    }
}

impl From<io::Error> for ConnectFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable => {
                Self::Unreachable(format!("this machine has no way there: {error}"))
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Connects to the first of the targets' addresses that answers within `patience`: the connection, which target (its index),
/// and the address. Otherwise all that was tried and why it failed, in the order in which it failed; empty only if there
/// are no targets. Cancel-safe: dropped, it leaves no connection behind.
pub async fn connect(
    targets: &[Target],
    patience: Duration,
) -> Result<(TcpStream, usize, SocketAddr), Vec<ConnectError>> {
    race(targets, patience, async |address| {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
    .await
}

/// An address to try, and how long after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt {
    target: usize,
    address: SocketAddr,
    delay: Duration,
}

fn plan(targets: &[Target]) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut priority = None;
    for (index, target) in targets.iter().enumerate() {
        for ip in &target.addresses {
            let delay = if priority.is_some_and(|last| last != target.priority) { STEP_DOWN } else { STAGGER };
            priority = Some(target.priority);
            let address = SocketAddr::new(*ip, target.port);
            // Two records may name the same port of the same host; only with another kind of TLS is it another attempt.
            let same = |other: &Attempt| {
                other.address == address && targets.get(other.target).is_some_and(|other| other.tls == target.tls)
            };
            if !attempts.iter().any(same) {
                attempts.push(Attempt { target: index, address, delay });
            }
        }
    }
    attempts.truncate(MAX_ATTEMPTS);
    attempts
}

async fn race<C, F, Fut>(
    targets: &[Target],
    patience: Duration,
    connect: F,
) -> Result<(C, usize, SocketAddr), Vec<ConnectError>>
where
    C: Send + 'static,
    F: Fn(SocketAddr) -> Fut,
    Fut: Future<Output = io::Result<C>> + Send + 'static,
{
    let begun = Instant::now();
    let deadline = begun + patience;
    let attempts = plan(targets);
    let failed = |target: usize, address, fault| {
        let (host, port) = targets.get(target).map_or((String::new(), 0), |target| (target.host.clone(), target.port));
        ConnectError { host, port, address, fault }
    };
    let mut errors: Vec<ConnectError> = (targets.iter().enumerate())
        .filter(|(_, target)| target.addresses.is_empty())
        .map(|(index, target)| failed(index, None, ConnectFault::NoAddress(target.notes.join("; "))))
        .collect();
    let mut waiting = attempts.iter().copied().peekable();
    let mut open: Vec<(Attempt, Instant)> = Vec::new();
    let mut running = JoinSet::new();
    let mut next_at = begun;
    while waiting.peek().is_some() || !open.is_empty() {
        tokio::select! {
            biased;
            Some(done) = running.join_next(), if !running.is_empty() => {
                let Ok((attempt, outcome)): Result<(Attempt, io::Result<C>), _> = done else { continue };
                match outcome {
                    Ok(connection) => return Ok((connection, attempt.target, attempt.address)),
                    Err(error) => {
                        open.retain(|(other, _)| *other != attempt);
                        errors.push(failed(attempt.target, Some(attempt.address), error.into()));
                        next_at = Instant::now();
                    }
                }
            }
            () = sleep_until(next_at), if waiting.peek().is_some() => {
                let Some(attempt) = waiting.next() else { continue };
                let connecting = connect(attempt.address);
                running.spawn(async move { (attempt, connecting.await) });
                open.push((attempt, Instant::now()));
                next_at = Instant::now() + waiting.peek().map_or(STAGGER, |next| next.delay);
            }
            () = sleep_until(deadline) => break,
        }
    }
    let silent = open
        .iter()
        .map(|(attempt, since)| failed(attempt.target, Some(attempt.address), ConnectFault::Silent(since.elapsed())));
    errors.extend(silent);
    Err(errors)
}

#[cfg(test)]
mod tests;
