//! CPU time of a message that waits for its recipient: stored while nobody is there, and given out at the login. Each message
//! must come once and in order, or the figures are void.

use std::time::{Duration, Instant};

use super::chat::{SILENCE, log_in};
use super::{Figure, micros, start};
use crate::client::{Connection, Target, Transport};
use crate::process::Cpu;
use crate::server::users;
use crate::sm::{NS as SM, Unacked};
use crate::{Failure, within, xml};

/// `rigs bench offline`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Users who are away, each with somebody who writes to them
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Messages for each of them in a run
    #[arg(long, default_value_t = 90)]
    messages: usize,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 50)]
    body: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { pairs: 100, messages: 90, body: 50 }
    }
}

/// How long all of a run may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Servers that write later than they say have done so by then.
const SETTLES: Duration = Duration::from_secs(3);

/// Measures, all runs on one server.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = start(bench)?;
    let (senders, recipients) = (users("s", options.pairs), users("r", options.pairs));
    server.add_accounts(&senders)?;
    server.add_accounts(&recipients)?;
    let target = server.target(Transport::Plain);
    let count = (options.pairs * options.messages) as f64;
    let (mut stored, mut given, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut writers = Vec::new();
    for sender in &senders {
        // The presence, counted from `<enabled/>` on.
        writers.push((log_in(&target, sender, true).await?, 1));
    }
    for run in 0..bench.runs {
        let (before, begin) = (Cpu::read(server.pid()), Instant::now());
        let tasks: Vec<_> = writers
            .drain(..)
            .zip(&recipients)
            .map(|(writer, to)| {
                let to = format!("{to}@{}", target.domain);
                let (body, messages) = ("b".repeat(options.body), options.messages);
                tokio::spawn(within(PATIENCE, write(writer, run, to, body, messages)))
            })
            .collect();
        for task in tasks {
            writers.push(task.await??);
        }
        rates.push(count / begin.elapsed().as_secs_f64());
        tokio::time::sleep(SETTLES).await;
        stored.push(micros(Cpu::read(server.pid()).since(&before)) / count);
        let before = Cpu::read(server.pid());
        let tasks: Vec<_> = recipients
            .iter()
            .map(|user| {
                let (target, user, messages) = (target.clone(), user.clone(), options.messages);
                tokio::spawn(within(PATIENCE, async move { collect(&target, &user, run, messages).await }))
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        tokio::time::sleep(SETTLES).await;
        given.push(micros(Cpu::read(server.pid()).since(&before)) / count);
    }
    let note = format!("{:.0}/s acknowledged", super::median(&rates));
    let what = "offline: a message stored".into();
    Figure { what, values: stored, unit: "us CPU", note }.done(figures);
    let what = "offline: a message given out, with its share of the login".into();
    Figure { what, values: given, unit: "us CPU", note: String::new() }.done(figures);
    Ok(())
}

/// A connection, and how many stanzas went over it since `<enabled/>`.
type Writer = (Connection, u32);

async fn write(
    (mut session, sent): Writer,
    run: usize,
    to: String,
    body: String,
    messages: usize,
) -> Result<Writer, Failure> {
    for number in 0..messages {
        let id = format!("offline-{run}-{number:06}");
        session.queue(format!("<message to='{to}' type='chat' id='{id}'><body>{body}</body></message>").as_bytes());
    }
    let mut unacked = Unacked::default();
    (0..sent as usize + messages).for_each(|_| unacked.push(()));
    session.queue(format!("<r xmlns='{SM}'/>").as_bytes());
    while !unacked.is_empty() {
        let token = session.element().await?;
        let bytes = session.bytes(token);
        match xml::name(bytes) {
            b"a" => {
                let h = xml::attribute(bytes, "h").and_then(|h| h.parse().ok()).unwrap_or(0);
                unacked.acknowledge(h)?.for_each(drop);
            }
            b"message" => return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes)))),
            b"r" => session.queue(format!("<a xmlns='{SM}' h='0'/>").as_bytes()),
            _ => {}
        }
    }
    Ok((session, sent + messages as u32))
}

async fn collect(target: &Target, user: &str, run: usize, messages: usize) -> Result<(), Failure> {
    let mut session = log_in(target, user, false).await?;
    let mut expected = 0;
    while expected < messages {
        let token = session.element().await?;
        let bytes = session.bytes(token);
        if xml::name(bytes) != b"message" {
            continue;
        }
        let id = xml::attribute(bytes, "id").unwrap_or_default();
        if id != format!("offline-{run}-{expected:06}") {
            return Err(Failure::Protocol(format!("void: {id} came in place of {run}-{expected}")));
        }
        expected += 1;
    }
    // A second copy would come now.
    while let Ok(token) = tokio::time::timeout(SILENCE, session.element()).await {
        let bytes = session.bytes(token?);
        if xml::name(bytes) == b"message" {
            return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes))));
        }
    }
    session.close().await
}
