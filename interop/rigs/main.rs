//! `rigs bench|resume|kill|limits|dns`: see `README.md`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rookery_rigs::{bench, dns, kill, limits, resume};
use tokio::signal::unix::{SignalKind, signal};

/// Programs that judge an XMPP server from outside.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    rig: Rig,
}

#[derive(Subcommand)]
enum Rig {
    /// What sessions, messages and logins cost the server
    Bench(bench::Options),
    /// Connections cut at random and resumed, under traffic: is anything lost, doubled or out of order?
    Resume(resume::Options),
    /// kill -9 under traffic: is anything lost that was acknowledged?
    Kill(kill::Options),
    /// Every limit, tried
    Limits(limits::Options),
    /// A nameserver for tests
    Dns(dns::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    rookery_rigs::server::raise_descriptors();
    let rig = Cli::parse().rig;
    let work = async {
        match &rig {
            Rig::Bench(options) => bench::run(options).await,
            Rig::Resume(options) => resume::run(options).await,
            Rig::Kill(options) => kill::run(options).await,
            Rig::Limits(options) => limits::run(options).await,
            Rig::Dns(options) => dns::run(options).await,
        }
    };
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be awaited");
    // Whoever is interrupted leaves no server behind either.
    let verdict = tokio::select! {
        verdict = work => verdict,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    };
    match verdict {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
