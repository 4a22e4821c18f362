//! Which service takes the connections of which port: clients, other servers, or components.

use std::sync::Arc;

use rookery_core::config::ListenerKind;
use tracing::{error, warn};

use crate::c2s::C2s;
use crate::component::Components;
use crate::s2s::S2s;
use crate::server::{Connection, Reception, Service};

/// All services of a server.
pub struct Services {
    /// Of clients.
    pub clients: Arc<C2s>,
    /// Of other servers; `None` when the conf wants nothing to do with them.
    pub servers: Option<Arc<S2s>>,
    /// Of external components.
    pub components: Arc<Components>,
}

impl Services {
    /// Takes up the server's conf for new connections (SIGHUP).
    pub fn reload(&self) {
        self.clients.reload();
        self.components.reload();
        if let Some(Err(fault)) = self.servers.as_ref().map(|servers| servers.reload()) {
            warn!("for other servers the conf stays as it was: {fault}");
        }
    }
}

impl Reception for Services {
    fn receive(&self, connection: Connection) {
        // Each has a task of its own kind, since those of clients are many and have to be small.
        match (connection.port.conf.kind, &self.servers) {
            (ListenerKind::C2s, _) => drop(tokio::spawn(self.clients.serve(connection))),
            (ListenerKind::Component, _) => drop(tokio::spawn(self.components.serve(connection))),
            (ListenerKind::S2s, Some(servers)) => drop(tokio::spawn(servers.serve(connection))),
            (ListenerKind::S2s, None) => error!("there is a port for servers, and nothing that serves it"),
        }
    }

    /// Clients first: what their end has to say to other servers goes out.
    async fn end(&self) {
        Service::end(&*self.clients).await;
        if let Some(servers) = &self.servers {
            Service::end(&**servers).await;
        }
    }
}
