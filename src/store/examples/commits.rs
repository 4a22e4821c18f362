//! What commits cost, by batch size: `cargo run --release -p rookery-store --features testing --example commits`. With the
//! words `sqlite` or `postgres`, `tail` or `chat` behind `--`: only that; with a number: only that batch size.
//!
//! One writer, as in the server. *tail*: messages to accounts without an archive, each delivered in the next batch. *chat*:
//! messages between accounts with archives: a row for the sender, a row for the recipient that waits, and its delivery in
//! the next batch. A thousand accounts with twenty peers each, picked at random. CPU is that of this process (with SQLite
//! in it) and, for PostgreSQL, of the server's processes.

use std::error::Error;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rookery_core::ids::Ids;
use rookery_core::store::{Archived, Record, Store, TailChange, TailEntry};
use rookery_store::testing::{Fsync, PostgresServer, TempDir, cpu_time, postgres_wanted};
use rookery_store::{Backend, Durability, StoreConf, open};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::Credentials;

type Failed = Box<dyn Error>;

const ACCOUNTS: usize = 1000;
const PEERS: usize = 20;
const SECONDS: f64 = 3.0;
const TEXT: &str = "Wherefore art thou Romeo? Deny thy father and refuse thy name.";

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |word: &str| words.iter().any(|given| given == word);
    let sizes: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1, 10, 100, 500, 1000] } else { sizes };
    println!("database    load  batch  commits/s  messages/s  CPU us/message");
    let directory = TempDir::new()?;
    let path = directory.path().join("bench.db");
    if !wanted("postgres") {
        measure("SQLite", Backend::Sqlite { path }, None, &sizes).await?;
    }
    if !wanted("sqlite") && postgres_wanted() {
        let server = PostgresServer::start(Fsync::On)?;
        let url = server.create_database()?;
        let connections = 4;
        let backend = Backend::Postgres { url, connections };
        measure("PostgreSQL", backend, Some(&server), &sizes).await?;
    }
    Ok(())
}

async fn measure(name: &str, backend: Backend, server: Option<&PostgresServer>, sizes: &[usize]) -> Result<(), Failed> {
    let durability = Durability::Full;
    let store = open(&StoreConf { backend, durability }).await?;
    let keys = Credentials::from_password("bench", 10_000)?;
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let account = BareJid::new(&format!("user{number}@bench.example"))?;
        store.create_account(&account, &keys).await?;
        accounts.push(account);
    }
    let mut load =
        Load { store: Arc::clone(&store), accounts, ids: Ids::above(0), seed: 0x2545_F491_4F6C_DD1D, old: Vec::new() };
    for chat in [false, true] {
        if std::env::args().any(|word| word == if chat { "tail" } else { "chat" }) {
            continue;
        }
        // Until nearly all conversations are there.
        for _ in 0..60 {
            let changes = load.batch(2000, chat);
            load.store.commit(&changes).await?;
        }
        for &batch in sizes {
            let (mut commits, mut seconds, mut cpu) = (0, 0.0, 0);
            while seconds < SECONDS {
                // Made beforehand, so that only the commits are measured.
                let batches: Vec<_> = (0..(20_000 / batch).min(200)).map(|_| load.batch(batch, chat)).collect();
                let (start, before) = (Instant::now(), cpu_time(server)?);
                for changes in &batches {
                    load.store.commit(changes).await?;
                    commits += 1;
                }
                seconds += start.elapsed().as_secs_f64();
                cpu += cpu_time(server)? - before;
            }
            let messages = f64::from(commits) * batch as f64;
            println!(
                "{name:10}  {}  {batch:5} {:10.0} {:11.0} {:15.1}",
                if chat { "chat" } else { "tail" },
                f64::from(commits) / seconds,
                messages / seconds,
                cpu as f64 / 1000.0 / messages,
            );
        }
    }
    store.close().await;
    Ok(())
}

struct Load {
    store: Arc<dyn Store>,
    accounts: Vec<BareJid>,
    ids: Ids,
    seed: u64,
    old: Vec<TailChange>,
}

impl Load {
    fn random(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % below as u64) as usize
    }

    fn batch(&mut self, batch: usize, chat: bool) -> Vec<TailChange> {
        let mut changes = std::mem::take(&mut self.old);
        for _ in 0..batch {
            let sender = self.random(ACCOUNTS);
            let recipient = (sender + 1 + self.random(PEERS) * 37) % ACCOUNTS;
            let (Some(sender), Some(recipient)) = (self.accounts.get(sender), self.accounts.get(recipient)) else {
                continue;
            };
            if chat {
                changes.push(self.record(sender, recipient, true, true));
            }
            let record = self.record(recipient, sender, false, chat);
            if let TailChange::Append(record) = &record {
                let (account, id) = (record.entry.account.clone(), record.entry.id);
                self.old.push(TailChange::Deliver { account, id });
            }
            changes.push(record);
        }
        changes
    }

    fn record(&self, account: &BareJid, with: &BareJid, sent: bool, archived: bool) -> TailChange {
        let id = self.ids.next();
        let stanza = format!(
            "<message xmlns='jabber:client' type='chat' from='{with}/phone' to='{account}' id='c0a8f1e2-{id:x}'>\
             <body>{TEXT}</body><origin-id xmlns='urn:xmpp:sid:0' id='c0a8f1e2-{id:x}'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='{account}' id='{id}'/></message>"
        );
        TailChange::Append(Record {
            entry: TailEntry {
                account: account.clone(),
                id,
                resource: None,
                stamp: SystemTime::now(),
                stanza: stanza.into(),
            },
            waits: !sent,
            archived: archived.then(|| Archived {
                with: with.clone(),
                resource: Some("phone".into()),
                sent,
                counts: !sent,
                message_id: Some(format!("c0a8f1e2-{id:x}").into()),
            }),
            digest: Some(id.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        })
    }
}
