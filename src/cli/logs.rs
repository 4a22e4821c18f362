//! Where log lines go: standard error, as text for people or JSON for programs.
//!
//! `RUST_LOG` replaces the conf's level, to look at one part closely (`RUST_LOG=info,rookery_net=trace`).

use std::io::IsTerminal;

use rookery_core::config::{LogConf, LogFormat, LogLevel};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// Libraries that talk much at the levels where an admin looks for the server's own lines.
const TALKATIVE: [&str; 4] = ["sqlx", "rustls", "tokio", "mio"];

/// The running log.
pub(super) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    is_fixed: bool,
}

impl Logs {
    /// Begins to log.
    pub(super) fn start(conf: &LogConf) -> Self {
        let environment = EnvFilter::try_from_default_env().ok().filter(|_| std::env::var_os("RUST_LOG").is_some());
        let is_fixed = environment.is_some();
        let (filter, handle) = reload::Layer::new(environment.unwrap_or_else(|| filter(conf.level)));
        let lines = match conf.format {
            LogFormat::Text => {
                fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).boxed()
            }
            LogFormat::Json => fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_writer(std::io::stderr)
                .boxed(),
        };
        // A second subscriber can only be there in tests; they share the first.
        drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let what = panic.payload_as_str().unwrap_or_default();
            tracing::error!(place, what, "a task failed in a way that is a bug: please report it with this line");
        }));
        Self { filter: handle, is_fixed }
    }

    /// Takes up the level of a new conf.
    pub(super) fn set_level(&self, level: LogLevel) {
        if !self.is_fixed && self.filter.reload(filter(level)).is_err() {
            tracing::warn!("the new log level was not taken up");
        }
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let quiet = match level {
        LogLevel::Error => "error",
        _ => "warn",
    };
    let rest: String = TALKATIVE.iter().map(|name| format!(",{name}={quiet}")).collect();
    EnvFilter::new(format!("{}{rest}", level.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stay_quiet() {
        let filter = filter(LogLevel::Debug).to_string();
        assert!(filter.contains("debug") && filter.contains("sqlx=warn"), "{filter}");
    }
}
