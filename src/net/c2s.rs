//! Client connections: what they go by, and the task that drives each.
//!
//! The rules of the stream are `rookery_xmpp::stream`'s, those of sessions and stanzas `rookery-core`'s; the
//! driver (`c2s/driver.rs`) carries bytes and time between them, and `c2s/login.rs` the answers until there is a session.

mod driver;
mod login;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use rookery_core::config::{Conf, TlsMode};
use rookery_core::server::Server;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::sasl::{Decoy, Policy, Secret};
use rookery_xmpp::stream::{Config, Deadlines, Kind};
use tokio::sync::Semaphore;

use crate::patience::LAST_WORDS;
use crate::rate::{self, Rates};
use crate::server::{Connection, Service};
use crate::throttle::{AuthLimits, Throttle};

/// How long a client may take to acknowledge when it is asked (XEP-0198): then it is taken to be gone.
const ACK_PATIENCE: Duration = Duration::from_secs(120);

/// Serves clients.
pub struct C2s {
    common: Arc<Common>,
    settings: ArcSwap<Settings>,
}

/// What all client connections share.
struct Common {
    server: Arc<Server>,
    /// Hashing a password (PLAIN) takes milliseconds of CPU: so many at once, and never on a worker.
    hashing: Arc<Semaphore>,
    buckets: rate::Shared,
    throttle: Throttle,
    counters: Counters,
}

/// What happened so far; metrics read it.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub authenticated: AtomicU64,
    pub auth_failed: AtomicU64,
    /// Attempts to authenticate that had to wait.
    pub auth_delayed: AtomicU64,
    /// Attempts to authenticate that were not looked at, after too many others.
    pub auth_refused: AtomicU64,
    /// How often a connection was not read from for a while, for it had sent too fast.
    pub paused: AtomicU64,
}

/// What the conf says, made ready.
#[derive(Debug)]
struct Settings {
    starttls: Arc<Config>,
    direct: Arc<Config>,
    plain: Arc<Config>,
    /// A plain listener that lets passwords through as they are.
    trusted: Arc<Config>,
    rates: Rates,
    auth: AuthLimits,
    /// Ranges to which limits per address do not apply.
    exempt: Vec<IpNet>,
    write_stall: Duration,
}

impl C2s {
    /// For a server that has started.
    pub fn new(server: Arc<Server>) -> Arc<Self> {
        let settings = ArcSwap::from_pointee(Settings::new(&server, &server.conf()));
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let common = Common {
            server,
            hashing: Arc::new(Semaphore::new(cpus)),
            buckets: rate::Shared::default(),
            throttle: Throttle::default(),
            counters: Counters::default(),
        };
        Arc::new(Self { common: Arc::new(common), settings })
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.common.counters
    }

    /// Takes up the server's conf for new connections (SIGHUP).
    pub fn reload(&self) {
        self.settings.store(Arc::new(Settings::new(&self.common.server, &self.common.server.conf())));
    }
}

impl Service for C2s {
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        let settings = self.settings.load_full();
        driver::Driver::new(self.common.clone(), settings, connection).run()
    }

    /// Sessions are told by core: their streams need not look out for the end themselves.
    fn end(&self) -> impl Future<Output = ()> + Send {
        let server = self.common.server.clone();
        async move { server.stop().await }
    }
}

impl Settings {
    fn new(server: &Server, conf: &Conf) -> Self {
        let limits = conf.limits();
        let authenticated = Limits {
            element_bytes: bytes(limits.stanza.get()),
            depth: limits.depth.get(),
            elements: limits.elements.get(),
            attributes: limits.attributes.get(),
            namespaces: limits.namespaces.get(),
            name_bytes: bytes(limits.name.get()),
            ..Limits::c2s()
        };
        let config = |starttls: bool, secured: bool| {
            Arc::new(Config {
                kind: Kind::C2s,
                starttls,
                require_tls: starttls,
                secured,
                policy: Policy::CLIENTS,
                decoy: Decoy { secret: Secret::new(server.secret()), iterations: conf.server().scram_iterations.get() },
                auth_attempts: u8::try_from(limits.failed_auths.get()).unwrap_or(u8::MAX),
                pre_auth: Limits {
                    element_bytes: bytes(limits.pre_auth_element.get()),
                    stream_bytes: Some(bytes(limits.pre_auth_stream.get())),
                    depth: limits.pre_auth_depth.get(),
                    elements: limits.pre_auth_elements.get(),
                    ..authenticated
                },
                limits: authenticated,
                deadlines: Deadlines {
                    header: limits.stream_header.get(),
                    handshake: limits.tls_handshake.get(),
                    negotiation: limits.authentication.get(),
                    closing: LAST_WORDS,
                },
            })
        };
        Self {
            starttls: config(true, false),
            direct: config(false, true),
            plain: config(false, false),
            trusted: config(false, true),
            rates: Rates::from(limits),
            auth: AuthLimits::from(limits),
            exempt: limits.exempt.clone(),
            write_stall: limits.write_stall.get(),
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|range| range.contains(&address))
    }

    fn stream(&self, mode: TlsMode, trusted: bool) -> Arc<Config> {
        match mode {
            TlsMode::Starttls => self.starttls.clone(),
            TlsMode::Direct => self.direct.clone(),
            TlsMode::Plain if trusted => self.trusted.clone(),
            TlsMode::Plain => self.plain.clone(),
        }
    }
}

/// The conf's bounds are far below 4 GiB.
fn bytes(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
