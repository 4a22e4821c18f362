//! How long a chat message takes while the server is not busy: pairs write at a fixed pace, whatever comes back. The time runs
//! from when a message is written: the timer that says when is a millisecond coarse, which is more than a message takes. That
//! hides no slow server, since nobody waits for an answer before the next; only one whose sockets are full would slow
//! the pace, and then the figure is void.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::chat::{SILENCE, Times, log_in};
use super::{Figure, start, transport_name};
use crate::client::{Connection, Transport};
use crate::server::users;
use crate::{Failure, xml};

/// `rigs bench latency`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Pairs of users
    #[arg(long, default_value_t = 200)]
    pairs: usize,
    /// Messages a second, of all pairs together
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 50)]
    body: usize,
    /// How they connect
    #[arg(long, value_enum, default_value = "plain")]
    transport: Transport,
    /// Seconds of a run
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { pairs: 200, rate: 1000, body: 50, transport: Transport::Plain, seconds: 8 }
    }
}

/// Measures, each run on the same server.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = start(bench)?;
    let (senders, recipients) = (users("s", options.pairs), users("r", options.pairs));
    server.add_accounts(&senders)?;
    server.add_accounts(&recipients)?;
    let target = server.target(options.transport);
    let mut pairs = Vec::new();
    for (sender, recipient) in senders.iter().zip(&recipients) {
        pairs.push((log_in(&target, sender, false).await?, log_in(&target, recipient, false).await?));
    }
    let gap = Duration::from_secs_f64(options.pairs as f64 / options.rate as f64);
    let (mut middle, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        let begin = Instant::now() + Duration::from_millis(500);
        let tasks: Vec<_> = (0..options.pairs as u32)
            .zip(pairs.drain(..))
            .map(|(number, pair)| {
                let first = begin + gap * number / options.pairs as u32;
                let end = begin + Duration::from_secs(options.seconds);
                tokio::spawn(talk(pair, (first, gap, end), options.body))
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            let patience = Duration::from_secs(options.seconds + 30);
            let (pair, mut of_pair) = tokio::time::timeout(patience, task).await???;
            pairs.push(pair);
            times.append(&mut of_pair);
        }
        middle.push(Times::quantile(&mut times, 0.5).as_secs_f64() * 1e3);
        slow.push(Times::quantile(&mut times, 0.99).as_secs_f64() * 1e3);
    }
    let what = format!("latency: {} messages a second, {}", options.rate, transport_name(options.transport));
    for (part, values) in [("p50", middle), ("p99", slow)] {
        Figure { what: format!("{what}, {part}"), values, unit: "ms", note: String::new() }.done(figures);
    }
    Ok(())
}

/// So late a message is no longer one of a fixed pace.
const LATE: Duration = Duration::from_secs(1);

type Pair = (Connection, Connection);

/// Writes at its pace until the end, and reads all of it; how long each message took.
async fn talk(
    (mut sender, mut recipient): Pair,
    (first, gap, end): (Instant, Duration, Instant),
    body: usize,
) -> Result<(Pair, Vec<Duration>), Failure> {
    let body = "b".repeat(body);
    let to = recipient.jid.clone();
    let mut due = Vec::new();
    let mut times = Vec::new();
    let mut ticks = tokio::time::interval_at(first, gap);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        let writes = Instant::now() < end;
        let is_all = !writes && times.len() == due.len();
        tokio::select! {
            // A second copy would come now.
            () = tokio::time::sleep(SILENCE), if is_all => return Ok(((sender, recipient), times)),
            at = ticks.tick(), if writes => {
                if at.elapsed() > LATE {
                    return Err(Failure::Protocol("void: the pace was not kept".to_owned()));
                }
                let id = due.len();
                due.push(Instant::now());
                sender.queue(format!("<message to='{to}' type='chat' id='{id}'><body>{body}</body></message>").as_bytes());
                sender.flush().await?;
            }
            filled = recipient.fill() => {
                filled?;
                while let Some(token) = recipient.scan()? {
                    let bytes = recipient.bytes(token);
                    if xml::name(bytes) != b"message" {
                        continue;
                    }
                    let id = xml::attribute(bytes, "id").and_then(|id| id.parse::<usize>().ok());
                    match due.get(times.len()) {
                        Some(at) if id == Some(times.len()) => times.push(at.elapsed()),
                        _ => return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes)))),
                    }
                }
            }
        }
    }
}
