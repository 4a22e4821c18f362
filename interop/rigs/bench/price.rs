//! The price of durability: the same chat, with stream management on both sides, on servers that differ in one line of their
//! conf, by turns on the same machine. Ratios count; what the machine gives at the moment does not.

use std::time::Duration;

use super::Figure;
use super::chat::{self, Times};
use crate::server::Durability;

/// `rigs bench price`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    chat: chat::Options,
    /// How often each conf has its turn
    #[arg(long, default_value_t = 3)]
    turns: usize,
}

/// What is compared: its name, whether there are archives, and what a commit is.
const CONFS: [(&str, bool, Durability); 3] = [
    ("archive, durability full", true, Durability::Full),
    ("archive, durability relaxed", true, Durability::Relaxed),
    ("no archive", false, Durability::Full),
];

#[derive(Default)]
struct Sum {
    cpu: Vec<f64>,
    delivery: Vec<Duration>,
    ack: Vec<Duration>,
}

/// Measures.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut sums: [Sum; 3] = Default::default();
    let chat = chat::Options { sm: true, ..options.chat.clone() };
    for turn in 0..options.turns {
        for ((name, archive, durability), sum) in CONFS.iter().zip(&mut sums) {
            let mut bench = bench.clone();
            (bench.server.archive, bench.server.durability) = (*archive, *durability);
            println!("turn {}: {name}", turn + 1);
            let mut times = chat::measure(&bench, &chat, figures).await?;
            sum.cpu.extend(figures.last().map(|figure| figure.values.clone()).unwrap_or_default());
            sum.delivery.append(&mut times.delivery);
            sum.ack.append(&mut times.ack);
        }
    }
    println!();
    println!(
        "{:28} {:>10} {:>16} {:>10} {:>10} {:>10} {:>10}",
        "", "us CPU", "msg per CPU s", "del. p50", "del. p99", "ack p50", "ack p99"
    );
    for ((name, ..), sum) in CONFS.iter().zip(&mut sums) {
        sum.cpu.sort_by(f64::total_cmp);
        let cpu = sum.cpu.get(sum.cpu.len() / 2).copied().unwrap_or(f64::NAN);
        let [d50, d99] = [0.5, 0.99].map(|part| Times::quantile(&mut sum.delivery, part));
        let [a50, a99] = [0.5, 0.99].map(|part| Times::quantile(&mut sum.ack, part));
        println!("{name:28} {cpu:>10.1} {:>16.0} {d50:>10.1?} {d99:>10.1?} {a50:>10.1?} {a99:>10.1?}", 1e6 / cpu);
    }
    Ok(())
}
