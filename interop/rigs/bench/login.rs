//! CPU time of a login, from connecting to the bound resource, with its end. TLS handshakes are full ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Figure, micros, start, transport_name};
use crate::Failure;
use crate::client::{Connection, Target, Transport};
use crate::process::Cpu;
use crate::sasl::Mechanism;
use crate::server::{PASSWORD, users};

/// `rigs bench login`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Logins in a run
    #[arg(long, default_value_t = 2000)]
    logins: usize,
    /// Of how many accounts
    #[arg(long, default_value_t = 50)]
    accounts: usize,
    /// At the same time
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// How they connect
    #[arg(long, value_enum, value_delimiter = ',', default_value = "plain,direct")]
    transport: Vec<Transport>,
    /// The mechanism; the strongest that is offered otherwise
    #[arg(long, value_enum)]
    mechanism: Option<Mechanism>,
}

impl Default for Options {
    fn default() -> Self {
        let transport = vec![Transport::Plain, Transport::Direct];
        Self { logins: 2000, accounts: 50, at_once: 8, transport, mechanism: None }
    }
}

impl Options {
    /// By one way of connecting.
    pub(super) fn over(transport: Transport) -> Self {
        Self { transport: vec![transport], ..Self::default() }
    }
}

/// Measures each transport on a server of its own.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    for &transport in &options.transport {
        let server = start(bench)?;
        let accounts = Arc::new(users("u", options.accounts));
        server.add_accounts(&accounts)?;
        let target = Target { mechanism: options.mechanism, ..server.target(transport) };
        // The client's PBKDF2, done once for each account.
        let mut mechanism = options.mechanism;
        for user in accounts.iter() {
            let connection = log_in(&target, user).await?;
            mechanism = mechanism.or_else(|| Mechanism::strongest(&connection.1));
            connection.0.close().await?;
        }
        let mut values = Vec::new();
        let mut seconds = 0.0;
        for _ in 0..bench.runs {
            let before = Cpu::read(server.pid());
            let start = std::time::Instant::now();
            let next = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (0..options.at_once)
                .map(|_| {
                    let (next, accounts, target, logins) =
                        (Arc::clone(&next), Arc::clone(&accounts), target.clone(), options.logins);
                    tokio::spawn(async move {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= logins {
                                return Ok::<_, Failure>(());
                            }
                            log_in(&target, &accounts[number % accounts.len()]).await?.0.close().await?;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await??;
            }
            values.push(micros(Cpu::read(server.pid()).since(&before)) / options.logins as f64);
            seconds += start.elapsed().as_secs_f64();
        }
        Figure {
            what: format!("login: {}, {}", mechanism.map_or("?", Mechanism::name), transport_name(transport)),
            values,
            unit: "us CPU",
            note: format!("{:.0} logins a second", (options.logins * bench.runs) as f64 / seconds),
        }
        .done(figures);
    }
    Ok(())
}

/// Gives the mechanisms that were offered, too.
async fn log_in(target: &Target, user: &str) -> Result<(Connection, Vec<u8>), Failure> {
    crate::within(crate::client::LOGIN, async {
        let mut connection = Connection::open(target).await?.secure().await?;
        let features = connection.features.clone();
        connection.authenticate(user, PASSWORD).await?;
        connection.bind(None).await?;
        Ok((connection, features))
    })
    .await
}
