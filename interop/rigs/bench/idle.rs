//! Memory of idle sessions: PSS before and after they log in, ten to an account, each with its presence.

use std::time::Duration;

use super::{Figure, start, transport_name};
use crate::client::{Connection, Target, Transport};
use crate::server::{PASSWORD, users};
use crate::{Failure, process};

/// `rigs bench idle`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// How many sessions
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    sessions: Vec<usize>,
    /// How they connect
    #[arg(long, value_enum, value_delimiter = ',', default_value = "plain,direct")]
    transport: Vec<Transport>,
    /// So many of them are of one account
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    resources: u16,
    /// Stream management, resumable
    #[arg(long)]
    sm: bool,
    /// Seconds of silence before memory is read
    #[arg(long, default_value_t = 5)]
    settle: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sessions: vec![1000, 10_000],
            transport: vec![Transport::Plain, Transport::Direct],
            resources: 10,
            sm: false,
            settle: 5,
        }
    }
}

impl Options {
    /// So many sessions, connected one way.
    pub(super) fn of(sessions: usize, transport: Transport) -> Self {
        Self { sessions: vec![sessions], transport: vec![transport], ..Self::default() }
    }
}

/// Measures each number of sessions on a server of its own.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let resources = usize::from(options.resources);
    for &transport in &options.transport {
        for &count in &options.sessions {
            let server = start(bench)?;
            let accounts = users("u", count.div_ceil(resources));
            server.add_accounts(&accounts)?;
            let target = server.target(transport);
            // Whatever the first logins load stays out of the figure.
            for user in accounts.iter().take(20) {
                session(&target, user, 0, options.sm).await?.close().await?;
            }
            let settle = Duration::from_secs(options.settle);
            tokio::time::sleep(settle).await;
            let before = process::pss(server.pid());
            let mut sessions = Vec::with_capacity(count);
            for (number, user) in accounts.iter().enumerate() {
                let here = resources.min(count - number * resources);
                let tasks: Vec<_> = (0..here)
                    .map(|resource| {
                        let (target, user, sm) = (target.clone(), user.clone(), options.sm);
                        tokio::spawn(async move { session(&target, &user, resource, sm).await })
                    })
                    .collect();
                for task in tasks {
                    sessions.push(task.await??);
                }
            }
            tokio::time::sleep(settle).await;
            let after = process::pss(server.pid());
            // The relay answers nobody.
            for session in sessions.iter_mut().step_by(100).filter(|_| !target.bare) {
                alive(session, &target.domain).await?;
            }
            Figure {
                what: format!(
                    "idle: {count} sessions, {resources} to an account, {}{}",
                    transport_name(transport),
                    if options.sm { ", resumable" } else { "" }
                ),
                values: vec![(after.saturating_sub(before)) as f64 / 1024.0 / count as f64],
                unit: "KiB each",
                note: format!("PSS {} -> {} MiB", before >> 20, after >> 20),
            }
            .done(figures);
        }
    }
    Ok(())
}

async fn session(target: &Target, user: &str, resource: usize, sm: bool) -> Result<Connection, Failure> {
    let mut connection = Connection::log_in(target, user, PASSWORD).await?;
    connection.bind(Some(&format!("r{resource}"))).await?;
    if sm {
        connection.enable(true).await?;
    }
    connection.queue(b"<presence/>");
    connection.flush().await?;
    Ok(connection)
}

/// A session that the server has dropped is no idle session.
async fn alive(session: &mut Connection, domain: &str) -> Result<(), Failure> {
    session.queue(format!("<iq type='get' id='p' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>").as_bytes());
    loop {
        let token = crate::within(Duration::from_secs(10), session.element()).await?;
        if crate::xml::name(session.bytes(token)) == b"iq" {
            return Ok(());
        }
    }
}
