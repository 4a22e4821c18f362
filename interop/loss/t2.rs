//! T2: no `<a/>` before what it covers is on disk, told from the order of system calls.
//!
//! For each `<a h='n'/>` that goes into a client's socket, each message that it counts has its text on disk by then: on
//! SQLite in frames of a finished transaction in the write-ahead log, before a sync of that file which has returned; on
//! PostgreSQL in a transaction whose end the database has confirmed (its own promise, so `fsync` and `synchronous_commit`
//! are asked for). With archives: twice, for the sender and for the recipient. Without, what a recipient has confirmed need
//! not be on disk, so all recipients are away.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rookery_rigs::server::{Setup, Store, Subject};
use rookery_rigs::{Failure, xml};

use crate::device::{Device, Spec};
use crate::ledger::{Key, Ledger, Rule};
use crate::report::Report;
use crate::trace::durable::{Durable, Texts};
use crate::trace::{Call, Step, Tracer};
use crate::world::{Options, World, names, seeded};

/// `loss t2`
#[derive(Debug, Clone, clap::Args)]
pub struct Order {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How many messages are to be acknowledged
    #[arg(long, default_value_t = 10_000)]
    pub acks: u64,
    /// Conversations at once
    #[arg(long, default_value_t = 20)]
    pub pairs: usize,
    /// The other way round: early acknowledgements must be found, as with --durability relaxed
    #[arg(long)]
    pub control: bool,
    /// Keep strace's lines in this file
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// As many as anybody sends here.
pub const ROOM: &str = "offline_messages = 1000000\noffline_size = \"1 GiB\"\n";

const CALLS: &str = "pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg,recvfrom,read";

/// The bodies of this run's messages.
#[derive(Debug, Clone)]
struct Bodies {
    run: u16,
}

impl Texts for Bodies {
    fn texts(&self, bytes: &[u8]) -> Vec<Key> {
        const BODY: &[u8] = b"<body>Text of ";
        memchr::memmem::find_iter(bytes, BODY)
            .filter_map(|at| {
                let text = &bytes[at + BODY.len()..];
                let id = &text[..memchr::memchr(b'.', text)?];
                Key::parse(self.run, std::str::from_utf8(id).ok()?)
            })
            .collect()
    }
}

/// What comes out.
#[derive(Debug, Default)]
struct Findings {
    durable: Durable,
    /// `<a/>` elements, and the messages that they covered.
    acks: u64,
    covered: u64,
    early: Vec<String>,
    /// The `h` of each connection so far, by the client's port.
    handled: HashMap<u16, u32>,
}

/// Runs it.
pub async fn run(options: &Order) -> Result<Report, Failure> {
    let (mut rng, seed) = seeded(&options.common);
    let mut report = Report::new("t2");
    if options.common.server.server != Subject::Rookery {
        return Err(Failure::Protocol("t2 knows how Rookery writes, and no other server".into()));
    }
    let users = [names("s", options.pairs), names("r", options.pairs)].concat();
    let setup = Setup { limits: ROOM.into(), ..Setup::default() };
    let world = World::new(&options.common, setup, users, seed).await?;
    report.say(format!("{}, --seed {seed}", world.server().version()));
    let archived = world.ledger().has_archive;
    if options.common.server.store == Store::Postgres {
        let mut server = world.server();
        let cluster = server.cluster().expect("made for the run");
        for setting in ["fsync", "synchronous_commit"] {
            let value = cluster.client().run(&format!("SHOW {setting}"))?;
            report.check(value == "on", format!("PostgreSQL's {setting} is on"), value);
        }
    }
    world.count();
    let findings = Arc::new(Mutex::new(Findings::default()));
    let tracer = attach(&world, &findings, seed as u16, if archived { 2 } else { 1 }, options.trace.as_deref())?;
    let mut devices = Vec::new();
    for pair in 0..options.pairs {
        let (from, to) = (pair as u32, (pair + options.pairs) as u32);
        let talk = world.ledger().open(from, to);
        let pace = (Duration::ZERO, Duration::from_millis(4));
        let sender = Spec { pace, resumes: false, ..Spec::new(from, "desk").talking(vec![talk]) };
        devices.push(Device::new(&world, sender, rng.fork(pair as u64)));
        if archived && pair % 2 == 0 {
            devices.push(Device::new(&world, Spec::new(to, "phone"), rng.fork(1000 + pair as u64)));
        }
    }
    world.gather(devices.iter()).await?;
    world.talking.send_replace(true);
    let enough = || world.ledger().acked() >= options.acks;
    let in_time = world.wait(Duration::from_secs(20 + options.acks / 50), enough).await;
    world.talking.send_replace(false);
    world.settle_senders(&devices).await;
    for device in &mut devices {
        device.stop().await;
    }
    let lines = world.blocking(move |_| tracer.finish()).await;
    let findings = findings.lock().expect("no panic while locked");
    report.check(in_time, format!("{} messages were acknowledged", options.acks), world.ledger().acked());
    report.say(format!(
        "{} <a/> for {} messages, {} commits on disk, {lines} lines of strace{}",
        findings.acks,
        findings.covered,
        findings.durable.commits,
        if archived { ", both archives" } else { "; no archives here" }
    ));
    let (covered, acked) = (findings.covered, world.ledger().acked());
    report.check(covered == acked, "each acknowledgement was seen in the trace", format!("{covered} of {acked}"));
    let early = findings.early.len();
    let first = findings.early.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    if options.control {
        report.check(early > 0, "control: early acknowledgements are found", early);
    } else {
        report.check(early == 0, "no <a/> before the disk has what it covers", format!("{early} too early {first}"));
    }
    let unfit = world.ledger().judge().iter().filter(|found| found.rule == Rule::I5).count();
    report.check(unfit == 0, "each message has a fate", unfit);
    Ok(report)
}

fn attach(
    world: &Arc<World>,
    findings: &Arc<Mutex<Findings>>,
    run: u16,
    copies: usize,
    copy: Option<&Path>,
) -> Result<Tracer, Failure> {
    let bodies = Bodies { run };
    let pid = world.server().pid();
    let (world, findings) = (Arc::clone(world), Arc::clone(findings));
    Tracer::attach(pid, CALLS, copy, move |step| {
        let mut findings = findings.lock().expect("no panic while locked");
        if let Step::Begin(call) = &step
            && let Some(port) = call.peer()
        {
            findings.answer(&world, call, port, copies);
        }
        findings.durable.step(&step, &bodies);
    })
}

impl Findings {
    /// Bytes for a client: judges each `<a/>` in them.
    fn answer(&mut self, world: &World, call: &Call, port: u16, copies: usize) {
        for at in memchr::memmem::find_iter(&call.data, b"<a ") {
            let element = &call.data[at..];
            let Some(h) = xml::attribute(element, "h").and_then(|h| h.parse::<u32>().ok()) else { continue };
            self.acks += 1;
            let before = self.handled.insert(port, h).unwrap_or(0);
            for key in world.stanzas(port, before as usize, h as usize).into_iter().flatten() {
                self.covered += 1;
                let found = self.durable.copies(key);
                if found < copies {
                    let id = Ledger::id(&world.ledger(), key);
                    self.early.push(format!("{id} is acknowledged with {found} of {copies} copies on disk"));
                }
            }
        }
    }
}
