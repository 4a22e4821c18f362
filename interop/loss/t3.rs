//! T3: power cuts. As T1, but what the server had not synced is gone after each kill: its folder is written anew as the disk
//! would have it, told from its system calls (`trace/power.rs`). In every other cut none of the unsynced writes survives, in
//! the others half of them, at random.
//!
//! With `--durability relaxed` Rookery must lose messages here, and any server that does not sync: else this finds nothing.

use rookery_rigs::Failure;
use rookery_rigs::server::{Durability, Store, Subject};

use crate::ledger::Rule;
use crate::report::Report;
use crate::t1;
use crate::world::Options;

/// `loss t3`
#[derive(Debug, Clone, clap::Args)]
pub struct Power {
    /// What all scenarios take
    #[command(flatten)]
    pub common: Options,
    /// How often the power is cut
    #[arg(long, default_value_t = 20)]
    pub cuts: u32,
    /// Conversations at once
    #[arg(long, default_value_t = 14)]
    pub pairs: usize,
    /// The other way round: losses must be found
    #[arg(long)]
    pub control: bool,
}

/// Runs it.
pub async fn run(options: &Power) -> Result<Report, Failure> {
    let server = &options.common.server;
    let known = match server.server {
        Subject::Rookery => server.store == Store::Sqlite,
        Subject::Prosody => true,
        Subject::Ejabberd | Subject::Relay => false,
    };
    if !known {
        return Err(Failure::Protocol(
            "t3 knows Rookery on SQLite, and Prosody, which write their files themselves".into(),
        ));
    }
    let campaign = t1::Kill {
        common: options.common.clone(),
        loops: options.cuts,
        pairs: options.pairs,
        messages: 40,
        longest: 1000,
        at_least: 1,
        verbose: false,
    };
    let mut report = Report::new("t3");
    if !options.control {
        t1::campaign(&campaign, &mut report, true).await?;
        return Ok(report);
    }
    let mut quiet = Report::silent("t3");
    t1::campaign(&campaign, &mut quiet, true).await?;
    let lost = quiet.broken(Rule::I1);
    let relaxed = if server.durability == Durability::Relaxed { "relaxed, " } else { "" };
    report.check(lost > 0, format!("control: {relaxed}losses are found"), format!("{lost} in {} cuts", options.cuts));
    Ok(report)
}
