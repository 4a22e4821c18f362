//! `rigs kill`: SIGKILL under traffic, again and again. A message whose acknowledgement (XEP-0198's `<a h=…/>`) reached its
//! sender reaches its recipient too, before the crash or after the restart, wherever the recipient was; in order; and a second
//! copy only with the same stanza-id (XEP-0359). In half of the rounds the kill follows within a millisecond on reading an
//! acknowledgement: then whatever was acknowledged too early is lost.

mod journal;
mod round;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::Transport;
use crate::rng::Rng;
use crate::server::{self, Server};
use crate::{Verdict, process};
use journal::{Findings, Whereabouts};

/// `rigs kill`
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    server: server::Choice,
    /// How often the server is killed
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// Conversations at once; recipients are online (with stream management, without), offline and detached in turn
    #[arg(long, default_value_t = 25)]
    pairs: usize,
    /// Messages a sender sends in a round at most; offline storage has limits, too
    #[arg(long, default_value_t = 400)]
    messages: u32,
    /// Messages a sender has unacknowledged at most
    #[arg(long, default_value_t = 8)]
    window: usize,
    /// Where the random moments come from
    #[arg(long)]
    seed: Option<u64>,
    /// A message that is sent again, as it was not acknowledged, may not be kept twice
    #[arg(long)]
    no_copies: bool,
    /// Say what is wrong with each conversation
    #[arg(long)]
    verbose: bool,
}

/// Kills and judges.
pub async fn run(options: &Options) -> Verdict {
    let seed = options.seed.unwrap_or_else(Rng::seed);
    let mut rng = Rng::new(seed);
    let mut server = Server::new(&options.server)?;
    let mut restarts = vec![server.start()?];
    println!("kill: {}, {} rounds, {} pairs, seed {seed}", server.version(), options.rounds, options.pairs);
    println!("      {}", process::machine());
    let (senders, recipients) = (server::users("s", options.pairs), server::users("r", options.pairs));
    server.add_accounts(&senders)?;
    server.add_accounts(&recipients)?;
    let pairs: Arc<Vec<round::Pair>> = Arc::new(
        (senders.into_iter().zip(recipients).zip(Whereabouts::ALL.into_iter().cycle()))
            .map(|((sender, recipient), whereabouts)| round::Pair { sender, recipient, whereabouts })
            .collect(),
    );
    let target = server.target(Transport::Plain);
    let server = Arc::new(Mutex::new(server));
    let mut totals = [Findings::default(); Whereabouts::ALL.len()];
    let mut on_ack = Vec::new();
    let mut incomplete = 0;
    for number in 0..options.rounds {
        let plan = round::Plan {
            number,
            pairs: Arc::clone(&pairs),
            target: target.clone(),
            messages: options.messages,
            window: options.window,
            after: rng.between(Duration::from_millis(200), Duration::from_millis(2500)),
            on_ack: number % 2 == 0,
            resend: number % 4 < 2,
            rng: rng.fork(number.into()),
        };
        let resend = plan.resend;
        let outcome = round::play(plan, &server).await?;
        let mut findings = Findings::default();
        for (pair, journal) in pairs.iter().zip(&outcome.journals) {
            let found = journal.findings();
            findings.add(&found);
            totals[pair.whereabouts as usize].add(&found);
            if options.verbose && !found.clean() {
                println!("  {} ({}): {}", pair.recipient, pair.whereabouts.name(), journal.examples());
            }
        }
        let how = outcome.ack_to_kill.map_or_else(|| "at random".into(), |gap| format!("{gap:?} after an ack"));
        println!(
            "round {number:2}: killed {how}; {} sent, {} acked{}; lost {}, doubled {}, out of order {}; back in {:?}",
            findings.sent,
            findings.acked,
            if resend { " (the rest sent again)" } else { "" },
            findings.lost,
            findings.doubled,
            findings.disordered,
            outcome.restart
        );
        for complaint in &outcome.complaints {
            println!("  {complaint}");
        }
        incomplete += outcome.complaints.len();
        on_ack.extend(outcome.ack_to_kill);
        restarts.push(outcome.restart);
    }
    report(&totals, &mut restarts, &mut on_ack);
    let mut total = Findings::default();
    totals.iter().for_each(|findings| total.add(findings));
    let idle = Whereabouts::ALL.iter().take(options.pairs).any(|place| totals[*place as usize].acked == 0);
    if idle {
        println!("void: nothing was acknowledged in one of the rows");
    }
    if incomplete > 0 {
        println!("{incomplete} conversations did not come to their end");
    }
    println!(
        "redelivered: twice, under one stanza-id, as a crash allows; copied: unacknowledged, sent again, kept twice{}",
        if options.no_copies { " (a fault here)" } else { "" }
    );
    let passed = total.clean() && !idle && incomplete == 0 && !(options.no_copies && total.copied > 0);
    println!("{}", if passed { "PASS" } else { "FAIL" });
    Ok(passed)
}

fn report(totals: &[Findings], restarts: &mut [Duration], on_ack: &mut [Duration]) {
    println!(
        "\n{:20} {:>8} {:>8} {:>7} {:>8} {:>11} {:>7} {:>8} {:>9}",
        "recipients", "sent", "acked", "lost", "bounced", "redelivered", "copied", "doubled", "disorder"
    );
    let mut sum = Findings::default();
    let line = |name: &str, row: &Findings| {
        println!(
            "{name:20} {:>8} {:>8} {:>7} {:>8} {:>11} {:>7} {:>8} {:>9}",
            row.sent, row.acked, row.lost, row.bounced, row.redelivered, row.copied, row.doubled, row.disordered
        );
    };
    for (place, row) in Whereabouts::ALL.iter().zip(totals) {
        line(place.name(), row);
        sum.add(row);
    }
    line("all", &sum);
    restarts.sort();
    on_ack.sort();
    println!(
        "from exec to greeting: median {:?}, longest {:?}",
        restarts[restarts.len() / 2],
        restarts[restarts.len() - 1]
    );
    if let Some(longest) = on_ack.last() {
        let soon = on_ack.iter().filter(|gap| **gap <= Duration::from_millis(1)).count();
        let (all, median) = (on_ack.len(), on_ack[on_ack.len() / 2]);
        println!("from reading an ack to SIGKILL: median {median:?}, longest {longest:?}, {soon} of {all} within 1 ms");
    }
}
