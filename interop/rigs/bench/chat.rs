//! CPU time of a delivered chat message: pairs of online users, one writes, one reads, a number of messages of each pair in
//! flight. A message that is lost, doubled or out of order makes the figure void.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Figure, micros, start, transport_name};
use crate::client::{Connection, Target, Transport};
use crate::process::Cpu;
use crate::server::{PASSWORD, users};
use crate::sm::{NS as SM, Unacked};
use crate::{Failure, xml};

/// `rigs bench chat`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Pairs of users
    #[arg(long, default_value_t = 200)]
    pub(super) pairs: usize,
    /// Messages of a pair on their way at once
    #[arg(long, default_value_t = 10)]
    pub(super) in_flight: usize,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 50)]
    pub(super) body: usize,
    /// How they connect
    #[arg(long, value_enum, default_value = "plain")]
    pub(super) transport: Transport,
    /// Stream management on both sides; senders ask for an acknowledgement with each write
    #[arg(long)]
    pub(super) sm: bool,
    /// Seconds of a run
    #[arg(long, default_value_t = 8)]
    pub(super) seconds: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { pairs: 200, in_flight: 10, body: 50, transport: Transport::Plain, sm: false, seconds: 8 }
    }
}

/// What the pairs share.
#[derive(Debug, Default)]
struct Run {
    delivered: AtomicU64,
    stop: AtomicBool,
}

/// Measures, all runs on one server; gives how long messages took.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<Times, Box<dyn std::error::Error>> {
    let server = start(bench)?;
    let (senders, recipients) = (users("s", options.pairs), users("r", options.pairs));
    server.add_accounts(&senders)?;
    server.add_accounts(&recipients)?;
    let target = server.target(options.transport);
    let run = Arc::new(Run::default());
    let mut pairs = Vec::new();
    let mut size = 0;
    for (sender, recipient) in senders.iter().zip(&recipients) {
        let pair = Pair::begin(&target, sender, recipient, options, Arc::clone(&run)).await?;
        size = pair.template.len();
        pairs.push(pair);
    }
    // All together, and only now: logins would wait behind the chat of those before.
    let tasks: Vec<_> = pairs.into_iter().map(|pair| tokio::spawn(pair.chat())).collect();
    let own = std::process::id();
    let (mut values, mut ours, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    sleep(Duration::from_secs(1)).await;
    for _ in 0..bench.runs {
        let before = (run.delivered.load(Ordering::Relaxed), Cpu::read(server.pid()), Cpu::read(own), Instant::now());
        sleep(Duration::from_secs(options.seconds)).await;
        let delivered = (run.delivered.load(Ordering::Relaxed) - before.0) as f64;
        values.push(micros(Cpu::read(server.pid()).since(&before.1)) / delivered);
        ours.push(micros(Cpu::read(own).since(&before.2)) / delivered);
        rates.push(delivered / before.3.elapsed().as_secs_f64());
    }
    run.stop.store(true, Ordering::Relaxed);
    let mut times = Times::default();
    for task in tasks {
        times.add(tokio::time::timeout(Duration::from_secs(30), task).await???);
    }
    let middle = |list: &mut Vec<f64>| {
        list.sort_by(f64::total_cmp);
        list[list.len() / 2]
    };
    Figure {
        what: format!(
            "chat: {} pairs, {} in flight, {}{}",
            options.pairs,
            options.in_flight,
            transport_name(options.transport),
            if options.sm { ", 0198" } else { "" }
        ),
        values,
        unit: "us CPU",
        note: format!(
            "stanza {size} B, {:.0}/s, p50 {:.1?} p99 {:.1?}, ours {:.1} us",
            middle(&mut rates),
            Times::quantile(&mut times.delivery, 0.5),
            Times::quantile(&mut times.delivery, 0.99),
            middle(&mut ours)
        ),
    }
    .done(figures);
    Ok(times)
}

/// Two connections, and what is on its way between them.
struct Pair {
    run: Arc<Run>,
    sender: Connection,
    recipient: Connection,
    template: Vec<u8>,
    /// Where the number stands in the template.
    digits: usize,
    in_flight: usize,
    sm: bool,
    unacked: Unacked<Instant>,
    /// The recipient's count of handled stanzas, and the sender's.
    h: u32,
    sender_h: u32,
    /// When each message that is on its way was written.
    written: VecDeque<Instant>,
    next: u64,
    expected: u64,
    times: Times,
}

/// How long messages took to their recipient, and acknowledgements to the sender: of some.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) delivery: Vec<Duration>,
    pub(super) ack: Vec<Duration>,
}

impl Times {
    /// Those of another pair, too.
    fn add(&mut self, mut other: Self) {
        self.delivery.append(&mut other.delivery);
        self.ack.append(&mut other.ack);
    }

    /// What so large a part of a list stays below; the list is sorted by that.
    pub(super) fn quantile(list: &mut [Duration], part: f64) -> Duration {
        list.sort();
        list.get((list.len() as f64 * part) as usize).copied().unwrap_or_default()
    }
}

/// As long as what clients draw: a server that recognises what is sent again remembers it.
const DIGITS: usize = 16;

/// For how long nothing may come when all has come.
pub(super) const SILENCE: Duration = Duration::from_millis(300);

impl Pair {
    async fn begin(
        target: &Target,
        sender: &str,
        recipient: &str,
        options: &Options,
        run: Arc<Run>,
    ) -> Result<Self, Failure> {
        let (sender, recipient) =
            (log_in(target, sender, options.sm).await?, log_in(target, recipient, options.sm).await?);
        let (to, id, body) = (&recipient.jid, "0".repeat(DIGITS), "b".repeat(options.body));
        let template = format!("<message to='{to}' type='chat' id='{id}'><body>{body}</body></message>");
        Ok(Self {
            digits: template.find(&id).expect("it is there"),
            template: template.into_bytes(),
            in_flight: options.in_flight,
            sm: options.sm,
            run,
            sender,
            recipient,
            unacked: Unacked::default(),
            h: 0,
            sender_h: 0,
            written: VecDeque::new(),
            next: 0,
            expected: 0,
            times: Times::default(),
        })
    }

    /// Chats until told to stop and all has arrived; how long messages took.
    async fn chat(mut self) -> Result<Times, Failure> {
        // The presence, counted from `<enabled/>` on.
        self.unacked.push(Instant::now());
        self.write(self.in_flight);
        loop {
            tokio::select! {
                filled = self.recipient.fill() => {
                    filled?;
                    let arrived = self.read_recipient()?;
                    self.run.delivered.fetch_add(arrived as u64, Ordering::Relaxed);
                    if !self.run.stop.load(Ordering::Relaxed) {
                        self.write(arrived);
                    }
                }
                filled = self.sender.fill() => {
                    filled?;
                    self.read_sender()?;
                }
            }
            let all_acked = !self.sm || self.unacked.is_empty();
            if self.run.stop.load(Ordering::Relaxed) && self.expected == self.next && all_acked {
                // A second copy would come now.
                let surplus = tokio::time::timeout(SILENCE, self.recipient.fill()).await;
                if surplus.is_ok() && self.read_recipient()? > 0 {
                    return Err(Failure::Protocol("void: a message came that was not sent".into()));
                }
                return Ok(self.times);
            }
        }
    }

    fn write(&mut self, count: usize) {
        let now = Instant::now();
        for _ in 0..count {
            let mut number = self.next;
            for place in (self.digits..self.digits + DIGITS).rev() {
                self.template[place] = b'0' + (number % 10) as u8;
                number /= 10;
            }
            self.sender.out().extend_from_slice(&self.template);
            self.written.push_back(now);
            self.unacked.push(now);
            self.next += 1;
        }
        if self.sm && count > 0 {
            self.sender.queue(format!("<r xmlns='{SM}'/>").as_bytes());
        }
    }

    fn read_recipient(&mut self) -> Result<usize, Failure> {
        let mut arrived = 0;
        while let Some(token) = self.recipient.scan()? {
            let bytes = self.recipient.bytes(token);
            match xml::name(bytes) {
                b"message" => {
                    let id = xml::attribute(bytes, "id").and_then(|id| id.parse::<u64>().ok());
                    if id != Some(self.expected) || self.expected >= self.next {
                        let text = String::from_utf8_lossy(bytes);
                        let expected = self.expected;
                        return Err(Failure::Protocol(format!("void: message {expected} was expected, got {text}")));
                    }
                    self.expected += 1;
                    self.h = self.h.wrapping_add(1);
                    arrived += 1;
                    if let Some(written) = self.written.pop_front()
                        && self.expected.is_multiple_of(64)
                    {
                        self.times.delivery.push(written.elapsed());
                    }
                }
                b"r" => {
                    let answer = format!("<a xmlns='{SM}' h='{}'/>", self.h);
                    self.recipient.queue(answer.as_bytes());
                }
                b"presence" | b"iq" => self.h = self.h.wrapping_add(1),
                b"stream:error" => return Err(Failure::Stream(xml::condition(bytes))),
                _ => {}
            }
        }
        Ok(arrived)
    }

    fn read_sender(&mut self) -> Result<(), Failure> {
        while let Some(token) = self.sender.scan()? {
            let bytes = self.sender.bytes(token);
            match xml::name(bytes) {
                b"a" => {
                    let h = xml::attribute(bytes, "h").and_then(|h| h.parse().ok()).unwrap_or(0);
                    for written in self.unacked.acknowledge(h)?.step_by(64) {
                        self.times.ack.push(written.elapsed());
                    }
                }
                b"presence" | b"iq" => self.sender_h = self.sender_h.wrapping_add(1),
                b"r" => {
                    let answer = format!("<a xmlns='{SM}' h='{}'/>", self.sender_h);
                    self.sender.queue(answer.as_bytes());
                }
                b"message" => {
                    let text = String::from_utf8_lossy(bytes);
                    return Err(Failure::Protocol(format!("void: the sender got {text}")));
                }
                b"stream:error" => return Err(Failure::Stream(xml::condition(bytes))),
                _ => {}
            }
        }
        Ok(())
    }
}

/// With presence, and without what that brings back.
pub(super) async fn log_in(target: &Target, user: &str, sm: bool) -> Result<Connection, Failure> {
    let mut connection = Connection::log_in(target, user, PASSWORD).await?;
    connection.bind(Some("rig")).await?;
    if sm {
        connection.enable(true).await?;
    }
    connection.queue(b"<presence/>");
    connection.flush().await?;
    Ok(connection)
}
