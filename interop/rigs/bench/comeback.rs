//! A resumption storm: all sessions lose their connection at once, and all come back at once (XEP-0198 §5). None may be
//! refused, and the server must know what it had of each: the presence that came before.

use std::time::{Duration, Instant};

use super::{Figure, micros, transport_name};
use crate::client::{Connection, LOGIN, Resumption, Target, Transport};
use crate::process::Cpu;
use crate::server::{PASSWORD, Server, Setup, users};
use crate::{Failure, within};

/// `rigs bench comeback`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Sessions
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// How they connect
    #[arg(long, value_enum, default_value = "direct")]
    transport: Transport,
}

impl Default for Options {
    fn default() -> Self {
        Self { sessions: 1000, transport: Transport::Direct }
    }
}

/// Measures, all runs on one server.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut server = Server::with(&bench.server, Setup { resume: Some(600), ..Setup::default() })?;
    server.start()?;
    let accounts = users("u", options.sessions);
    server.add_accounts(&accounts)?;
    let target = server.target(options.transport);
    let mut sessions = Vec::new();
    for user in &accounts {
        sessions.push(begin(&target, user).await?);
    }
    let (mut values, mut spans) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ids: Vec<_> = sessions.drain(..).map(|(connection, id)| (connection.reset(), id).1).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, start) = (Cpu::read(server.pid()), Instant::now());
        let tasks: Vec<_> = ids
            .into_iter()
            .zip(&accounts)
            .map(|(id, user)| {
                let (target, user) = (target.clone(), user.clone());
                tokio::spawn(within(LOGIN * 2, async move { come_back(&target, &user, id).await }))
            })
            .collect();
        for task in tasks {
            sessions.push(task.await??);
        }
        spans.push(start.elapsed().as_secs_f64() * 1e3);
        values.push(micros(Cpu::read(server.pid()).since(&before)) / options.sessions as f64);
    }
    Figure {
        what: format!("comeback: {} sessions at once, {}", options.sessions, transport_name(options.transport)),
        values,
        unit: "us CPU",
        note: format!("each, with its login; all are back after {:.0} ms", super::median(&spans)),
    }
    .done(figures);
    Ok(())
}

/// A connection, and the id that resumes its session.
type Session = (Connection, String);

async fn begin(target: &Target, user: &str) -> Result<Session, Failure> {
    let mut connection = Connection::log_in(target, user, PASSWORD).await?;
    connection.bind(Some("rig")).await?;
    let id = connection.enable(true).await?.id;
    connection.queue(b"<presence/>");
    connection.flush().await?;
    Ok((connection, id.ok_or_else(|| Failure::Protocol("void: the session cannot be resumed".into()))?))
}

async fn come_back(target: &Target, user: &str, id: String) -> Result<Session, Failure> {
    let mut connection = Connection::log_in(target, user, PASSWORD).await?;
    match connection.resume(&id, 0).await? {
        Resumption::Resumed(1) => Ok((connection, id)),
        Resumption::Resumed(h) => {
            Err(Failure::Protocol(format!("void: the server says h='{h}' where it had one stanza")))
        }
        Resumption::Failed(why, _) => Err(Failure::Protocol(format!("void: not resumed: {why}"))),
    }
}
