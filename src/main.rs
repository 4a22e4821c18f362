//! The binary: `rookery serve`, `rookery check`, `rookery user ...`, `rookery room ...`.

use std::process::ExitCode;
use std::time::Instant;

mod cli;

fn main() -> ExitCode {
    cli::run(Instant::now())
}
