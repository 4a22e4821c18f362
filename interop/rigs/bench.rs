//! `rigs bench`: what the server pays for an idle session in memory, for a delivered chat message and for a login in CPU time.
//! Memory is the process's PSS, CPU time the kernel's accounting of the process's threads: sockets' buffers in the kernel and
//! a database server beside it are not in them. A figure is printed only when the work was done right.

mod chat;
mod comeback;
mod edge;
mod fan_out;
mod idle;
mod login;
mod offline;
mod ping;
mod presence;
mod price;
mod rate;
mod rooms;
mod table;

use std::time::{Duration, Instant};

use clap::Subcommand;

use crate::client::Transport;
use crate::process::Cpu;
use crate::server::{self, Server};
use crate::{Verdict, process};

/// `rigs bench`
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    server: server::Choice,
    /// How often a figure of CPU is taken; the median is printed, with the lowest and the highest
    #[arg(long, default_value_t = 3, global = true)]
    runs: usize,
    /// A line of JSON for each figure, too
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

/// What is measured.
#[derive(Debug, Clone, Subcommand)]
enum Scenario {
    /// Memory of sessions that are logged in, available, and silent
    Idle(idle::Options),
    /// CPU time of a chat message from one online user to another
    Chat(chat::Options),
    /// CPU time of a login: connecting, TLS, SCRAM, binding
    Login(login::Options),
    /// What it costs that messages are archived, and on disk before they are acknowledged: chat in three confs by turns
    Price(price::Options),
    /// Rooms: CPU time of a delivery, cost of entering, memory of an occupant
    Rooms(rooms::Options),
    /// How long messages take at a fixed pace
    Latency(rate::Options),
    /// CPU time of a ping to the server
    Ping(ping::Options),
    /// CPU time of a message for somebody who is away
    Offline(offline::Options),
    /// CPU time of a presence, when everybody's status changes at once
    Presence(presence::Options),
    /// CPU time of a resumption, when all connections were lost at once
    Comeback(comeback::Options),
    /// The server at its edge: overload, a storm of logins, 18,000 sessions
    Edge(edge::Options),
    /// All of it, on several servers in turn: a table, a plot, ratios
    Table(table::Options),
    /// Idle sessions, chat, also over TLS and with stream management, and logins, with their defaults
    All,
}

/// A figure, of one run or as the median of several.
#[derive(Debug)]
struct Figure {
    what: String,
    /// One per run.
    values: Vec<f64>,
    unit: &'static str,
    /// What else is to be said.
    note: String,
}

/// Measures.
pub async fn run(options: &Options) -> Verdict {
    let server = Server::new(&options.server)?;
    println!("bench: {}", server.version());
    println!("       {}", process::machine());
    println!("{:44} {:>9} {:9} {:>17}", "", "median", "", "lowest..highest");
    drop(server);
    let mut figures = Vec::new();
    match &options.scenario {
        Scenario::Idle(idle) => idle::measure(options, idle, &mut figures).await?,
        Scenario::Chat(chat) => drop(chat::measure(options, chat, &mut figures).await?),
        Scenario::Price(price) => price::measure(options, price, &mut figures).await?,
        Scenario::Rooms(rooms) => rooms::measure(options, rooms, &mut figures).await?,
        Scenario::Latency(rate) => rate::measure(options, rate, &mut figures).await?,
        Scenario::Ping(ping) => ping::measure(options, ping, &mut figures).await?,
        Scenario::Offline(offline) => offline::measure(options, offline, &mut figures).await?,
        Scenario::Presence(presence) => presence::measure(options, presence, &mut figures).await?,
        Scenario::Comeback(comeback) => comeback::measure(options, comeback, &mut figures).await?,
        Scenario::Edge(edge) => edge::measure(options, edge, &mut figures).await?,
        Scenario::Table(table) => return table::measure(options, table).await,
        Scenario::Login(login) => login::measure(options, login, &mut figures).await?,
        Scenario::All => {
            idle::measure(options, &idle::Options::default(), &mut figures).await?;
            for (transport, sm) in [
                (Transport::Plain, false),
                (Transport::Plain, true),
                (Transport::Direct, false),
                (Transport::Direct, true),
            ] {
                let chat = chat::Options { transport, sm, ..chat::Options::default() };
                chat::measure(options, &chat, &mut figures).await?;
            }
            let one = chat::Options { in_flight: 1, ..chat::Options::default() };
            chat::measure(options, &one, &mut figures).await?;
            login::measure(options, &login::Options::default(), &mut figures).await?;
        }
    }
    if options.json {
        for figure in &figures {
            println!(
                "{}",
                serde_json::json!({"what": figure.what, "values": figure.values, "unit": figure.unit, "note": figure.note})
            );
        }
    }
    Ok(true)
}

/// A counter and the server's CPU, read again and again.
struct Sampling {
    /// The server's process.
    server: u32,
    runs: usize,
    /// Of a run.
    seconds: u64,
}

/// What one thing costs.
struct Sample {
    /// Microseconds of the server's CPU, of each run.
    cpu: Vec<f64>,
    /// Microseconds of the load generator's.
    ours: f64,
    /// How many a second.
    rate: f64,
}

impl Sampling {
    /// Reads a counter and the server's CPU, again and again; the first second does not count.
    async fn take(&self, count: impl Fn() -> u64) -> Sample {
        let own = std::process::id();
        let (mut cpu, mut ours, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..self.runs {
            let before = (count(), Cpu::read(self.server), Cpu::read(own), Instant::now());
            tokio::time::sleep(Duration::from_secs(self.seconds)).await;
            let done = (count() - before.0) as f64;
            cpu.push(micros(Cpu::read(self.server).since(&before.1)) / done);
            ours.push(micros(Cpu::read(own).since(&before.2)) / done);
            rates.push(done / before.3.elapsed().as_secs_f64());
        }
        Sample { cpu, ours: median(&ours), rate: median(&rates) }
    }
}

/// The middle of several; not a number when there are none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A server of one's own for a measurement.
fn start(options: &Options) -> std::io::Result<Server> {
    let mut server = Server::new(&options.server)?;
    server.start()?;
    Ok(server)
}

impl Figure {
    /// Shows it and keeps it.
    fn done(self, figures: &mut Vec<Self>) {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(low), Some(high), Some(median)) = (sorted.first(), sorted.last(), sorted.get(sorted.len() / 2))
        else {
            return;
        };
        println!("{:44} {median:>9.1} {:9} {low:>8.1}..{high:<8.1} {}", self.what, self.unit, self.note);
        figures.push(self);
    }
}

fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Plain => "plain",
        Transport::Starttls => "STARTTLS",
        Transport::Direct => "TLS",
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
