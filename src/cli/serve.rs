//! `rookery serve`: starts the server, says what to do next, and turns signals into reload and shutdown.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rookery::Ready;
use rookery_core::config::Conf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::logs::Logs;
use super::{Outcome, complain, files, find_conf, runtime};

pub(super) fn run(named: Option<&Path>, started: Instant) -> Outcome {
    let read = find_conf(named).and_then(|path| Conf::read(&path).map(|conf| (path, conf)));
    let (path, conf) = match read {
        Ok(read) => read,
        Err(error) => {
            complain(&error.to_string());
            return Outcome::Failed;
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Outcome::Failed;
        }
    };
    let logs = Logs::start(conf.log());
    files::raise_limit();
    runtime.block_on(serve(path, conf, named.is_some(), logs, started))
}

async fn serve(path: PathBuf, conf: Conf, is_named: bool, logs: Logs, started: Instant) -> Outcome {
    let (reload, reloads) = mpsc::channel(1);
    let first = conf.clone();
    tokio::spawn(watch_hangups(path.clone(), conf.clone(), logs, reload));
    let say_ready = |ready: &Ready| welcome(&first, is_named.then_some(path.as_path()), ready, started);
    match rookery::serve(conf, say_ready, reloads, ended()).await {
        Ok(()) => {
            tracing::info!("the server has ended");
            Outcome::Done
        }
        Err(error) => {
            tracing::error!("the server does not start: {error}");
            Outcome::Failed
        }
    }
}

/// What an admin wants to know first.
fn welcome(conf: &Conf, named: Option<&Path>, ready: &Ready, started: Instant) {
    let server = conf.server();
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    tracing::info!(
        conf = full(Path::new(conf.file())),
        data = full(&server.data),
        certificates = full(&server.certs),
        "conf, data and certificates"
    );
    for (listener, address) in &ready.listeners {
        tracing::info!(%address, tls = listener.tls.as_str(), "{} connect here", match listener.kind {
            rookery_core::config::ListenerKind::C2s => "clients",
            rookery_core::config::ListenerKind::S2s => "servers",
            rookery_core::config::ListenerKind::Component => "components",
        });
    }
    let hosts: Vec<&str> = conf.hosts().iter().map(|host| host.domain.as_str()).collect();
    let program = std::env::args().next().unwrap_or_else(|| "rookery".to_owned());
    let option = named.map(|path| format!(" --config {}", path.display())).unwrap_or_default();
    tracing::info!(
        "hosts: {}; to make an account: {program}{option} user add alice@{}",
        hosts.join(", "),
        hosts.first().copied().unwrap_or("localhost")
    );
    tracing::info!("ready in {} ms", started.elapsed().as_millis());
}

/// SIGHUP: reads the conf again. One that is wrong changes nothing.
async fn watch_hangups(path: PathBuf, mut conf: Conf, logs: Logs, reload: mpsc::Sender<Conf>) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be watched: the conf is read at start only");
            return;
        }
    };
    while hangups.recv().await.is_some() {
        let read = Conf::read(&path).and_then(|new| rookery::judge(&new).map(|()| new));
        let new = match read {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("the conf stays as it was: {error}");
                continue;
            }
        };
        for option in conf.needs_restart(&new) {
            tracing::warn!(option, "this change in the conf waits for a restart");
        }
        logs.set_level(new.log().level);
        conf = new.clone();
        if reload.send(new).await.is_err() {
            return;
        }
        tracing::info!(conf = conf.file(), "the conf was read again");
    }
}

/// SIGTERM or Ctrl-C, watched from the call on. A second one does not wait for the end.
fn ended() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signals cannot be watched: the server ends by SIGKILL only");
            return std::future::pending().await;
        };
        let mut next = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("ending; once more ends at once");
        tokio::spawn(async move {
            next().await;
            std::process::exit(1);
        });
    }
}
