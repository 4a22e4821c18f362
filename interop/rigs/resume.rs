//! `rigs resume`: sessions that talk in pairs while each one's connection is cut at random moments, by a reset, by an orderly
//! end of the socket or in silence, in the middle of a stanza too, and resumed (XEP-0198 §5): at once or later, while the
//! server still believes in the old socket, by two connections at the same time. No message is lost, none arrives twice, each
//! direction stays in order; no resumption is refused within the time that the server announced.

mod journal;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::client::Transport;
use crate::rng::Rng;
use crate::server::{self, Server};
use crate::{Verdict, process};
use session::Tally;

/// `rigs resume`
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    server: server::Choice,
    /// Sessions, an even number
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// For how long
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// A connection's life on average, in seconds
    #[arg(long, default_value_t = 5.0)]
    life: f64,
    /// From one message of a session to its next on average, in milliseconds
    #[arg(long, default_value_t = 200)]
    pace: u64,
    /// Never cut within a stanza: Prosody 0.12 goes on parsing where the old connection stopped
    #[arg(long)]
    whole: bool,
    /// How they connect
    #[arg(long, value_enum, default_value = "plain")]
    transport: Transport,
    /// Where the random moments come from
    #[arg(long)]
    seed: Option<u64>,
}

/// What the sessions share.
#[derive(Debug)]
struct Run {
    life: Duration,
    pace: Duration,
    /// Connections are cut within stanzas too.
    split: bool,
    /// How many messages each session sent so far.
    sent: Vec<AtomicU32>,
    /// How often each session began anew, as it could not be resumed.
    renewed: Vec<AtomicU32>,
    /// Sessions that sent and received all they should.
    complete: AtomicU64,
    phase: watch::Sender<Phase>,
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Traffic,
    /// No new messages, no more cuts: what is under way arrives.
    Settle,
    End,
}

/// Runs and judges.
pub async fn run(options: &Options) -> Verdict {
    let seed = options.seed.unwrap_or_else(Rng::seed);
    let mut rng = Rng::new(seed);
    let count = options.sessions & !1;
    let mut server = Server::new(&options.server)?;
    server.start()?;
    println!("resume: {}, {count} sessions, {} s, seed {seed}", server.version(), options.seconds);
    println!("        {}", process::machine());
    let users = server::users("u", count);
    server.add_accounts(&users)?;
    let run = Arc::new(Run {
        life: Duration::from_secs_f64(options.life),
        pace: Duration::from_millis(options.pace),
        split: !options.whole,
        sent: (0..count).map(|_| AtomicU32::new(0)).collect(),
        renewed: (0..count).map(|_| AtomicU32::new(0)).collect(),
        complete: AtomicU64::new(0),
        phase: watch::Sender::new(Phase::Traffic),
    });
    let target = server.target(options.transport);
    let mut sessions = Vec::new();
    for index in 0..count {
        let session = session::Session::begin(Arc::clone(&run), index, target.clone(), rng.fork(index as u64)).await?;
        sessions.push(session);
    }
    let memory = process::pss(server.pid());
    let tasks: Vec<_> = sessions.into_iter().map(|session| tokio::spawn(session.live())).collect();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    run.phase.send_replace(Phase::Settle);
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if run.complete.load(Ordering::Relaxed) == count as u64 {
            break;
        }
    }
    // Second copies may be on their way still.
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.phase.send_replace(Phase::End);
    let mut tally = Tally::default();
    for task in tasks {
        tally.add(&task.await?);
    }
    println!("server memory (PSS) before and after: {} and {} KiB", memory >> 10, process::pss(server.pid()) >> 10);
    let passed = report(&tally) && server.lives();
    println!("{}", if passed { "PASS" } else { "FAIL" });
    Ok(passed)
}

fn report(tally: &Tally) -> bool {
    for (name, count) in [
        ("messages sent", tally.sent),
        ("cut by a reset", tally.resets),
        ("cut by an end of the socket", tally.ends),
        ("cut in silence", tally.silences),
        ("  of all these, within a stanza", tally.partial),
        ("closed by the server, unasked", tally.dropped),
        ("resumed", tally.resumed),
        ("resumed by two connections at once", tally.doubles),
        ("  where both were told they had it", tally.stolen),
        ("connections that failed while logging in", tally.failures),
    ] {
        println!("{name:45} {count:>9}");
    }
    let faults = [
        ("lost", tally.lost),
        ("received twice", tally.doubled),
        ("received twice after a session began anew", tally.resent),
        ("out of order", tally.disordered),
        ("answered by an error", tally.bounced),
        ("not acknowledged in the end", tally.unacked),
        ("resumptions refused", tally.refused),
        ("two living connections of one session", tally.twins),
    ];
    for (name, count) in faults {
        println!("{name:45} {count:>9}{}", if count > 0 { "   <--" } else { "" });
    }
    for complaint in tally.complaints.iter().take(10) {
        println!("  {complaint}");
    }
    let void = tally.sent == 0 || tally.resumed == 0;
    if void {
        println!("void: no traffic or no resumption");
    }
    !void && faults.iter().all(|(_, count)| *count == 0)
}
