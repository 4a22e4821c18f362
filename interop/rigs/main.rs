//! `rigs bench|resume|kill|limits|dns|relay`: see `README.md`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rookery_rigs::{Verdict, bench, dns, kill, limits, relay, resume};
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
    /// Forwards messages as bytes and does nothing else: the floor, started by the others
    Relay(relay::Options),
}

fn main() -> ExitCode {
    rookery_rigs::server::raise_descriptors();
    let rig = Cli::parse().rig;
    let verdict = match &rig {
        Rig::Relay(options) => relay::run(options).map(|()| true).map_err(Into::into),
        _ => judge(&rig),
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

#[tokio::main(flavor = "current_thread")]
async fn judge(rig: &Rig) -> Verdict {
    let work = async {
        match rig {
            Rig::Bench(options) => bench::run(options).await,
            Rig::Resume(options) => resume::run(options).await,
            Rig::Kill(options) => kill::run(options).await,
            Rig::Limits(options) => limits::run(options).await,
            Rig::Dns(options) => dns::run(options).await,
            Rig::Relay(_) => Err("the relay judges nobody".into()),
        }
    };
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be awaited");
    // Whoever is interrupted leaves no server behind either.
    tokio::select! {
        verdict = work => verdict,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}
