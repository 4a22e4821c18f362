//! Which service takes the connections of which port: clients, or components.

use std::future::Future;
use std::sync::Arc;

use rookery_core::config::ListenerKind;
use tracing::error;

use crate::c2s::C2s;
use crate::component::Components;
use crate::server::{Connection, Reception, Service};

/// All services of a server.
pub struct Services {
    /// Of clients.
    pub clients: Arc<C2s>,
    /// Of external components.
    pub components: Arc<Components>,
}

impl Services {
    /// Takes up the server's conf for new connections (SIGHUP).
    pub fn reload(&self) {
        self.clients.reload();
        self.components.reload();
    }
}

impl Reception for Services {
    fn receive(&self, connection: Connection) {
        // Each has a task of its own kind, since those of clients are many and have to be small.
        match connection.port.conf.kind {
            ListenerKind::C2s => drop(tokio::spawn(self.clients.serve(connection))),
            ListenerKind::Component => drop(tokio::spawn(self.components.serve(connection))),
            ListenerKind::S2s => error!("there is a port for servers, and nothing that serves it"),
        }
    }

    fn end(&self) -> impl Future<Output = ()> + Send {
        Service::end(&*self.clients)
    }
}
