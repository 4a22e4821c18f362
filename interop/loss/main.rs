//! `loss t1|...`: see `README.md`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use rookery_loss::{t1, t2, t4, t5, t6, t7, t8, t9, t11, t14};
use tokio::signal::unix::{SignalKind, signal};

/// Proves that a server loses nothing it acknowledged, or shows what it lost.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// kill -9 under traffic, again and again
    T1(t1::Kill),
    /// No acknowledgement before the disk has what it covers
    T2(t2::Order),
    /// Connections that are cut again and again
    T4(t4::Flapping),
    /// Sessions that are never resumed
    T5(t5::Expiry),
    /// Clients that stop reading
    T6(t6::Slow),
    /// A database that is slow or gone
    T7(t7::Database),
    /// A disk that is full or fails
    T8(t8::Disk),
    /// A clock that jumps
    T9(t9::Clock),
    /// Restarts under load
    T11(t11::Restart),
    /// Counters that come round
    T14(t14::Counters),
}

fn main() -> ExitCode {
    rookery_rigs::server::raise_descriptors();
    let scenario = Cli::parse().scenario;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be started");
    let code = runtime.block_on(play(scenario));
    // The world ends with its devices, and the server with it; nobody waits for what hangs.
    runtime.shutdown_timeout(Duration::from_secs(20));
    code
}

async fn play(scenario: Scenario) -> ExitCode {
    let work = async {
        match &scenario {
            Scenario::T1(options) => t1::run(options).await,
            Scenario::T2(options) => t2::run(options).await,
            Scenario::T4(options) => t4::run(options).await,
            Scenario::T5(options) => t5::run(options).await,
            Scenario::T6(options) => t6::run(options).await,
            Scenario::T9(options) => t9::run(options).await,
            Scenario::T11(options) => t11::run(options).await,
            Scenario::T14(options) => t14::run(options).await,
            Scenario::T7(options) => t7::run(options).await,
            Scenario::T8(options) => t8::run(options).await,
        }
    };
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be awaited");
    // Whoever is interrupted leaves no server behind either.
    let outcome = tokio::select! {
        outcome = work => outcome.map_err(|error| error.to_string()),
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    };
    match outcome {
        Ok(report) => {
            println!("{} checks passed, {} failed", report.passed, report.failed);
            if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("FAIL  {error}");
            println!("0 checks passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}
