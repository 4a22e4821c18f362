//! Rookery, put together: the conf, the database, the modules and the network become a server.

pub mod control;
pub mod database;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use rookery_core::config::{Conf, ConfigError, Listener};
use rookery_core::control::AccountCommands;
use tokio::sync::mpsc;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The conf is wrong.
    #[error("{0}")]
    Conf(#[from] ConfigError),
    /// The data folder cannot be had.
    #[error("cannot use the data folder {folder}: {error}")]
    Data {
        /// The folder.
        folder: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The database cannot be had.
    #[error("{0}")]
    Store(#[from] rookery_store::OpenError),
}

/// A server that has begun to serve.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The ports, with the addresses they really have.
    pub listeners: Vec<(Listener, SocketAddr)>,
}

/// Judges what a conf says of modules, without starting anything.
pub fn judge(conf: &Conf) -> Result<(), ConfigError> {
    conf.check_modules(&[])
}

/// Serves until `shutdown`. `on_ready` is called once all ports are open; each conf from `reloads` replaces the one before.
pub async fn serve(
    conf: Conf,
    on_ready: impl FnOnce(&Ready),
    mut reloads: mpsc::Receiver<Conf>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    judge(&conf)?;
    let data = &conf.server().data;
    let control = control::ControlSocket::open(data)
        .map_err(|error| StartError::Data { folder: data.display().to_string(), error })?;
    let store = database::open(conf.store()).await?;
    let commands = Arc::new(AccountCommands::new(&conf, store.clone()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let control = tokio::spawn(control.serve(commands, async { drop(stopped.await) }));
    on_ready(&Ready { listeners: Vec::new() });
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_conf) = reloads.recv() => {}
        }
    }
    drop(stop);
    drop(control.await);
    store.close().await;
    Ok(())
}
