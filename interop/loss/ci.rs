//! All scenarios, each as short as it can be and still say something. Those that mostly wait run beside each other.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use clap::Parser;
use rookery_rigs::Failure;

use crate::cli::Cli;
use crate::report::Report;

/// `loss ci`
#[derive(Debug, Clone, clap::Args)]
pub struct Short {
    /// Only scenarios whose line holds this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// One after the other; what is in one line, at the same time. Times are judged mildly, as the machine may be busy.
const LANES: &[&[&str]] = &[
    // Does the machine find what it is made to find?
    &["t2 --durability relaxed --control --acks 500", "t2 --acks 2000 --store postgres"],
    &["t2 --acks 12000"],
    &["t1 --loops 50 --longest 600 --messages 40", "t1 --loops 50 --longest 600 --messages 40 --store postgres"],
    &["t3 --cuts 4", "t14"],
    &["t4 --seconds 10", "t9 --step 600"],
    &["t6 --slow 20 --kib 12288 --seconds 10 --stall 4 --ping 1000"],
    // Long enough for messages to be refused.
    &["t7 --seconds 24", "t7 --seconds 24 --store postgres --only stop", "t8 --seconds 24 --only full"],
    &["t7 --seconds 4 --store postgres --only crowd", "t7 --seconds 4 --store postgres --only read-only"],
    &["t5 --rounds 1 --expiry 1", "t8 --seconds 4 --only sync", "t7 --seconds 4 --store postgres --only kill"],
    &["t11 --loops 5", "t3 --durability relaxed --control --cuts 2", "t8 --seconds 4 --only read-only"],
    &["rooms --occupants 10 --messages 15 --longest 800 --loops 4 --restarts 2 --linger false --empty 4"],
    &[
        "rooms --occupants 8 --rooms 1 --messages 15 --longest 800 --loops 3 --restarts 1 --linger false --empty 0 --store postgres",
    ],
];

/// Runs them.
pub async fn run(options: &Short) -> Result<Report, Failure> {
    let mut sum = Report::new("ci");
    let start = Instant::now();
    for lane in LANES {
        let lines: Vec<&str> = lane
            .iter()
            .copied()
            .filter(|line| options.only.as_deref().is_none_or(|only| line.contains(only)))
            .collect();
        let plays = lines.iter().map(|line| play(line)).collect();
        for (line, outcome) in lines.iter().zip(together(plays).await) {
            match outcome {
                Ok(report) => sum.add(&report),
                Err(error) => sum.check(false, line, error),
            }
        }
    }
    sum.say(format!("{} s in all", start.elapsed().as_secs()));
    Ok(sum)
}

/// All of these at the same time.
async fn together<T>(plays: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut plays: Vec<_> = plays.into_iter().map(|play| (Box::pin(play), None)).collect();
    poll_fn(|cx| {
        for (play, outcome) in plays.iter_mut().filter(|(_, outcome)| outcome.is_none()) {
            if let Poll::Ready(value) = play.as_mut().poll(cx) {
                *outcome = Some(value);
            }
        }
        if plays.iter().all(|(_, outcome)| outcome.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    plays.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

async fn play(line: &str) -> Result<Report, Failure> {
    println!("--- loss {line}");
    let arguments = std::iter::once("loss").chain(line.split(' '));
    let cli = Cli::try_parse_from(arguments).map_err(|error| Failure::Protocol(error.to_string()))?;
    let start = Instant::now();
    let outcome = cli.scenario.play().await;
    println!("      {line}: {:.1} s", start.elapsed().as_secs_f64());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_are_understood() {
        for line in LANES.iter().flat_map(|lane| lane.iter()) {
            let arguments = std::iter::once("loss").chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_ok(), "{line}");
        }
    }
}
