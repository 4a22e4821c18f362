//! What commits of the tails cost, by batch size: `cargo run --release -p rookery-store --features testing --example commits`.
//!
//! One writer, as in the server. A batch puts its entries in the tails of a thousand accounts; in the second half of the
//! table it also removes those of the batch before, as when messages are delivered. CPU is that of this process (with
//! SQLite in it) and, for PostgreSQL, of the server's processes.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rookery_core::store::{Record, Store, TailChange, TailEntry};
use rookery_store::testing::{Fsync, PostgresServer, TempDir, postgres_wanted};
use rookery_store::{Backend, Durability, StoreConf, open};
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::Credentials;

type Failed = Box<dyn Error>;

const ACCOUNTS: usize = 1000;
const SECONDS: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<(), Failed> {
    println!("database    batch  removes  commits/s  appends/s  CPU us/append");
    let directory = TempDir::new()?;
    let path = directory.path().join("bench.db");
    measure("SQLite", Backend::Sqlite { path }, None).await?;
    if postgres_wanted() {
        let server = PostgresServer::start(Fsync::On)?;
        let url = server.create_database()?;
        let connections = 4;
        let backend = Backend::Postgres { url, connections };
        measure("PostgreSQL", backend, Some(&server)).await?;
    }
    Ok(())
}

async fn measure(name: &str, backend: Backend, server: Option<&PostgresServer>) -> Result<(), Failed> {
    let durability = Durability::Full;
    let store = open(&StoreConf { backend, durability }).await?;
    let keys = Credentials::from_password("bench", 10_000)?;
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let account = BareJid::new(&format!("user{number}@bench.example"))?;
        store.create_account(&account, &keys).await?;
        accounts.push(account);
    }
    let mut load = Load { store: Arc::clone(&store), accounts, next: 1, old: Vec::new() };
    for removes in [false, true] {
        for batch in [1, 10, 100, 1000] {
            load.commit(batch, removes).await?;
            let cpu = cpu_ticks(server)?;
            let start = Instant::now();
            let mut commits: u64 = 0;
            while start.elapsed() < SECONDS {
                load.commit(batch, removes).await?;
                commits += 1;
            }
            let seconds = start.elapsed().as_secs_f64();
            let ticks = cpu_ticks(server)? - cpu;
            let appends = commits as f64 * batch as f64;
            println!(
                "{name:10} {batch:6}  {removes:7} {:10.0} {:10.0} {:14.1}",
                commits as f64 / seconds,
                appends / seconds,
                ticks as f64 * 10_000.0 / appends,
            );
        }
    }
    store.close().await;
    Ok(())
}

struct Load {
    store: Arc<dyn Store>,
    accounts: Vec<BareJid>,
    next: u64,
    old: Vec<TailChange>,
}

impl Load {
    async fn commit(&mut self, batch: usize, removes: bool) -> Result<(), Failed> {
        let mut changes = if removes { std::mem::take(&mut self.old) } else { Vec::new() };
        // Strides through the accounts, so that neighbours in a batch are not neighbours in the table.
        for account in self.accounts.iter().cycle().skip(self.next as usize * 37 % ACCOUNTS) {
            if self.old.len() == batch {
                break;
            }
            let id = self.next;
            self.next += 1;
            let entry = TailEntry {
                account: account.clone(),
                id,
                resource: None,
                stamp: SystemTime::now(),
                stanza: vec![b'x'; 400].into(),
            };
            changes.push(TailChange::Append(Record { entry, waits: true, archived: None, digest: None }));
            let account = account.clone();
            self.old.push(TailChange::Deliver { account, id });
        }
        if !removes {
            self.old.clear();
        }
        self.store.commit(&changes).await?;
        Ok(())
    }
}

/// CPU time used so far, in hundredths of a second.
fn cpu_ticks(server: Option<&PostgresServer>) -> Result<u64, Failed> {
    let mut processes = vec![std::process::id()];
    if let Some(server) = server {
        processes.extend(server.processes()?);
    }
    let mut ticks = 0;
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything; user and system time are the 12th and 13th field behind it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let times = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        ticks += times.sum::<u64>();
    }
    Ok(ticks)
}
