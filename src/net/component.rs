//! External components (XEP-0114): gateways and services that connect to us and are a domain of their own.
//!
//! Several may come by one port: the stream header says which. The rules of the stream are `rookery_xmpp::stream`'s; what a
//! component may say, and what waits for it, is core's (`core/remote`). Here are the port's settings; the driver of a
//! connection is `component/driver.rs`, and what a component has for certain is worked out in `component/confirm.rs`.
//!
//! **A second connection with the right secret replaces the first**, which is closed with `conflict`. Prosody refuses the new
//! one by default, ejabberd has both and deals stanzas out among them. Refusing leaves a component that restarts outside until
//! the connection of its dead predecessor times out; dealing out gives up the order. Who replaces gets what the one before was
//! not known to have, first and in order, and what the one before sends from then on is not taken.

mod confirm;
mod driver;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use rookery_core::config::Conf;
use rookery_core::server::Server;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::sasl::{Decoy, Policy, Secret};
use rookery_xmpp::stream::{Config, Deadlines, Kind};

use crate::patience::LAST_WORDS;
use crate::server::{Connection, Service};
use crate::throttle::{AuthLimits, Throttle};

/// How long the answer to a wrong handshake is kept back.
const DISAPPOINTMENT: Duration = Duration::from_secs(1);

/// Serves components.
pub struct Components {
    common: Arc<Common>,
    settings: ArcSwap<Settings>,
}

/// What all of their connections share.
struct Common {
    server: Arc<Server>,
    throttle: Throttle,
}

/// What the conf says, made ready.
#[derive(Debug)]
struct Settings {
    stream: Arc<Config>,
    auth: AuthLimits,
    /// Ranges to which limits per address do not apply.
    exempt: Vec<IpNet>,
    write_stall: Duration,
}

impl Components {
    /// For a server that has started.
    pub fn new(server: Arc<Server>) -> Arc<Self> {
        let settings = ArcSwap::from_pointee(Settings::new(&server, &server.conf()));
        Arc::new(Self { common: Arc::new(Common { server, throttle: Throttle::default() }), settings })
    }

    /// Takes up the server's conf for new connections (SIGHUP).
    pub fn reload(&self) {
        self.settings.store(Arc::new(Settings::new(&self.common.server, &self.common.server.conf())));
    }
}

impl Service for Components {
    fn serve(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        driver::Driver::new(self.common.clone(), self.settings.load_full(), connection).run()
    }
}

impl Settings {
    fn new(server: &Server, conf: &Conf) -> Self {
        let limits = conf.limits();
        let authenticated = Limits {
            element_bytes: bytes(conf.s2s().stanza.get()),
            depth: limits.depth.get(),
            elements: limits.elements.get(),
            attributes: limits.attributes.get(),
            namespaces: limits.namespaces.get(),
            name_bytes: bytes(limits.name.get()),
            ..Limits::s2s()
        };
        let stream = Config {
            kind: Kind::Component,
            // A port for components is inside TLS from the first byte, or on the own machine.
            starttls: false,
            require_tls: false,
            secured: true,
            policy: Policy::SERVERS,
            decoy: Decoy { secret: Secret::new(server.secret()), iterations: conf.server().scram_iterations.get() },
            auth_attempts: 1,
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
        };
        Self {
            stream: Arc::new(stream),
            auth: AuthLimits::from(limits),
            exempt: limits.exempt.clone(),
            write_stall: limits.write_stall.get(),
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|range| range.contains(&address))
    }
}

/// The conf's bounds are far below 4 GiB.
fn bytes(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
