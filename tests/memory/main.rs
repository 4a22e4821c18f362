//! What an idle session holds on the heap, counted by type: a server in this process, clients that log in over the loopback net and
//! fall silent, and each block that is there for it, by the stack that has asked for it. `interop/bench/memory.md` says what was
//! counted last, and this test that it still holds. In the kernel's sockets there is more; what the allocator adds is not
//! in it, either.
//!
//! `ROOKERY_UPDATE=1 cargo test --test memory` writes the table anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use rookery::Ready;
use rookery_core::config::{Conf, TlsMode};
use rookery_core::store::{AccountStore, Store};
use rookery_rigs::client::{Connection, Target, Transport};
use rookery_rigs::xml;
use rookery_store::MemoryStore;
use rookery_store::testing::TempDir;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::sasl::Credentials;
use tokio::sync::{mpsc, oneshot};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const CONF: &str = "
[host.localhost]
[server]
data = 'FOLDER/data'
certs = 'FOLDER/certs'
[limits]
exempt = ['127.0.0.0/8']
[[listen]]
address = '127.0.0.1:0'
tls = 'plain'
allow_plain_passwords = true
[[listen]]
address = '127.0.0.1:0'
tls = 'direct'
";

/// What a block is, by the first of these that a frame of its stack holds, beginning with the innermost.
const TYPES: [(&str, &str); 18] = [
    ("tokio::runtime::task::core::Cell<", "The connection's task: its driver, and where it waits"),
    ("RegistrationSet::allocate", "The runtime's account of the socket"),
    ("new<tokio::time::sleep::Sleep>", "The connection's timer"),
    ("new<rookery_xmpp::stream::Stream>", "The stream"),
    ("rookery_xmpp::name::Namespace", "… the namespaces that its header declares"),
    ("ArcInner<rookery_core::session::Session>", "The session"),
    ("session::outbox::", "… its outbox, empty"),
    ("ArcInner<rookery_xmpp::stanza::Stanza>", "… its presence, as others are sent it"),
    ("ArcInner<rookery_xmpp::stanza::body::Raw>", "… what is inside that, with an index"),
    ("rookery_xmpp::framer::", "… the bytes of that"),
    ("core::session::Session::new", "… what it counts requests by"),
    ("rookery_xmpp::jid::", "Addresses"),
    ("ArcInner<rookery_core::account::Account>", "The account"),
    ("ArcInner<rookery_core::roster::Roster>", "… its roster, empty"),
    ("rookery_core::account::", "… its place among accounts, and the sessions' in it"),
    ("rookery_net::rate::", "What it has sent lately, for its rate"),
    ("new<rookery_net::tls_session::TlsSession>", "TLS: ours"),
    ("rustls::", "TLS: rustls's"),
];

/// The last line.
const ELSE: &str = "All else";

/// A column: how its sessions connect, of how many accounts they are, and how many each has.
const COLUMNS: [(&str, Transport, usize, usize); 3] = [
    ("plain", Transport::Plain, 24, 10),
    ("TLS 1.3", Transport::Direct, 24, 10),
    ("plain, one to an account", Transport::Plain, 240, 1),
];

/// Blocks and bytes of a session, by type.
type Held = Vec<(f64, f64)>;

/// A server, and where it listens.
struct Served {
    listeners: Ready,
    stop: oneshot::Sender<()>,
    _reloads: mpsc::Sender<Conf>,
    task: tokio::task::JoinHandle<Result<(), rookery::StartError>>,
}

impl Served {
    async fn start(folder: &TempDir, accounts: impl Iterator<Item = String>) -> Self {
        let store = Arc::new(MemoryStore::new());
        let credentials = Credentials::from_password("secret", 4096).unwrap();
        for account in accounts {
            let jid = BareJid::new(&format!("{account}@localhost")).unwrap();
            assert!(store.create_account(&jid, &credentials).await.unwrap());
        }
        let conf = CONF.replace("FOLDER", folder.path().to_str().unwrap());
        let conf = Conf::parse(&conf, "test.toml").unwrap();
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (_reloads, reloads) = mpsc::channel(1);
        let on_ready = move |begun: &Ready| drop(ready.send(begun.clone()));
        let stopped = async move { drop(stopped.await) };
        let store = async move { Ok(store as Arc<dyn Store>) };
        let task = tokio::spawn(rookery::serve_from(store, conf, on_ready, reloads, stopped));
        Self { listeners: is_ready.await.unwrap(), stop, _reloads, task }
    }

    fn target(&self, transport: Transport) -> Target {
        let tls = if transport == Transport::Plain { TlsMode::Plain } else { TlsMode::Direct };
        let address = self.listeners.listeners.iter().find(|(listener, _)| listener.tls == tls).unwrap().1;
        Target {
            address,
            transport,
            domain: "localhost".into(),
            source: None,
            mechanism: None,
            receive_buffer: None,
            bare: false,
        }
    }
}

/// Logs in, is available, and has the answer to all that it said.
async fn session(target: &Target, user: &str, resource: usize) -> Connection {
    let mut connection = Connection::log_in(target, user, "secret").await.unwrap();
    connection.bind(Some(&format!("r{resource}"))).await.unwrap();
    connection.queue(b"<presence/><iq type='get' id='ping' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    loop {
        let token = connection.element().await.unwrap();
        if xml::name(connection.bytes(token)) == b"iq" {
            return connection;
        }
    }
}

/// What each of a number of sessions holds, when others are there already.
async fn held((_, transport, accounts, resources): (&str, Transport, usize, usize)) -> Held {
    let folder = TempDir::new().unwrap();
    let names = (0..accounts).map(|number| format!("u{number}"));
    let server = Served::start(&folder, names.chain(["warm".into()])).await;
    let target = server.target(transport);
    let mut sessions = Vec::new();
    for resource in 0..10 {
        sessions.push(session(&target, "warm", resource).await);
    }
    let file = folder.path().join("heap.json");
    let profiler = dhat::Profiler::builder().file_name(&file).trim_backtraces(None).build();
    for account in 0..accounts {
        for resource in 0..resources {
            sessions.push(session(&target, &format!("u{account}"), resource).await);
        }
    }
    drop(profiler);
    drop(sessions);
    drop(server.stop);
    server.task.await.unwrap().unwrap();
    by_type(&fs::read_to_string(file).unwrap(), (accounts * resources) as f64)
}

/// Reads what dhat has written: each point of the program with what it holds in the end, and its stack.
fn by_type(heap: &str, sessions: f64) -> Held {
    let heap: serde_json::Value = serde_json::from_str(heap).unwrap();
    let frames: Vec<&str> = heap["ftbl"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap()).collect();
    let mut held = vec![(0.0, 0.0); TYPES.len() + 1];
    for point in heap["pps"].as_array().unwrap() {
        let stack = point["fs"].as_array().unwrap().iter();
        let stack: Vec<&str> = stack.map(|frame| frames[frame.as_u64().unwrap() as usize]).collect();
        // What clients hold.
        let ours = |frame: &&str| frame.contains("rookery_rigs::") || frame.contains("(interop/rigs/");
        if stack.iter().any(ours) {
            continue;
        }
        let known = |frame: &&str| TYPES.iter().position(|(part, _)| frame.contains(part));
        let place = stack.iter().find_map(known).unwrap_or(TYPES.len());
        held[place].0 += point["ebk"].as_f64().unwrap() / sessions;
        held[place].1 += point["eb"].as_f64().unwrap() / sessions;
    }
    held
}

const HEADING: &str = "# What an idle session holds

By type, in bytes and blocks of the heap; counted by `cargo test --test memory`, which fails when a figure here is not true any more.
Each session is available and silent, a moment after its login. Ten belong to an account, where nothing else is said: what the
account holds is shared by them. The task's future is that of an unoptimised build, where it can be a little larger. The figures
of the process as a whole, with the allocator's share and the kernel's pages, are `rigs bench idle`'s.
";

fn table(columns: &[Held]) -> String {
    let mut table = format!("{HEADING}\n|");
    COLUMNS.iter().for_each(|(name, ..)| write!(table, " | {name}").unwrap());
    table.push_str(" |\n|---|");
    table.push_str(&"---|".repeat(COLUMNS.len()));
    let cell = |(blocks, bytes): (f64, f64)| match bytes.round() as u64 {
        0 => "–".to_owned(),
        bytes => format!("{bytes} in {blocks:.1}"),
    };
    let names = TYPES.iter().map(|(_, name)| *name).chain([ELSE]);
    for (row, name) in names.enumerate() {
        write!(table, "\n| {name} |").unwrap();
        columns.iter().for_each(|column| write!(table, " {} |", cell(column[row])).unwrap());
    }
    let sum = |column: &Held| column.iter().fold((0.0, 0.0), |all, row| (all.0 + row.0, all.1 + row.1));
    table.push_str("\n| **All** |");
    columns.iter().for_each(|column| write!(table, " {} |", cell(sum(column))).unwrap());
    table.push('\n');
    table
}

/// The bytes of each cell of a table, and the name of its row.
fn cells(table: &str) -> Vec<(&str, f64)> {
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.flat_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap_or_default();
        cells.map(move |cell| (name, cell.split(' ').next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0)))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_holds_what_the_table_says() {
    let mut columns = Vec::new();
    for column in COLUMNS {
        columns.push(held(column).await);
    }
    let counted = table(&columns);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/bench/memory.md");
    if std::env::var_os("ROOKERY_UPDATE").is_some() {
        fs::write(path, counted).unwrap();
        return;
    }
    let kept = fs::read_to_string(path).unwrap();
    let hint = format!("{path} is not true any more: ROOKERY_UPDATE=1 cargo test --test memory\n{counted}");
    let (kept, now) = (cells(&kept), cells(&counted));
    assert_eq!(kept.len(), now.len(), "{hint}");
    for ((name, said), (row, found)) in kept.into_iter().zip(now) {
        assert_eq!(name, row, "{hint}");
        // Tables of hashes grow where chance has it.
        assert!((said - found).abs() <= f64::max(said * 0.03, 24.0), "{name}: {said}, and now {found}. {hint}");
    }
}
