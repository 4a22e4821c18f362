//! CPU time and round trip of a ping to the server (XEP-0199): sessions that each have one on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::chat::{Times, log_in};
use super::{Figure, Sampling, start, transport_name};
use crate::Failure;
use crate::client::{Connection, Transport};
use crate::server::users;
use crate::xml;

/// `rigs bench ping`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Sessions
    #[arg(long, default_value_t = 50)]
    sessions: usize,
    /// How they connect
    #[arg(long, value_enum, default_value = "plain")]
    transport: Transport,
    /// Seconds of a run
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { sessions: 50, transport: Transport::Plain, seconds: 5 }
    }
}

/// Measures.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = start(bench)?;
    let accounts = users("u", options.sessions);
    server.add_accounts(&accounts)?;
    let target = server.target(options.transport);
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut sessions = Vec::new();
    for account in &accounts {
        sessions.push(log_in(&target, account, false).await?);
    }
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|session| tokio::spawn(play(session, target.domain.clone(), Arc::clone(&answered), Arc::clone(&stop))))
        .collect();
    let sampling = Sampling { server: server.pid(), runs: bench.runs, seconds: options.seconds };
    let sample = sampling.take(|| answered.load(Ordering::Relaxed)).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.append(&mut tokio::time::timeout(Duration::from_secs(30), task).await???);
    }
    Figure {
        what: format!("ping: {} sessions, {}", options.sessions, transport_name(options.transport)),
        values: sample.cpu,
        unit: "us CPU",
        note: format!(
            "{:.0}/s, round trip p50 {:.1?} p99 {:.1?}, ours {:.1} us",
            sample.rate,
            Times::quantile(&mut times, 0.5),
            Times::quantile(&mut times, 0.99),
            sample.ours
        ),
    }
    .done(figures);
    Ok(())
}

/// Pings until told to stop; how long some answers took.
async fn play(
    mut session: Connection,
    domain: String,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for number in 0_u64.. {
        let begin = Instant::now();
        let id = format!("ping-{number}");
        session.queue(format!("<iq type='get' id='{id}' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>").as_bytes());
        loop {
            let token = session.element().await?;
            let bytes = session.bytes(token);
            if xml::name(bytes) != b"iq" {
                continue;
            }
            let of = |name| xml::attribute(bytes, name).unwrap_or_default();
            if of("id") == id && of("type") == "result" {
                break;
            }
            return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes))));
        }
        answered.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(16) {
            times.push(begin.elapsed());
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(times)
}
