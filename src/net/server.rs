//! All listeners together: opened before the server calls itself ready, closed first when it ends.
//!
//! What happens on a connection is the [`Service`]'s business; this file brings it there: admitted, and through the
//! handshake on direct TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rookery_core::config::{Listener, ListenerKind, TlsMode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::certs::Certificates;
use crate::limits::{Admission, Unauthenticated};
use crate::listen::{self, Hush, ListenError};
use crate::tls::Tls;
use crate::transport::Transport;

/// How often certificate files are looked at.
const POLL_CERTIFICATES: Duration = Duration::from_secs(5);

/// What is done with each connection. The future should be small: there is one for each idle client.
pub trait Service: Send + Sync + 'static {
    /// Serves one connection to its end.
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static;

    /// The server ends: whatever the service wants to tell its connections beyond what [`Ending`] does.
    fn end(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Where connections go, by the port that they came by. A [`Service`] alone takes those of every port.
pub trait Reception: Send + Sync + 'static {
    /// Starts the task that serves the connection.
    fn receive(&self, connection: Connection);

    /// The server ends.
    fn end(&self) -> impl Future<Output = ()> + Send;
}

impl<S: Service> Reception for S {
    fn receive(&self, connection: Connection) {
        tokio::spawn(self.serve(connection));
    }

    fn end(&self) -> impl Future<Output = ()> + Send {
        Service::end(self)
    }
}

/// How each kind of connections speaks TLS.
#[derive(Debug, Clone)]
pub struct TlsByKind {
    /// With clients and components.
    pub clients: Tls,
    /// With other servers.
    pub servers: Tls,
}

impl From<Tls> for TlsByKind {
    /// With all alike.
    fn from(tls: Tls) -> Self {
        Self { clients: tls.clone(), servers: tls }
    }
}

impl TlsByKind {
    /// With these certificates.
    pub fn new(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        Ok(Self { clients: Tls::for_clients(certificates.clone())?, servers: Tls::for_servers(certificates)? })
    }

    fn of(&self, kind: ListenerKind) -> &Tls {
        match kind {
            ListenerKind::C2s | ListenerKind::Component => &self.clients,
            ListenerKind::S2s => &self.servers,
        }
    }
}

/// A connection that was let in; on a direct TLS port, its handshake is done.
pub struct Connection {
    /// Its bytes.
    pub transport: Transport,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The port it came by.
    pub port: Arc<Port>,
    /// Counts it as unauthenticated: drop it when that is over.
    pub unauthenticated: Option<Unauthenticated>,
    /// Tells when the server ends. The server waits for those who hold one.
    pub ending: Ending,
    shared: Arc<Shared>,
}

/// An open port.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its section in the conf.
    pub conf: Listener,
    /// Its address, with the true port where the conf says 0.
    pub address: SocketAddr,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    tls: TlsByKind,
    admission: Arc<Admission>,
    handshake: Duration,
    /// Of TLS handshakes: a CPU each.
    turns: Semaphore,
    failures: Mutex<Hush>,
}

impl Shared {
    /// Counts and logs a handshake that failed: scanners make many of these.
    fn failed(&self, peer: SocketAddr, error: &io::Error) {
        self.admission.counters().tls_failed.fetch_add(1, Ordering::Relaxed);
        match self.failures.lock().speak(Instant::now()) {
            Some(more) => info!(%peer, more, "TLS handshake failed: {error}"),
            None => debug!(%peer, "TLS handshake failed: {error}"),
        }
    }
}

impl Connection {
    /// The answer to `<starttls/>`, once `<proceed/>` is written: the handshake. `to` is the domain of the stream header;
    /// `unread` is what has been read behind `<starttls/>`, which must be nothing. After an error the connection
    /// is of no more use, and all has been logged.
    pub async fn start_tls(&mut self, to: &str, unread: &[u8]) -> io::Result<()> {
        let secured = match self.transport.start_tls(self.shared.tls.of(self.port.conf.kind), to, unread) {
            Ok(()) => self.transport.secure_by_turns(self.shared.handshake, &self.shared.turns).await,
            Err(error) => Err(error),
        };
        secured.inspect_err(|error| self.shared.failed(self.peer, error))
    }
}

/// A connection's view of the server's end.
#[derive(Debug, Clone)]
pub struct Ending(watch::Receiver<bool>);

impl Ending {
    /// The view of an end that this sender tells of.
    pub(crate) fn of(ending: &watch::Sender<bool>) -> Self {
        Self(ending.subscribe())
    }

    /// Whether the server has begun to end.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the server begins to end. Safe to drop at any await.
    pub async fn begun(&mut self) {
        // An error means that the server is gone: that, too, is its end.
        let _ = self.0.wait_for(|ending| *ending).await;
    }
}

/// Open ports, not yet served.
#[derive(Debug)]
pub struct Server {
    ports: Vec<(Arc<Port>, TcpListener)>,
    shared: Arc<Shared>,
}

impl Server {
    /// Opens the ports, all or none. `handshake` is how long a TLS handshake may take. Must be called within a tokio
    /// runtime.
    pub fn bind(
        listeners: &[Listener],
        tls: impl Into<TlsByKind>,
        admission: Arc<Admission>,
        handshake: Duration,
    ) -> Result<Self, ListenError> {
        let tls = tls.into();
        let mut ports = Vec::new();
        for conf in listeners {
            let listener = listen::bind(conf.address)?;
            let address = listener.local_addr().unwrap_or(conf.address);
            ports.push((Arc::new(Port { conf: conf.clone(), address }), listener));
        }
        let turns = Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from));
        let shared = Arc::new(Shared { tls, admission, handshake, turns, failures: Mutex::default() });
        Ok(Self { ports, shared })
    }

    /// The open ports.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().map(|(port, _)| &**port)
    }

    /// Serves until `end` comes; then closes the ports, tells the connections, and waits for them at most `grace`.
    pub async fn run<R: Reception>(self, service: Arc<R>, end: impl Future<Output = ()>, grace: Duration) {
        let (ending, view) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (port, listener) in self.ports {
            let door =
                Door { port, shared: self.shared.clone(), service: service.clone(), ending: Ending(view.clone()) };
            tasks.spawn(async move {
                let admission = door.shared.admission.clone();
                listen::accept(&listener, &admission, |tcp, peer, guard| door.enter(tcp, peer, guard)).await;
            });
        }
        drop(view);
        tasks.spawn(watch_certificates(self.shared.tls.clients.clone()));
        end.await;
        tasks.shutdown().await;
        let _ = ending.send(true);
        service.end().await;
        if tokio::time::timeout(grace, ending.closed()).await.is_err() {
            info!(connections = ending.receiver_count(), "some connections did not end in time");
        }
    }
}

/// A port and what to do with those who come by it.
struct Door<R> {
    port: Arc<Port>,
    shared: Arc<Shared>,
    service: Arc<R>,
    ending: Ending,
}

impl<R: Reception> Door<R> {
    fn enter(&self, tcp: TcpStream, peer: SocketAddr, guard: Unauthenticated) {
        let direct = self.port.conf.tls == TlsMode::Direct;
        let transport = if direct {
            Transport::direct_tls(tcp, self.shared.tls.of(self.port.conf.kind))
        } else {
            Transport::plain(tcp)
        };
        let transport = match transport {
            Ok(transport) => transport,
            // Most likely the peer has gone already.
            Err(error) => return debug!(%peer, "connection not taken: {error}"),
        };
        let mut connection = Connection {
            transport,
            peer,
            port: self.port.clone(),
            unauthenticated: Some(guard),
            ending: self.ending.clone(),
            shared: self.shared.clone(),
        };
        if !direct {
            return self.service.receive(connection);
        }
        let service = self.service.clone();
        // The handshake has a task of its own, so that its state is gone when the service's begins.
        tokio::spawn(async move {
            let patience = connection.shared.handshake;
            let secured = tokio::select! {
                secured = connection.transport.secure_by_turns(patience, &connection.shared.turns) => secured,
                () = connection.ending.begun() => return,
            };
            match secured {
                Ok(()) => service.receive(connection),
                Err(error) => connection.shared.failed(peer, &error),
            }
        });
    }
}

async fn watch_certificates(tls: Tls) {
    let mut tick = tokio::time::interval(POLL_CERTIFICATES);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let certificates = tls.certificates().clone();
        // Files may be on a slow disk. It has logged what it found.
        let _ = tokio::task::spawn_blocking(move || certificates.poll()).await;
    }
}
