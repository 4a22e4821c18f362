//! Listening sockets and the loop that accepts from them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, error, info};

use crate::limits::{Admission, Unauthenticated};

/// Connections that the kernel may hold for us while we are busy.
const BACKLOG: i32 = 1024;

/// Pauses while the system is out of file descriptors or memory: doubling between these.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", remedy(error, *address))]
pub struct ListenError {
    address: SocketAddr,
    error: io::Error,
}

fn remedy(error: &io::Error, address: SocketAddr) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has the port (perhaps another Rookery): stop it or change the conf"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// Opens a port; must be called within a tokio runtime. `[::]` takes IPv4 as well, and where the machine has no IPv6, it
/// is `0.0.0.0`. Port 0 lets the kernel choose, `local_addr` tells which.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = open(address).or_else(|error| {
        let no_ipv6 = address.is_ipv6()
            && address.ip().is_unspecified()
            && (error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable);
        if no_ipv6 { open((Ipv4Addr::UNSPECIFIED, address.port()).into()) } else { Err(error) }
    });
    bound.map_err(|error| ListenError { address, error })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Linux's numbers; std has no names for these.
const EAFNOSUPPORT: i32 = 97;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;
const ENOMEM: i32 = 12;

/// Accepts for ever; drop the future to stop. `serve` must not block: it starts a task.
///
/// Connections that [`Admission`] refuses are reset, which costs this side no TIME-WAIT. When the system has no more
/// file descriptors the loop pauses, and says so once until it is over.
pub async fn accept(
    listener: &TcpListener,
    admission: &Arc<Admission>,
    mut serve: impl FnMut(TcpStream, SocketAddr, Unauthenticated),
) {
    let mut pause = None;
    let mut refusals = Hush::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                admission.counters().accept_errors.fetch_add(1, Ordering::Relaxed);
                if !matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM)) {
                    // The connection is gone already, or its network is.
                    debug!("accept: {error}");
                    continue;
                }
                if pause.is_none() {
                    error!(
                        "cannot accept connections: {error}; raise the limit of open files (LimitNOFILE in the systemd unit, ulimit -n)"
                    );
                }
                let wait = pause.map_or(SHORTEST_PAUSE, |last: Duration| (last * 2).min(LONGEST_PAUSE));
                pause = Some(wait);
                tokio::time::sleep(wait).await;
                continue;
            }
        };
        if pause.take().is_some() {
            info!("accepting connections again");
        }
        match admission.admit(peer.ip(), Instant::now()) {
            Ok(guard) => serve(stream, peer, guard),
            Err(refusal) => {
                // Best effort: without it the connection is merely closed the slower way.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                if let Some(more) = refusals.speak(Instant::now()) {
                    info!(%peer, more, "connection refused: {refusal}");
                }
            }
        }
    }
}

/// Lets one line through in ten seconds and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Hush {
    spoke_at: Option<Instant>,
    silent: u64,
}

impl Hush {
    const EVERY: Duration = Duration::from_secs(10);

    /// `Some(how many were kept back)` if a line may be written now.
    pub(crate) fn speak(&mut self, now: Instant) -> Option<u64> {
        if self.spoke_at.is_some_and(|at| now.saturating_duration_since(at) < Self::EVERY) {
            self.silent += 1;
            return None;
        }
        self.spoke_at = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}
