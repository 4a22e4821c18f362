//! A presence storm: everybody is in everybody's roster, up to a number of contacts, and all change their status at once, again
//! and again. A round is over when each has seen the new status of each contact.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use super::{Figure, micros, start};
use crate::client::{Connection, Target, Transport};
use crate::process::Cpu;
use crate::server::{PASSWORD, users};
use crate::{Failure, within, xml};

/// `rigs bench presence`
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Users
    #[arg(long, default_value_t = 200)]
    users: usize,
    /// Contacts of each, an even number
    #[arg(long, default_value_t = 50)]
    contacts: usize,
    /// Rounds of a run
    #[arg(long, default_value_t = 10)]
    rounds: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { users: 200, contacts: 50, rounds: 10 }
    }
}

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures, all runs on one server.
pub(super) async fn measure(
    bench: &super::Options,
    options: &Options,
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = start(bench)?;
    let accounts = Arc::new(users("u", options.users));
    server.add_accounts(&accounts)?;
    let target = server.target(Transport::Plain);
    let half = options.contacts / 2;
    let mut people = Vec::new();
    for number in 0..accounts.len() {
        people.push(Person::begin(&target, &accounts, number, half).await?);
    }
    let tasks: Vec<_> =
        people.into_iter().map(|person| tokio::spawn(within(PATIENCE, person.make_friends()))).collect();
    let mut people = Vec::new();
    for task in tasks {
        people.push(task.await??);
    }
    let delivered = Arc::new(AtomicU64::new(0));
    let (mut values, mut spans) = (Vec::new(), Vec::new());
    for run in 0..bench.runs {
        // What the last run set off is over.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let barrier = Arc::new(Barrier::new(people.len()));
        let (before, begin) = (Cpu::read(server.pid()), Instant::now());
        delivered.store(0, Ordering::Relaxed);
        let tasks: Vec<_> = people
            .drain(..)
            .map(|person| {
                let rounds = (run * options.rounds, options.rounds);
                let storm = person.storm(rounds, Arc::clone(&barrier), Arc::clone(&delivered));
                tokio::spawn(within(PATIENCE, storm))
            })
            .collect();
        for task in tasks {
            people.push(task.await??);
        }
        spans.push(begin.elapsed().as_secs_f64() * 1e3 / options.rounds as f64);
        let count = delivered.load(Ordering::Relaxed) as f64;
        values.push(micros(Cpu::read(server.pid()).since(&before)) / count);
    }
    // Second copies would come now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for person in &mut people {
        drain(&mut person.session, &person.jid).await?;
    }
    Figure {
        what: format!("presence: {} users with {} contacts", options.users, half * 2),
        values,
        unit: "us CPU",
        note: format!("for each that somebody is sent; a round takes {:.1} ms", super::median(&spans)),
    }
    .done(figures);
    Ok(())
}

/// Reads what is there without waiting for more. A status of another than `own`, a bare JID, is one too many.
pub(super) async fn drain(session: &mut Connection, own: &str) -> Result<(), Failure> {
    loop {
        while let Some(token) = session.scan()? {
            let bytes = session.bytes(token);
            if xml::name(bytes) == b"stream:error" {
                return Err(Failure::Stream(xml::condition(bytes)));
            }
            let from = xml::attribute(bytes, "from").unwrap_or_default();
            let other = xml::name(bytes) == b"presence" && from.split('/').next() != Some(own);
            if other && xml::text(bytes, "status").is_some() {
                return Err(Failure::Protocol(format!("void: too many: {}", String::from_utf8_lossy(bytes))));
            }
        }
        tokio::select! {
            biased;
            filled = session.fill() => filled?,
            () = std::future::ready(()) => return Ok(()),
        }
    }
}

/// A user with contacts.
pub(super) struct Person {
    pub(super) session: Connection,
    jid: String,
    contacts: HashSet<String>,
}

impl Person {
    pub(super) async fn begin(
        target: &Target,
        accounts: &[String],
        number: usize,
        half: usize,
    ) -> Result<Self, Failure> {
        let mut session = Connection::log_in(target, &accounts[number], PASSWORD).await?;
        session.bind(Some("storm")).await?;
        session.queue(b"<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>");
        session.flush().await?;
        let at = |other: usize| format!("{}@{}", accounts[other % accounts.len()], target.domain);
        let contacts = (1..=half).flat_map(|step| [at(number + step), at(number + accounts.len() - step)]).collect();
        Ok(Self { jid: at(number), session, contacts })
    }

    /// Subscribes to all contacts, approves theirs, and waits until the roster says so.
    pub(super) async fn make_friends(mut self) -> Result<Self, Failure> {
        for contact in &self.contacts {
            self.session.queue(format!("<presence to='{contact}' type='subscribe'/>").as_bytes());
        }
        let mut both = HashSet::new();
        while both.len() < self.contacts.len() {
            let token = self.session.element().await?;
            let bytes = self.session.bytes(token);
            match xml::name(bytes) {
                b"presence" if xml::attribute(bytes, "type").as_deref() == Some("subscribe") => {
                    let from = xml::attribute(bytes, "from").unwrap_or_default();
                    let approval = format!("<presence to='{from}' type='subscribed'/>");
                    self.session.queue(approval.as_bytes());
                }
                b"iq" if xml::attribute(bytes, "type").as_deref() == Some("set") => {
                    if let Some(item) = xml::child(bytes, "query").and_then(|query| xml::child(query, "item"))
                        && xml::attribute(item, "subscription").as_deref() == Some("both")
                    {
                        both.insert(xml::attribute(item, "jid").unwrap_or_default().into_owned());
                    }
                    let id = xml::attribute(bytes, "id").unwrap_or_default();
                    let result = format!("<iq type='result' id='{}'/>", xml::escape(&id));
                    self.session.queue(result.as_bytes());
                }
                _ => {}
            }
        }
        self.session.flush().await?;
        Ok(self)
    }

    /// Changes its status with all others, and sees all of theirs, once.
    async fn storm(
        mut self,
        (first, rounds): (usize, usize),
        barrier: Arc<Barrier>,
        delivered: Arc<AtomicU64>,
    ) -> Result<Self, Failure> {
        for round in first..first + rounds {
            barrier.wait().await;
            let status = format!("round {round}");
            self.session.queue(format!("<presence><status>{status}</status></presence>").as_bytes());
            let mut seen = HashSet::new();
            while seen.len() < self.contacts.len() {
                let token = self.session.element().await?;
                let bytes = self.session.bytes(token);
                let from = xml::attribute(bytes, "from").unwrap_or_default();
                let bare = from.split('/').next().unwrap_or_default();
                if xml::name(bytes) != b"presence" || bare == self.jid {
                    continue;
                }
                // Those of before the storm have no status.
                let Some(said) = xml::text(bytes, "status") else { continue };
                if said != status || !self.contacts.contains(bare) || !seen.insert(bare.to_owned()) {
                    return Err(Failure::Protocol(format!("void: {}", String::from_utf8_lossy(bytes))));
                }
            }
            delivered.fetch_add(seen.len() as u64, Ordering::Relaxed);
        }
        Ok(self)
    }
}
