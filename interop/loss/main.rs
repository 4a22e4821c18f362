//! `loss t1|...|ci`: see `README.md`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rookery_loss::cli::{Cli, Scenario};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    rookery_rigs::server::raise_descriptors();
    let scenario = Cli::parse().scenario;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be started");
    let code = runtime.block_on(play(&scenario));
    // The world ends with its devices, and the server with it; nobody waits for what hangs.
    runtime.shutdown_timeout(Duration::from_secs(20));
    code
}

async fn play(scenario: &Scenario) -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be awaited");
    // Whoever is interrupted leaves no server behind either.
    let outcome = tokio::select! {
        outcome = scenario.play() => outcome.map_err(|error| error.to_string()),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    };
    let (passed, failed) = match outcome {
        Ok(report) => (report.passed, report.failed),
        Err(error) => {
            println!("FAIL  {error}");
            (0, 1)
        }
    };
    println!("{passed} checks passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
