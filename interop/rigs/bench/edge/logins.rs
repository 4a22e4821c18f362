//! Logins come in a storm while others chat at a steady pace: what the chat notices of it. The storm has a thread of its own that
//! gives way to the rest, so that it is the server's work that stands in the chat's way, and not the rig's.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::super::{Figure, transport_name};
use super::Options;
use super::pace::{Pace, Pairs, connect};
use crate::client::{Connection, Target, Transport};
use crate::server::{PASSWORD, Server, users};
use crate::{Failure, Verdict};

/// Logins of an account at the same time, again and again.
const RESOURCES: usize = 5;

/// The logins by one transport.
pub(super) async fn measure(
    server: &Server,
    transport: Transport,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let accounts = users("u", options.at_once.div_ceil(RESOURCES));
    server.add_accounts(&accounts)?;
    let pairs = Pairs::begin(connect(server, options.pairs).await?, Pace::Open(options.rate), 0);
    let time = Duration::from_secs(options.seconds);
    tokio::time::sleep(time / 4).await;
    let quiet = pairs.look(time).await;
    let storm = Storm::begin(server.target(transport), accounts, options.at_once);
    // The first logins bring the client's slow part of SCRAM.
    tokio::time::sleep(time / 2).await;
    let before = storm.logins.load(Ordering::Relaxed);
    let busy = pairs.look(time).await;
    let logins = storm.logins.load(Ordering::Relaxed) - before;
    storm.end()?;
    pairs.end().await?;
    let name = transport_name(transport);
    for (part, quiet, busy) in [("p50", quiet.p50, busy.p50), ("p99", quiet.p99, busy.p99)] {
        Figure {
            what: format!("edge: {} logins at once, {name}: a message's {part}", options.at_once),
            values: vec![busy.as_secs_f64() * 1e3],
            unit: "ms",
            note: format!(
                "{:.1} times the {quiet:.1?} without; {:.0} messages and {:.0} logins a second",
                busy.as_secs_f64() / quiet.as_secs_f64(),
                options.rate,
                logins as f64 / time.as_secs_f64()
            ),
        }
        .done(figures);
    }
    Ok(())
}

struct Storm {
    logins: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<(), Failure>>,
}

impl Storm {
    fn begin(target: Target, accounts: Vec<String>, at_once: usize) -> Self {
        let (logins, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&logins), Arc::clone(&stop));
        let thread = std::thread::spawn(move || rage(&target, &accounts, at_once, &count, &stopped));
        Self { logins, stop, thread }
    }

    fn end(self) -> Verdict {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")?;
        Ok(true)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn rage(
    target: &Target,
    accounts: &[String],
    at_once: usize,
    logins: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    // `/proc/PID/task/TID`
    let thread = std::fs::read_link("/proc/thread-self")?;
    let thread = thread.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let _ = Command::new("renice").args(["-n", "19", "-p", &thread]).output();
    for account in accounts {
        log_in(target, account).await?;
    }
    let tasks: Vec<_> = (0..at_once)
        .map(|number| {
            let (target, account) = (target.clone(), accounts[number % accounts.len()].clone());
            let (logins, stop) = (Arc::clone(logins), Arc::clone(stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    log_in(&target, &account).await?;
                    logins.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| Failure::Protocol(error.to_string()))??;
    }
    Ok(())
}

async fn log_in(target: &Target, account: &str) -> Result<(), Failure> {
    let mut connection = Connection::log_in(target, account, PASSWORD).await?;
    connection.bind(None).await?;
    connection.close().await
}
