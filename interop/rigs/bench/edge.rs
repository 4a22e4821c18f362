//! The server at its edge: more messages than it can do, a storm of logins while others chat, and as many sessions as a process can
//! have that all change their status at once. What matters is the shape, in ratios of one run: throughput that stays,
//! latency that grows evenly, sessions that notice little of those who are coming.

mod logins;
mod overload;
mod pace;
mod storm;

use super::{Figure, start};
use crate::client::Transport;

/// `rigs bench edge`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "overload,logins,storm")]
    part: Vec<Part>,
    /// Pairs who chat
    #[arg(long, default_value_t = 200)]
    pairs: usize,
    /// Messages a second, of all pairs together, while others log in
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Logins at the same time
    #[arg(long, default_value_t = 200)]
    at_once: usize,
    /// Sessions in the presence storm, ten to an account
    #[arg(long, default_value_t = 18_000)]
    sessions: usize,
    /// Seconds of each look
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Up to twice as many messages as it can do
    Overload,
    /// A storm of logins while others chat
    Logins,
    /// Presence of all sessions at once
    Storm,
}

/// Measures each part, and each transport of the logins, on a server of its own.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    for part in &options.part {
        match part {
            Part::Overload => overload::measure(&start(bench)?, options, figures).await?,
            Part::Logins => {
                for transport in [Transport::Plain, Transport::Direct] {
                    logins::measure(&start(bench)?, transport, options, figures).await?;
                }
            }
            Part::Storm => storm::measure(&start(bench)?, options, figures).await?,
        }
    }
    Ok(())
}
