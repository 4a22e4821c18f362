//! The store at size: `cargo run --release -p rookery-store --features testing --example size -- sqlite 10` fills ten million
//! archived messages and measures appends on the way, then pages of conversations, and what others feel while an account is
//! deleted. Two hundred accounts with fifty peers each; the first has a tenth of all.

// A measurement that goes out of its own bounds has failed, which is right.
#![allow(clippy::indexing_slicing)]

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use rookery_core::ids::Ids;
use rookery_core::store::{ArchiveQuery, Archived, Page, Record, Store, TailChange, TailEntry};
use rookery_store::testing::{Fsync, PostgresServer, TempDir};
use rookery_store::{Backend, Durability, StoreConf, open};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::sasl::Credentials;

type Failed = Box<dyn Error>;

const ACCOUNTS: u64 = 200;
const PEERS: u64 = 50;
const BATCH: u64 = 1000;

struct Fill {
    accounts: Vec<BareJid>,
    peers: Vec<BareJid>,
    ids: Ids,
    next: u64,
}

impl Fill {
    fn batch(&mut self) -> Vec<TailChange> {
        (0..BATCH).map(|_| TailChange::Append(self.record())).collect()
    }

    fn record(&mut self) -> Record {
        self.next += 1;
        let random = self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let account = if random.is_multiple_of(10) { 0 } else { random / 10 % ACCOUNTS };
        let (account, peer) = (&self.accounts[account as usize], &self.peers[(random / 4000 % PEERS) as usize]);
        let stanza = format!(
            "<message xmlns='jabber:client' type='chat' id='m{0}' from='{peer}/phone' to='{account}'><body>Message number {0} \
             of very many that are all about as long as people write.</body></message>",
            self.next
        );
        Record {
            entry: TailEntry {
                account: account.clone(),
                id: self.ids.next(),
                resource: None,
                stamp: SystemTime::now(),
                stanza: stanza.into(),
            },
            waits: false,
            archived: Some(Archived {
                with: peer.clone(),
                resource: Some("phone".into()),
                sent: false,
                counts: true,
                message_id: Some(format!("m{}", self.next).into()),
                body: None,
            }),
            digest: None,
        }
    }
}

fn query(with: Option<&BareJid>, page: Page, count: bool) -> ArchiveQuery {
    ArchiveQuery {
        with: with.map(|with| Jid::from(with.clone())),
        start: None,
        end: None,
        after_id: None,
        before_id: None,
        ids: Vec::new(),
        words: None,
        page,
        max: 50,
        count,
    }
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
    format!("p50 {:.2?}, p99 {:.2?}", at(0.5), at(0.99))
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let millions: u64 = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1);
    let directory = TempDir::new()?;
    let server =
        if words.iter().any(|word| word == "postgres") { Some(PostgresServer::start(Fsync::On)?) } else { None };
    let backend = match &server {
        Some(server) => Backend::Postgres { url: server.create_database()?, connections: 4 },
        None => Backend::Sqlite { path: directory.path().join("size.db") },
    };
    let store = open(&StoreConf { backend, durability: Durability::Full }).await?;
    let keys = Credentials::from_password("size", 4096)?;
    let jid = |name: &str, number| BareJid::new(&format!("{name}{number}@size.example"));
    let accounts = (0..ACCOUNTS).map(|number| jid("user", number)).collect::<Result<Vec<_>, _>>()?;
    let peers = (0..PEERS).map(|number| jid("peer", number)).collect::<Result<Vec<_>, _>>()?;
    for account in &accounts {
        store.create_account(account, &keys).await?;
    }
    let mut fill = Fill { accounts, peers, ids: Ids::above(0), next: 0 };
    for million in 0..millions {
        let (start, mut times) = (Instant::now(), Vec::new());
        for _ in 0..1_000_000 / BATCH {
            let batch = fill.batch();
            let begin = Instant::now();
            store.commit(&batch).await?;
            times.push(begin.elapsed());
        }
        let rate = 1e6 / start.elapsed().as_secs_f64();
        println!("to {:2} million: {rate:.0} appends/s; commits of {BATCH}: {}", million + 1, quantiles(&mut times));
    }
    for (name, with_peer, page, count) in [
        ("last page of a conversation", true, Page::Last, false),
        ("first page of a conversation", true, Page::First, false),
        ("last page of an archive", false, Page::Last, false),
        ("last page of a conversation, counted", true, Page::Last, true),
    ] {
        measure(name, store.as_ref(), &fill, with_peer, page, count).await?;
    }
    let mut times = Vec::new();
    for turn in 0..500_u64 {
        let account = &fill.accounts[(turn % ACCOUNTS) as usize];
        let mut asked = query(Some(&fill.peers[(turn % PEERS) as usize]), Page::First, false);
        asked.start = Some(SystemTime::now() - Duration::from_secs(turn % 60));
        let begin = Instant::now();
        store.archive_page(account, &asked).await?;
        times.push(begin.elapsed());
    }
    println!("a page by time: {}", quantiles(&mut times));
    // The largest account goes, a few messages at a time, while others append and read.
    store.delete_account(&fill.accounts[0]).await?;
    fill.accounts[0] = fill.accounts[1].clone();
    let (mut appends, mut reads, mut rounds, begin) = (Vec::new(), Vec::new(), 0, Instant::now());
    while store.purge_deleted(500).await? {
        rounds += 1;
        let batch = fill.batch();
        let start = Instant::now();
        store.commit(&batch).await?;
        appends.push(start.elapsed());
        let start = Instant::now();
        let account = &fill.accounts[(rounds % ACCOUNTS) as usize];
        store.archive_page(account, &query(Some(&fill.peers[3]), Page::Last, false)).await?;
        reads.push(start.elapsed());
        if begin.elapsed() > Duration::from_secs(60) {
            break;
        }
    }
    println!(
        "while an account goes ({rounds} steps): commits {}; pages {}",
        quantiles(&mut appends),
        quantiles(&mut reads)
    );
    store.close().await;
    Ok(())
}

async fn measure(
    name: &str,
    store: &dyn Store,
    fill: &Fill,
    with_peer: bool,
    page: Page,
    count: bool,
) -> Result<(), Failed> {
    let mut times = Vec::new();
    for turn in 0..500_u64 {
        let account = &fill.accounts[(turn % ACCOUNTS) as usize];
        let peer = &fill.peers[(turn * 7 % PEERS) as usize];
        let asked = query(with_peer.then_some(peer), page, count);
        let begin = Instant::now();
        store.archive_page(account, &asked).await?;
        times.push(begin.elapsed());
    }
    println!("{name}: {}", quantiles(&mut times));
    Ok(())
}
