//! Pairs who chat at a pace, whatever comes back, and are looked at for a while. A message's time runs from when it was due, so
//! that a generator that is late is not taken for a server that is quick. Each message must come once and in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::chat::{Times, log_in};
use crate::client::{Connection, Transport};
use crate::server::{Server, users};
use crate::{Failure, xml};

/// What is due within this time goes out together.
const BURST: Duration = Duration::from_millis(5);

/// One message in so many is timed.
const SAMPLE: u64 = 8;

/// How long what is on its way may take when nobody writes any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a body.
const BODY: usize = 50;

/// How pairs write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// So many messages of each pair are on their way, always: as fast as the server goes.
    Closed(usize),
    /// So many messages a second of all pairs together.
    Open(f64),
}

/// Pairs at work.
pub(super) struct Pairs {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Result<Pair, Failure>>>,
}

/// A sender and a recipient.
pub(super) type Pair = (Connection, Connection);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Messages that have come, by pair.
    delivered: Vec<AtomicU64>,
    times: Mutex<Vec<Duration>>,
}

/// What was seen in a while.
pub(super) struct Seen {
    /// Messages a second that came.
    pub(super) rate: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// What the pair with the fewest got, as a part of what the pair with the most got.
    pub(super) evenness: f64,
}

/// Logs them in.
pub(super) async fn connect(server: &Server, count: usize) -> Result<Vec<Pair>, Box<dyn std::error::Error>> {
    let (senders, recipients) = (users("s", count), users("r", count));
    server.add_accounts(&senders)?;
    server.add_accounts(&recipients)?;
    let target = server.target(Transport::Plain);
    let mut pairs = Vec::new();
    for (sender, recipient) in senders.iter().zip(&recipients) {
        pairs.push((log_in(&target, sender, false).await?, log_in(&target, recipient, false).await?));
    }
    Ok(pairs)
}

impl Pairs {
    /// Has them chat from now on. Each series has ids of its own: a server may take what comes twice under one id once.
    pub(super) fn begin(pairs: Vec<Pair>, pace: Pace, series: usize) -> Self {
        let count = pairs.len() as u32;
        let delivered = pairs.iter().map(|_| AtomicU64::default()).collect();
        let shared = Arc::new(Shared { delivered, ..Shared::default() });
        let gap = match pace {
            Pace::Closed(_) => BURST,
            Pace::Open(rate) => Duration::from_secs_f64(f64::from(count) / rate),
        };
        let first = Instant::now();
        let tasks = (0..count).zip(pairs).map(|(number, pair)| {
            let first = first + gap.max(BURST) * number / count;
            tokio::spawn(chat(pair, (number as usize, series), pace, (first, gap), Arc::clone(&shared)))
        });
        Self { tasks: tasks.collect(), shared }
    }

    /// Looks at them for so long.
    pub(super) async fn look(&self, time: Duration) -> Seen {
        let count = || -> Vec<u64> { self.shared.delivered.iter().map(|pair| pair.load(Ordering::Relaxed)).collect() };
        self.shared.times.lock().clear();
        let (before, begin) = (count(), Instant::now());
        tokio::time::sleep(time).await;
        let took = begin.elapsed().as_secs_f64();
        let each: Vec<u64> = count().iter().zip(&before).map(|(now, before)| now - before).collect();
        let mut times = std::mem::take(&mut *self.shared.times.lock());
        let (fewest, most) = (each.iter().min().copied().unwrap_or(0), each.iter().max().copied().unwrap_or(0));
        Seen {
            rate: each.iter().sum::<u64>() as f64 / took,
            p50: Times::quantile(&mut times, 0.5),
            p99: Times::quantile(&mut times, 0.99),
            evenness: fewest as f64 / most.max(1) as f64,
        }
    }

    /// They fall silent, and all that was said must arrive.
    pub(super) async fn end(self) -> Result<Vec<Pair>, Box<dyn std::error::Error>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut pairs = Vec::new();
        for task in self.tasks {
            pairs.push(tokio::time::timeout(PATIENCE, task).await???);
        }
        Ok(pairs)
    }
}

async fn chat(
    (mut sender, mut recipient): Pair,
    (number, series): (usize, usize),
    pace: Pace,
    (first, gap): (Instant, Duration),
    shared: Arc<Shared>,
) -> Result<Pair, Failure> {
    let (to, body) = (recipient.jid.clone(), "b".repeat(BODY));
    // When each message that is on its way was due.
    let mut on_its_way: VecDeque<Instant> = VecDeque::new();
    let (mut next, mut expected) = (0_u64, 0_u64);
    let mut due = first;
    let mut ticks = tokio::time::interval_at(first, gap.max(BURST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let writes = !shared.stop.load(Ordering::Relaxed);
        if !writes && expected == next {
            return Ok((sender, recipient));
        }
        tokio::select! {
            at = ticks.tick() => {
                let now = at.max(Instant::now());
                let mut fresh = Vec::new();
                match pace {
                    Pace::Open(_) => {
                        while writes && due <= now {
                            fresh.push(due);
                            due += gap;
                        }
                    }
                    Pace::Closed(in_flight) if writes => {
                        fresh.resize(in_flight.saturating_sub(on_its_way.len()), now);
                    }
                    Pace::Closed(_) => {}
                }
                for due in fresh {
                    let message = format!("<message to='{to}' type='chat' id='{series}-{next}'><body>{body}</body></message>");
                    sender.queue(message.as_bytes());
                    on_its_way.push_back(due);
                    next += 1;
                }
            }
            // Writes what is queued, too. A sender hears nothing but that a message is refused.
            filled = sender.fill() => {
                filled?;
                while let Some(token) = sender.scan()? {
                    let bytes = sender.bytes(token);
                    if matches!(xml::name(bytes), b"message" | b"stream:error") {
                        return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes))));
                    }
                }
            }
            filled = recipient.fill() => {
                filled?;
                let before = expected;
                while let Some(token) = recipient.scan()? {
                    let bytes = recipient.bytes(token);
                    if xml::name(bytes) != b"message" {
                        continue;
                    }
                    let id = xml::attribute(bytes, "id").unwrap_or_default();
                    let is_next = id == format!("{series}-{expected}");
                    let Some(due) = on_its_way.pop_front().filter(|_| is_next) else {
                        return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes))));
                    };
                    if expected.is_multiple_of(SAMPLE) {
                        shared.times.lock().push(due.elapsed());
                    }
                    expected += 1;
                }
                shared.delivered[number].fetch_add(expected - before, Ordering::Relaxed);
                if let Pace::Closed(_) = pace {
                    ticks.reset_immediately();
                }
            }
        }
    }
}
