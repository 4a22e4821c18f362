//! Archives at size: `cargo run --release -p rookery-store --features testing --example size -- sqlite 10`, or `postgres`, and
//! how many millions of archived messages.
//!
//! Two thousand accounts with twenty peers each; the first two have a tenth of all messages each. Time goes over a year.
//! What is printed: appends at sizes on the way (batches of 500 messages, a row for each side, durable), pages, searches,
//! what a login reads, an archive that expires; and appends and pages while an account of a tenth of all is removed.
//! Ten million take about 7 GB and some minutes; the directory goes with the process.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rookery_core::ids::RANDOM_BITS;
use rookery_core::store::{ArchiveQuery, Archived, Page, Record, Store, TailChange, TailEntry};
use rookery_store::testing::{Fsync, PostgresServer, TempDir, cpu_time};
use rookery_store::{Backend, Durability, StoreConf, open};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::sasl::Credentials;

type Failed = Box<dyn Error + Send + Sync>;

const ACCOUNTS: u64 = 2000;
const PEERS: u64 = 20;
const YEAR: u64 = 365 * 86_400 * 1_000_000;
/// 2026-01-01.
const START: u64 = 1_767_225_600_000_000;
const SAMPLES: usize = 300;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let millions: f64 = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1.0);
    let directory = TempDir::new()?;
    let server = match words.iter().any(|word| word == "postgres") {
        true => Some(PostgresServer::start(Fsync::On)?),
        false => None,
    };
    let backend = match &server {
        Some(server) => Backend::Postgres { url: server.create_database()?, connections: 8 },
        None => Backend::Sqlite { path: directory.path().join("size.db") },
    };
    println!("{}, {millions} million archived messages", if server.is_some() { "PostgreSQL" } else { "SQLite" });
    let store = open(&StoreConf { backend, durability: Durability::Full }).await?;
    let rows = (millions * 1e6) as u64;
    let world = World::new(Arc::clone(&store), rows).await?;
    fill(&world, server.as_ref()).await?;
    pages(&world).await?;
    index(&world, server.as_ref()).await?;
    searches(&world).await?;
    logins(&world).await?;
    expiry(&world).await?;
    removal(&world).await?;
    store.close().await;
    if server.is_none() {
        let size = std::fs::metadata(directory.path().join("size.db"))?.len();
        println!("{:42} {:10.2} GB", "the file", size as f64 / 1e9);
    }
    Ok(())
}

struct World {
    store: Arc<dyn Store>,
    accounts: Vec<BareJid>,
    nobody: BareJid,
    rows: u64,
    /// Microseconds between two messages.
    step: u64,
}

/// A number that looks random, of another.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn at(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

impl World {
    async fn new(store: Arc<dyn Store>, rows: u64) -> Result<Self, Failed> {
        let keys = Credentials::from_password("bench", 10_000)?;
        let mut accounts = Vec::new();
        for number in 0..ACCOUNTS {
            let account = BareJid::new(&format!("user{number}@bench.example"))?;
            store.create_account(&account, &keys).await?;
            accounts.push(account);
        }
        Ok(Self { store, accounts, nobody: BareJid::new("nobody@bench.example")?, rows, step: YEAR / rows.max(1) })
    }

    fn account(&self, number: u64) -> &BareJid {
        self.accounts.get((number % ACCOUNTS) as usize).unwrap_or(&self.nobody)
    }

    /// Some accounts have few peers that they write to often, and many that they write to seldom.
    fn peer(&self, account: u64, random: u64) -> &BareJid {
        let often = (random % PEERS).min((random >> 8) % PEERS).min((random >> 16) % PEERS);
        self.account(account + 1 + often * 37)
    }

    fn time(&self, row: u64) -> u64 {
        START + row * self.step
    }

    fn id(&self, row: u64) -> u64 {
        self.time(row) << RANDOM_BITS | mix(row) & 0x3ff
    }

    /// Whose the row is: a tenth is the first account's, a tenth the second's.
    fn owner(&self, row: u64) -> u64 {
        match mix(row) % 10 {
            0 => 0,
            1 => 1,
            _ => 2 + mix(row ^ 0x5555) % (ACCOUNTS - 2),
        }
    }

    fn record(&self, row: u64) -> Record {
        let owner = self.owner(row);
        let random = mix(row ^ 0xAAAA);
        let (account, with) = (self.account(owner), self.peer(owner, random));
        let id = self.id(row);
        let body = body(row);
        Record {
            entry: TailEntry {
                account: account.clone(),
                id,
                resource: None,
                stamp: at(self.time(row)),
                stanza: format!(
                    "<message xmlns='jabber:client' type='chat' from='{with}/phone' to='{account}' id='c0a8-{row:x}'>\
                     <body>{body}</body><origin-id xmlns='urn:xmpp:sid:0' id='c0a8-{row:x}'/></message>"
                )
                .into(),
            },
            waits: false,
            archived: Some(Archived {
                with: with.clone(),
                resource: Some("phone".into()),
                sent: random & 1 == 0,
                counts: random & 1 == 1,
                message_id: Some(format!("c0a8-{row:x}").into()),
            }),
            digest: Some(random),
        }
    }

    fn records(&self, rows: std::ops::Range<u64>) -> Vec<TailChange> {
        rows.map(|row| TailChange::Append(self.record(row))).collect()
    }

    /// A row of an account, near `near`.
    fn row_of(&self, account: u64, near: u64) -> Option<u64> {
        (near..self.rows).chain(0..near).find(|row| self.owner(*row) == account)
    }
}

/// Seven words: common ones mostly, `the` in many; `needle` in one of a hundred thousand.
fn body(row: u64) -> String {
    let mut words = Vec::new();
    for place in 0..7 {
        let random = mix(row * 8 + place);
        let word = (random % 4000).min((random >> 20) % 4000).min((random >> 40) % 4000);
        words.push(if word < 60 { "the".to_owned() } else { format!("w{word}") });
    }
    if mix(row ^ 0x1234).is_multiple_of(100_000) {
        words.push("needle".to_owned());
    }
    words.join(" ")
}

async fn fill(world: &World, server: Option<&PostgresServer>) -> Result<(), Failed> {
    let mut row = 0;
    for tenth in 0..=10 {
        // The measure: 40 batches of 500 messages.
        if [0, 1, 5, 10].contains(&tenth) {
            let batches: Vec<_> =
                (0..40).map(|batch| world.records(row + batch * 1000..row + (batch + 1) * 1000)).collect();
            let (start, cpu) = (Instant::now(), cpu_time(server)?);
            for changes in &batches {
                world.store.commit(changes).await?;
            }
            let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_time(server)? - cpu);
            let at = format!("append at {:.1} million", row as f64 / 1e6);
            println!("{at:42} {:10.0} messages/s {:6.1} us CPU/message", 20_000.0 / seconds, cpu as f64 / 2e7);
            row += 40_000;
        }
        if tenth == 10 {
            break;
        }
        let start = Instant::now();
        while row < (world.rows - 40_000) * (tenth + 1) / 10 {
            world.store.commit(&world.records(row..row + 2000)).await?;
            row += 2000;
        }
        eprintln!("{row} rows; filled {:.1?}", start.elapsed());
    }
    Ok(())
}

/// Takes samples and prints their median and the worst of a hundred.
async fn sample<F: Future<Output = Result<(), Failed>>>(
    what: &str,
    count: usize,
    mut call: impl FnMut(u64) -> F,
) -> Result<(), Failed> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let start = Instant::now();
        call(mix(number as u64 ^ 0x77)).await?;
        times.push(start.elapsed());
    }
    told(what, times);
    Ok(())
}

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let part = |part: f64| times.get((times.len() as f64 * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    println!("{what:42} {:10.2} ms p50 {:8.2} ms p99 {:8.2} ms worst", part(0.5), part(0.99), part(0.99999));
}

/// Nothing but a page of fifty, the newest.
fn newest() -> ArchiveQuery {
    ArchiveQuery {
        with: None,
        start: None,
        end: None,
        after_id: None,
        before_id: None,
        ids: Vec::new(),
        words: None,
        page: Page::Last,
        max: 50,
        count: false,
    }
}

fn with(peer: &BareJid) -> ArchiveQuery {
    ArchiveQuery { with: Some(Jid::from(peer.clone())), ..newest() }
}

async fn pages(world: &World) -> Result<(), Failed> {
    // An account, one of its peers, and a message of the account somewhere.
    let pick = |random: u64, big: bool| {
        let account = if big { random % 2 } else { 2 + random % (ACCOUNTS - 2) };
        let row = world.row_of(account, mix(random) % world.rows).unwrap_or(0);
        (account, world.peer(account, mix(random ^ 1)), row)
    };
    for big in [false, true] {
        let whose = if big { "large" } else { "small" };
        let ask = |what: &'static str, query: fn(&World, &BareJid, u64) -> ArchiveQuery| async move {
            sample(&format!("{whose} account: {what}"), SAMPLES, |random| async move {
                let (account, peer, row) = pick(random, big);
                let page = world.store.archive_page(world.account(account), &query(world, peer, row)).await?;
                page.map(drop).ok_or_else(|| "an id is missing".into())
            })
            .await
        };
        ask("newest page", |_, _, _| newest()).await?;
        ask("oldest page", |_, _, _| ArchiveQuery { page: Page::First, ..newest() }).await?;
        ask("page after an id", |world, _, row| ArchiveQuery { page: Page::After(world.id(row)), ..newest() }).await?;
        ask("page of a day", |world, _, row| ArchiveQuery {
            start: Some(at(world.time(row))),
            end: Some(at(world.time(row) + 86_400_000_000)),
            page: Page::First,
            ..newest()
        })
        .await?;
        ask("conversation, newest page", |_, peer, _| with(peer)).await?;
        ask("conversation, oldest page", |_, peer, _| ArchiveQuery { page: Page::First, ..with(peer) }).await?;
        ask("conversation, page before an id", |world, peer, row| ArchiveQuery {
            page: Page::Before(world.id(row)),
            ..with(peer)
        })
        .await?;
        ask("conversation, page after an id", |world, peer, row| ArchiveQuery {
            page: Page::After(world.id(row)),
            ..with(peer)
        })
        .await?;
        ask("conversation, page from a time on", |world, peer, row| ArchiveQuery {
            start: Some(at(world.time(row))),
            page: Page::First,
            ..with(peer)
        })
        .await?;
        ask("conversation, newest page and count", |_, peer, _| ArchiveQuery { count: true, ..with(peer) }).await?;
        ask("newest page and count", |_, _, _| ArchiveQuery { count: true, ..newest() }).await?;
    }
    Ok(())
}

/// What the first search of each archive takes.
async fn index(world: &World, server: Option<&PostgresServer>) -> Result<(), Failed> {
    let (mut steps, mut first) = (Vec::new(), Vec::new());
    let cpu = cpu_time(server)?;
    for (number, account) in world.accounts.iter().enumerate() {
        let start = Instant::now();
        loop {
            let step = Instant::now();
            let more = world.store.index_words(account, 500).await?;
            steps.push(step.elapsed());
            if !more {
                break;
            }
        }
        if number < 2 {
            println!("{:42} {:10.2} s", "large account: made findable", start.elapsed().as_secs_f64());
        } else {
            first.push(start.elapsed());
        }
    }
    told("small account: made findable", first);
    told("a step of 500 texts at most", steps);
    let cpu = (cpu_time(server)? - cpu) as f64 / 1000.0 / world.rows as f64;
    println!("{:42} {cpu:10.2} us CPU", "a text is made findable");
    Ok(())
}

async fn searches(world: &World) -> Result<(), Failed> {
    for (whose, first, of) in [("small", 2, ACCOUNTS - 2), ("large", 0, 2)] {
        for (what, words) in [("common", "the"), ("rare", "needle"), ("two", "w70 w80")] {
            let count = if first == 0 { 20 } else { SAMPLES };
            sample(&format!("{whose} account: search, {what} word"), count, |random| async move {
                let query = ArchiveQuery { words: Some(words.to_owned()), ..newest() };
                let page = world.store.archive_page(world.account(first + random % of), &query).await?;
                page.map(drop).ok_or_else(|| "an id is missing".into())
            })
            .await?;
        }
    }
    Ok(())
}

async fn logins(world: &World) -> Result<(), Failed> {
    let day = world.id(world.rows) - (86_400_000_000 << RANDOM_BITS);
    for (whose, first, of) in [("small", 2, ACCOUNTS - 2), ("large", 0, 2)] {
        sample(&format!("{whose} account: login"), SAMPLES, |random| async move {
            let account = world.account(first + random % of);
            world.store.tail_size(account).await?;
            world.store.seen(account, day, u64::MAX, 4096).await?;
            Ok(())
        })
        .await?;
        sample(&format!("{whose} account: unread"), 20, |random| async move {
            world.store.conversations(world.account(first + random % of)).await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn expiry(world: &World) -> Result<(), Failed> {
    let up_to = world.id(world.rows / 10);
    let domain = BareJid::new("bench.example")?;
    let start = Instant::now();
    let old = world.store.expired_accounts(&domain, up_to, None, 10_000).await?;
    println!("{:42} {:10.2} ms for {}", "accounts with something old", start.elapsed().as_secs_f64() * 1e3, old.len());
    let mut times = Vec::new();
    for account in old.iter().rev().take(300) {
        loop {
            let start = Instant::now();
            let more = world.store.expire_archive(account, up_to, 100).await?;
            times.push(start.elapsed());
            if !more {
                break;
            }
        }
    }
    told("a hundred messages expire", times);
    let start = Instant::now();
    world.store.forget_seen(world.id(world.rows / 2)).await?;
    println!("{:42} {:10.2} ms", "half of what was seen is forgotten", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Appends and pages, while an account goes and while none does.
async fn removal(world: &World) -> Result<(), Failed> {
    let mut row = world.rows;
    for removes in [false, true] {
        let ends = Arc::new(AtomicBool::new(false));
        let purge = tokio::spawn({
            let (store, ends, account) = (Arc::clone(&world.store), Arc::clone(&ends), world.account(1).clone());
            async move {
                let mut steps = Vec::new();
                if removes {
                    let start = Instant::now();
                    store.delete_account(&account).await?;
                    println!("{:42} {:10.2} ms", "an account is deleted", start.elapsed().as_secs_f64() * 1e3);
                    while !ends.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        let more = store.purge_deleted(100).await?;
                        steps.push(start.elapsed());
                        if !more {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                Ok::<_, Failed>(steps)
            }
        });
        let (mut appends, mut pages) = (Vec::new(), Vec::new());
        for turn in 0..2000_u64 {
            let changes = world.records(row..row + 10);
            row += 10;
            let start = Instant::now();
            world.store.commit(&changes).await?;
            appends.push(start.elapsed());
            let account = 2 + mix(turn) % (ACCOUNTS - 2);
            let start = Instant::now();
            world.store.archive_page(world.account(account), &with(world.peer(account, mix(turn)))).await?;
            pages.push(start.elapsed());
        }
        ends.store(true, Ordering::Relaxed);
        let steps = purge.await??;
        let beside = if removes { " beside it" } else { "" };
        told(&format!("append of 5 messages{beside}"), appends);
        told(&format!("page of a conversation{beside}"), pages);
        if removes {
            println!("{:42} {:10} steps of 100", "of the deleted account are gone", steps.len());
            told("a step", steps);
        }
    }
    Ok(())
}
