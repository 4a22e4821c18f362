//! The database that the conf names, for the server and for commands that work without one.

use std::sync::Arc;

use rookery_core::config::{Backend, Durability, StoreConf};
use rookery_core::store::Store;
use rookery_store::OpenError;

/// Opens the database, and makes or migrates it where needed.
pub async fn open(conf: &StoreConf) -> Result<Arc<dyn Store>, OpenError> {
    rookery_store::open(&converted(conf)).await
}

/// Tries that, also while a server uses the database. Whether one does, as far as that can be seen.
pub async fn look(conf: &StoreConf) -> Result<bool, OpenError> {
    rookery_store::look(&converted(conf)).await
}

fn converted(conf: &StoreConf) -> rookery_store::StoreConf {
    rookery_store::StoreConf {
        backend: match conf.backend {
            Backend::Sqlite => rookery_store::Backend::Sqlite { path: conf.path.clone() },
            Backend::Postgres => rookery_store::Backend::Postgres {
                url: conf.url.expose().to_owned(),
                connections: conf.connections.get(),
            },
        },
        durability: match conf.durability {
            Durability::Full => rookery_store::Durability::Full,
            Durability::Relaxed => rookery_store::Durability::Relaxed,
        },
    }
}
