//! As many sessions as one process can be given, and all change their status at once. Everybody must see everybody whom they should
//! see, once, and nobody may be lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use super::super::presence::{Person, drain};
use super::super::{Figure, micros};
use super::Options;
use crate::client::{Connection, LOGIN, Transport};
use crate::process::{self, Cpu};
use crate::server::{PASSWORD, Server, users};
use crate::{Failure, within, xml};

/// Sessions of an account.
const RESOURCES: usize = 10;

/// Contacts of an account, half of them with the numbers before its own, half behind.
const CONTACTS: usize = 10;

/// How often all change their status.
const ROUNDS: usize = 3;

/// Accounts that log in together.
const AT_ONCE: usize = 20;

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The storm on one server.
pub(super) async fn measure(
    server: &Server,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let accounts = Arc::new(users("u", options.sessions.div_ceil(RESOURCES)));
    server.add_accounts(&accounts)?;
    let target = server.target(Transport::Plain);
    let mut people = Vec::new();
    for number in 0..accounts.len() {
        people.push(Person::begin(&target, &accounts, number, CONTACTS / 2).await?);
    }
    let tasks: Vec<_> =
        people.into_iter().map(|person| tokio::spawn(within(PATIENCE, person.make_friends()))).collect();
    let mut sessions: Vec<(usize, Connection)> = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        sessions.push((number, task.await??.session));
    }
    let begin = Instant::now();
    for numbers in (0..accounts.len()).collect::<Vec<_>>().chunks(AT_ONCE) {
        let tasks: Vec<_> = numbers
            .iter()
            .flat_map(|number| (1..RESOURCES).map(move |resource| (*number, resource)))
            .map(|(number, resource)| {
                let (target, user) = (target.clone(), accounts[number].clone());
                tokio::spawn(within(LOGIN, async move {
                    let mut connection = Connection::log_in(&target, &user, PASSWORD).await?;
                    connection.bind(Some(&format!("r{resource}"))).await?;
                    connection.queue(b"<presence/>");
                    connection.flush().await?;
                    Ok((number, connection))
                }))
            })
            .collect();
        for task in tasks {
            sessions.push(task.await??);
        }
        // What that brings to those who are there is read at once, or their outboxes would fill up.
        for (_, session) in &mut sessions {
            drain(session, "").await?;
        }
    }
    let filled = begin.elapsed();
    let count = sessions.len();
    let memory = process::pss(server.pid());
    let seen = Arc::new(AtomicU64::new(0));
    let (mut values, mut spans) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let barrier = Arc::new(Barrier::new(count));
        let cpu = Cpu::read(server.pid());
        let begin = Instant::now();
        seen.store(0, Ordering::Relaxed);
        let tasks: Vec<_> = sessions
            .drain(..)
            .map(|session| {
                let (barrier, seen, accounts) = (Arc::clone(&barrier), Arc::clone(&seen), accounts.len());
                tokio::spawn(within(PATIENCE, change(session, round, accounts, barrier, seen)))
            })
            .collect();
        for task in tasks {
            sessions.push(task.await??);
        }
        spans.push(begin.elapsed().as_secs_f64() * 1e3);
        values.push(micros(Cpu::read(server.pid()).since(&cpu)) / seen.load(Ordering::Relaxed) as f64);
    }
    // Second copies would come now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for (_, session) in &mut sessions {
        drain(session, "").await?;
    }
    let deliveries = count * (CONTACTS + 1) * RESOURCES;
    Figure {
        what: format!("edge: {count} sessions change their status at once"),
        values: spans,
        unit: "ms",
        note: format!("until all {deliveries} presences are seen; {:.1} s to log in", filled.as_secs_f64()),
    }
    .done(figures);
    Figure {
        what: "  a presence".into(),
        values,
        unit: "us CPU",
        note: format!("PSS {} MiB before, {} MiB after", memory >> 20, process::pss(server.pid()) >> 20),
    }
    .done(figures);
    Ok(())
}

/// Changes its status with all others, and sees that of each session of its own account and its contacts.
async fn change(
    (number, mut session): (usize, Connection),
    round: usize,
    accounts: usize,
    barrier: Arc<Barrier>,
    all: Arc<AtomicU64>,
) -> Result<(usize, Connection), Failure> {
    barrier.wait().await;
    let status = format!("storm {round}");
    session.queue(format!("<presence><status>{status}</status></presence>").as_bytes());
    let mut seen = HashSet::new();
    while seen.len() < (CONTACTS + 1) * RESOURCES {
        let token = session.element().await?;
        let bytes = session.bytes(token);
        // Those of the logins have no status.
        let Some(said) = xml::text(bytes, "status").filter(|_| xml::name(bytes) == b"presence") else { continue };
        let from = xml::attribute(bytes, "from").unwrap_or_default();
        let who = from.strip_prefix('u').and_then(|rest| rest.split('@').next()?.parse::<usize>().ok());
        let distance = who.map(|who| (who + accounts - number) % accounts);
        let near = distance.is_some_and(|far| far.min(accounts - far) <= CONTACTS / 2);
        if said != status || !near || !seen.insert(from.into_owned()) {
            return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes))));
        }
    }
    all.fetch_add(seen.len() as u64, Ordering::Relaxed);
    Ok((number, session))
}
