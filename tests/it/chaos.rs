//! Many clients, anything at any time: what was acknowledged has reached its recipient or has come back, nobody gets a
//! message twice, and the messages of one sender come in their order. What was not returned is in both archives once, though
//! senders who come back anew send again what they have no acknowledgement for. Once step by step with seeds and a clock of
//! its own, once on many threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rookery_core::server::Server;
use rookery_core::session::{Session, StreamInfo};
use rookery_core::store::{ArchiveQuery, ArchiveStore, Page, StoreError, TailStore};
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

use crate::world::{Client, World, jid};

/// Random numbers that a seed decides (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What became of a message.
#[derive(Default)]
struct Fate {
    received: usize,
    /// A resource has received it and the server knows.
    confirmed: Option<u64>,
    returned: usize,
    /// A client was taken to have died of it.
    parked: bool,
}

/// What all know of all messages: by number.
#[derive(Default)]
struct Book {
    fates: BTreeMap<u64, Fate>,
    faults: Vec<String>,
}

/// A client that sends, and is never away for long.
struct Sender {
    client: Client,
    user: &'static str,
    resource: &'static str,
    sent: u32,
    handled: AtomicU32,
    /// What the server has not acknowledged, as far as the client knows, with the numbers, and how much it has.
    unacknowledged: VecDeque<(u64, String)>,
    acknowledged: u32,
    /// All that it ever sent, and to whom.
    all: Vec<(u64, String)>,
}

/// A resource of a recipient.
struct Peer {
    user: &'static str,
    resource: &'static str,
    /// It is the user's only resource, so the order of all that it gets is certain.
    is_only: bool,
    link: Option<Link>,
}

/// A session as its client sees it.
struct Link {
    session: Arc<Session>,
    connection: u64,
    managed: bool,
    /// It has been told the id by which to resume.
    may_resume: bool,
    born: u64,
    /// Stanzas counted since stream management is on.
    handled: u32,
    /// What was received and not acknowledged.
    unconfirmed: Vec<u64>,
    seen: BTreeSet<u64>,
    last: BTreeMap<String, u64>,
    is_attached: bool,
}

/// The time in steps, and the numbers of messages, for all.
struct Counters {
    now: AtomicU64,
    number: AtomicU64,
}

impl Book {
    fn of(&mut self, number: u64) -> &mut Fate {
        self.fates.entry(number).or_default()
    }

    fn read_returned(&mut self, xml: &str) {
        for stanza in parse(xml) {
            if stanza.name() == "message" && stanza.get("type") == Some("error") {
                let number = stanza.get("id").unwrap().parse().unwrap();
                self.of(number).returned += 1;
                self.of(number).parked |= stanza.to_xml().contains("undefined-condition");
            }
        }
    }

    /// What is wrong with the messages below this number.
    fn judge(&mut self, end: u64) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.faults);
        for number in 1..end {
            self.of(number);
            faults.extend(self.check(number));
        }
        faults
    }

    fn check(&self, number: u64) -> Option<String> {
        let fate = self.fates.get(&number)?;
        match (fate.received, fate.returned) {
            (0, 0) => Some(format!("{number} is lost")),
            (_, 0 | 1) if fate.confirmed.is_none() || fate.parked => None,
            (_, 0) => None,
            (received, returned) => {
                Some(format!("{number} was received {received} times and returned {returned} times"))
            }
        }
    }
}

fn parse(xml: &str) -> Vec<Element> {
    let all: Element = format!("<all xmlns='jabber:client'>{xml}</all>").parse().unwrap();
    all.elements().cloned().collect()
}

impl Peer {
    fn new(user: &'static str, resource: &'static str, is_only: bool) -> Self {
        Self { user, resource, is_only, link: None }
    }

    async fn bind(&mut self, server: &Arc<Server>, counters: &Counters, managed: bool, priority: i8) {
        let born = counters.now.load(Ordering::SeqCst);
        let stream = StreamInfo { id: server.next_stream(), peer: [127, 0, 0, 1].into(), secured: true };
        let Ok(session) = server.bind(&jid(self.user), Some(self.resource), stream).await else { return };
        let client = Client { server: server.clone(), connection: session.connection(), session: session.clone() };
        if managed {
            client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
        }
        client.try_send(&format!("<presence><priority>{priority}</priority></presence>")).await;
        self.link = Some(Link {
            connection: client.connection,
            session,
            managed,
            may_resume: false,
            born,
            handled: 0,
            unconfirmed: Vec::new(),
            seen: BTreeSet::new(),
            last: BTreeMap::new(),
            is_attached: true,
        });
    }

    /// Reads all that waits; the bytes may be lost on the way, and then the connection is, too.
    async fn read(&mut self, server: &Arc<Server>, counters: &Counters, book: &Mutex<Book>, arrives: bool) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_attached) else { return };
        let mut buffer = Vec::new();
        let (mut is_open, mut more) = (true, true);
        while more {
            let Some(drained) = link.session.drain(link.connection, &mut buffer, 1 << 20, Instant::now()) else {
                is_open = false;
                break;
            };
            if drained.hungry {
                server.catch_up(&link.session);
            }
            is_open &= drained.close.is_none();
            more = drained.more;
        }
        if arrives {
            let xml = String::from_utf8(buffer).unwrap();
            let mut confirmed = Vec::new();
            {
                let mut book = book.lock().unwrap();
                for stanza in parse(&xml) {
                    link.receive(&stanza, self.is_only, &mut book);
                }
            }
            if is_open {
                link.session.flushed();
                if !link.managed {
                    confirmed = std::mem::take(&mut link.unconfirmed);
                }
                link.confirm(confirmed, counters, book);
            }
        }
        if !is_open || !arrives {
            server.disconnected(&link.session, link.connection, false).await;
            link.is_attached = false;
        }
    }

    fn acknowledge(&mut self, counters: &Counters, book: &Mutex<Book>) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_attached && link.may_resume) else { return };
        if link.session.connection() != link.connection {
            return;
        }
        let confirmed = std::mem::take(&mut link.unconfirmed);
        link.session.acknowledged(link.handled).unwrap();
        link.confirm(confirmed, counters, book);
    }

    async fn part(&mut self, server: &Arc<Server>, goodbye: bool) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_attached) else { return };
        server.disconnected(&link.session, link.connection, goodbye).await;
        link.is_attached = false;
    }

    /// The client looks at the end of its archive.
    async fn query(&self, world: &World) {
        let Some(link) = self.link.as_ref().filter(|link| link.is_attached && !link.session.is_closed()) else {
            return;
        };
        let page = "<set xmlns='http://jabber.org/protocol/rsm'><max>5</max><before/></set>";
        let query = format!("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'>{page}</query></iq>");
        Client::over(world, link.session.clone()).try_send(&query).await;
    }

    async fn resume(&mut self, server: &Arc<Server>, counters: &Counters, book: &Mutex<Book>) {
        let Some(link) = self.link.as_mut().filter(|link| link.may_resume) else { return };
        let answer = |h: u32| format!("<resumed xmlns='urn:xmpp:sm:3' h='{h}' previd=''/>").into();
        if let Ok(connection) = server.resume(&link.session, link.handled, answer).await {
            link.connection = connection;
            link.is_attached = true;
            let confirmed = std::mem::take(&mut link.unconfirmed);
            link.confirm(confirmed, counters, book);
        }
    }
}

impl Link {
    fn receive(&mut self, stanza: &Element, is_only: bool, book: &mut Book) {
        match stanza.name() {
            "message" | "presence" | "iq" if self.managed => self.handled += 1,
            // What came before is not counted.
            "enabled" => {
                self.may_resume = true;
                self.handled = 0;
            }
            _ => {}
        }
        if let Some(result) = stanza.find("result", ns::MAM) {
            let message = result.find("forwarded", ns::FORWARD).and_then(|inner| inner.find("message", ns::CLIENT));
            book.of(message.unwrap().get("id").unwrap().parse().unwrap()).received += 1;
        }
        let Some(body) = stanza.find("body", ns::CLIENT).map(Element::content) else { return };
        let (number, from) = (stanza.get("id").unwrap().parse().unwrap(), stanza.get("from").unwrap().to_owned());
        assert!(body.starts_with(stanza.get("id").unwrap()));
        let who = self.session.jid.as_str();
        if !self.seen.insert(number) {
            book.faults.push(format!("{number} came twice to {who}"));
        }
        if book.of(number).confirmed.is_some_and(|at| at < self.born) {
            book.faults.push(format!("{number} came to {who}, who was not there when another had confirmed it"));
        }
        let to = stanza.get("to").unwrap();
        // A resource without presence gets what is sent to it at once, and what waits for it with its presence.
        if is_only && !to.contains('/') || stanza.find("delay", ns::DELAY).is_none() {
            let last = self.last.entry(format!("{from} {to}")).or_default();
            if *last > number {
                book.faults.push(format!("{number} came from {from} to {to} at {who} after {last}"));
            }
            *last = number;
        }
        book.of(number).received += 1;
        self.unconfirmed.push(number);
    }

    fn confirm(&self, numbers: Vec<u64>, counters: &Counters, book: &Mutex<Book>) {
        let mut book = book.lock().unwrap();
        for number in numbers {
            let now = counters.now.load(Ordering::SeqCst);
            book.of(number).confirmed.get_or_insert(now);
        }
    }
}

impl Sender {
    async fn new(world: &World, user: &'static str, resource: &'static str) -> Self {
        let client = world.login_resumable(user, resource).await;
        let (handled, unacknowledged) = (AtomicU32::new(0), VecDeque::new());
        Self { client, user, resource, sent: 0, handled, unacknowledged, acknowledged: 0, all: Vec::new() }
    }

    async fn send(&mut self, number: u64, to: &str, size: usize) {
        let body = "x".repeat(size);
        let xml = format!("<message type='chat' to='{to}' id='{number:012}'><body>{number:012}{body}</body></message>");
        self.client.send(&xml).await;
        self.sent += 1;
        self.unacknowledged.push_back((number, xml));
        self.all.push((number, to.to_owned()));
    }

    /// The client hears how much is acknowledged.
    fn ask(&mut self) {
        let handled = self.client.session.handled().unwrap();
        self.unacknowledged.drain(..(handled - self.acknowledged) as usize);
        self.acknowledged = handled;
    }

    /// The client loses its connection, comes back with another session, and sends again what it has heard nothing of.
    async fn come_back(&mut self, world: &World, book: &Mutex<Book>) {
        self.read(book);
        self.client.cut().await;
        self.client = world.login_resumable(self.user, self.resource).await;
        (self.sent, self.acknowledged) = (0, 0);
        self.handled.store(0, Ordering::Relaxed);
        world.settle().await;
        self.read(book);
        let again = std::mem::take(&mut self.unacknowledged);
        for (number, xml) in again {
            if book.lock().unwrap().of(number).returned == 0 {
                self.client.send(&xml).await;
                self.sent += 1;
                self.unacknowledged.push_back((number, xml));
            }
        }
    }

    fn read(&self, book: &Mutex<Book>) {
        let xml = self.client.read();
        book.lock().unwrap().read_returned(&xml);
        let count = parse(&xml).iter().filter(|stanza| stanza.ns() == ns::CLIENT).count() as u32;
        let before = self.handled.fetch_add(count, Ordering::Relaxed);
        self.client.session.acknowledged(before + count).unwrap();
        assert!(!self.client.session.is_closed());
    }
}

const JULIET: &str = "juliet@localhost";
const NURSE: &str = "nurse@localhost";
const PARIS: &str = "paris@localhost";
const CONF: &str = "[limits]\noutbox = \"32 KiB\"\noffline_messages = 60\n[host.localhost]\n";

fn peers() -> Vec<Peer> {
    vec![
        Peer::new(JULIET, "phone", false),
        Peer::new(JULIET, "laptop", false),
        Peer::new(JULIET, "tablet", false),
        Peer::new(NURSE, "kitchen", true),
        Peer::new(PARIS, "church", true),
    ]
}

fn counters() -> Counters {
    Counters { now: AtomicU64::new(1), number: AtomicU64::new(1) }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Whom a message goes to.
fn address(dice: &mut Dice, peers: &[(&'static str, &'static str)]) -> String {
    let (user, resource) = peers[dice.below(peers.len())];
    if dice.one_in(3) { format!("{user}/{resource}") } else { user.to_owned() }
}

async fn step(
    world: &World,
    dice: &mut Dice,
    peers: &mut [Peer],
    senders: &mut [Sender],
    counters: &Counters,
    book: &Mutex<Book>,
) {
    counters.now.fetch_add(1, Ordering::SeqCst);
    let server = &world.server;
    let names: Vec<_> = peers.iter().map(|peer| (peer.user, peer.resource)).collect();
    let peer = dice.below(peers.len());
    let peer = &mut peers[peer];
    let sender = dice.below(senders.len());
    let sender = &mut senders[sender];
    match dice.below(100) {
        0..40 => {
            for _ in 0..=dice.below(4) {
                let to = address(dice, &names);
                let size = if dice.one_in(8) { dice.below(2500) } else { dice.below(50) };
                sender.send(counters.number.fetch_add(1, Ordering::SeqCst), &to, size).await;
            }
        }
        40..58 => {
            peer.read(server, counters, book, true).await;
            if !dice.one_in(3) {
                peer.acknowledge(counters, book);
            }
        }
        58..61 => peer.acknowledge(counters, book),
        61..64 => peer.read(server, counters, book, false).await,
        64..68 => peer.part(server, false).await,
        68..76 => peer.resume(server, counters, book).await,
        76..78 => peer.part(server, true).await,
        78..84 => {
            let managed = !dice.one_in(3);
            let priority = if peer.resource == "tablet" && dice.one_in(2) { -1 } else { 0 };
            peer.bind(server, counters, managed, priority).await;
        }
        84 => peer.query(world).await,
        85 => {
            if let Some(link) = peer.link.as_ref().filter(|link| link.is_attached && !link.session.is_closed()) {
                let client = Client::over(world, link.session.clone());
                let kind = if dice.one_in(2) { "<presence type='unavailable'/>" } else { "<presence/>" };
                client.try_send(kind).await;
            }
        }
        86 => world.store.fail(Some(StoreError::Full("full".to_owned()))),
        87 => world.store.fail(Some(StoreError::Unavailable("down".to_owned()))),
        88 => world.store.doubt(true),
        89 => world.store.slow(Duration::from_millis(dice.below(300) as u64)),
        90 => world.store.pause_commits(),
        91..94 => heal(world),
        94 => pass(Duration::from_secs(11)).await,
        95 => {
            if dice.one_in(8) {
                pass(Duration::from_secs(601)).await;
            }
        }
        96 => sender.come_back(world, book).await,
        97 => sender.ask(),
        _ => pass(Duration::from_millis(dice.below(40) as u64)).await,
    }
    senders.iter().for_each(|sender| sender.read(book));
}

/// The server ends and starts again. Clients may read or lose what it says at the end; sessions are to be resumed then.
async fn restart(
    world: &mut World,
    dice: &mut Dice,
    peers: &mut [Peer],
    senders: &mut [Sender],
    counters: &Counters,
    book: &Mutex<Book>,
) {
    heal(world);
    world.server.stop().await;
    for peer in peers.iter_mut() {
        if dice.one_in(2) {
            let arrives = dice.one_in(2);
            peer.read(&world.server, counters, book, arrives).await;
        }
    }
    world.server.finish().await;
    *world = world.start_again().await;
    if dice.one_in(2) {
        world.server.bring_all_back().await;
    }
    for peer in peers.iter_mut() {
        let Some(link) = &mut peer.link else { continue };
        link.is_attached = false;
        let id = link.session.resumption_id().filter(|_| link.may_resume);
        let new = match id {
            Some(id) => world.server.resumable(&jid(peer.user), &id).await.unwrap(),
            None => None,
        };
        match new {
            Some(session) => link.session = session,
            None => peer.link = None,
        }
    }
    for sender in senders {
        let (user, id) = (sender.client.session.account.jid.clone(), sender.client.id());
        let client = world.resume(user.as_str(), &id, sender.handled.load(Ordering::Relaxed)).await.unwrap();
        let handled = client.session.handled();
        if handled != Some(sender.sent) {
            book.lock().unwrap().faults.push(format!("{handled:?} instead of {} were handled", sender.sent));
        }
        sender.client = client;
        sender.ask();
    }
}

fn heal(world: &World) {
    world.store.fail(None);
    world.store.doubt(false);
    world.store.slow(Duration::ZERO);
    world.store.resume_commits();
}

/// Lets all that is on its way arrive.
async fn finish(
    world: &World,
    peers: &mut Vec<Peer>,
    senders: &[Sender],
    counters: &Counters,
    book: &Mutex<Book>,
    unit: Duration,
) {
    heal(world);
    world.server.bring_all_back().await;
    for round in 0..60 {
        counters.now.fetch_add(1, Ordering::SeqCst);
        if round == 20 {
            for peer in peers.iter_mut() {
                peer.part(&world.server, true).await;
            }
            for user in world.server.accounts.all() {
                for session in user.sessions() {
                    if session.is_detached() {
                        world.server.end_session(&session).await;
                    }
                }
            }
            *peers =
                vec![Peer::new(JULIET, "last", false), Peer::new(NURSE, "last", true), Peer::new(PARIS, "last", true)];
            for peer in peers.iter_mut() {
                peer.bind(&world.server, counters, false, 0).await;
            }
        }
        for peer in peers.iter_mut() {
            peer.read(&world.server, counters, book, true).await;
            peer.acknowledge(counters, book);
        }
        pass(unit).await;
        senders.iter().for_each(|sender| sender.read(book));
    }
}

async fn judge(world: &World, senders: &[Sender], counters: &Counters, book: &Mutex<Book>) -> Vec<String> {
    let mut faults = book.lock().unwrap().judge(counters.number.load(Ordering::SeqCst));
    for sender in senders {
        if sender.client.session.handled() != Some(sender.sent) {
            faults.push(format!("{:?} of {} have a known fate", sender.client.session.handled(), sender.sent));
        }
    }
    faults.extend(judge_archives(world, senders, book).await);
    for user in [JULIET, NURSE, PARIS] {
        let left = world.store.tail(&jid(user), 0, u64::MAX, 10).await.unwrap();
        if !left.is_empty() {
            faults.push(format!("{} messages are in the tail of {user} still", left.len()));
        }
    }
    faults
}

/// The numbers of an archive's messages, in its order.
async fn archive(world: &World, user: &str) -> Vec<u64> {
    let query = ArchiveQuery {
        with: None,
        start: None,
        end: None,
        after_id: None,
        before_id: None,
        ids: Vec::new(),
        words: None,
        page: Page::First,
        max: 1_000_000,
        count: false,
    };
    let page = world.store.archive_page(&jid(user), &query).await.unwrap().unwrap();
    let number = |xml: &[u8]| {
        let message: Element = std::str::from_utf8(xml).unwrap().parse().unwrap();
        message.get("id").unwrap().parse().unwrap()
    };
    page.messages.iter().map(|message| number(&message.stanza)).collect()
}

/// What was not returned is in both archives once, and nothing is in one twice. Paris wants no archive.
async fn judge_archives(world: &World, senders: &[Sender], book: &Mutex<Book>) -> Vec<String> {
    let mut archives: BTreeMap<&str, BTreeMap<u64, usize>> = BTreeMap::new();
    for user in ["romeo@localhost", "tybalt@localhost", JULIET, NURSE, PARIS] {
        let counts = archives.entry(user).or_default();
        for number in archive(world, user).await {
            *counts.entry(number).or_default() += 1;
        }
    }
    let (mut faults, book) = (Vec::new(), book.lock().unwrap());
    for (sender, (number, to)) in senders.iter().flat_map(|sender| sender.all.iter().map(move |sent| (sender, sent))) {
        let to = to.split('/').next().unwrap();
        let count = |user: &str| archives[user].get(number).copied().unwrap_or_default();
        let is_returned = book.fates.get(number).is_some_and(|fate| fate.returned > 0);
        let expected = if to == PARIS { 0 } else { usize::from(!is_returned) };
        if count(to) != expected {
            faults.push(format!("{number} is {} times in the archive of {to}", count(to)));
        }
        if count(sender.user) > 1 || count(sender.user) == 0 && !is_returned {
            faults.push(format!("{number} is {} times in the archive of {}", count(sender.user), sender.user));
        }
    }
    faults
}

/// Paris wants no archive.
async fn prefer(world: &World) {
    let paris = world.bind(PARIS, "prefs").await;
    paris.send("<iq type='set' id='p'><prefs xmlns='urn:xmpp:mam:2' default='never'/></iq>").await;
    world.settle().await;
    let told = paris.read();
    assert!(told.contains("type='result'"), "{told}");
    paris.leave().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_nothing_acknowledged_is_lost_or_doubled_or_out_of_order() {
    // For a long run, or to see one seed again.
    let seeds = std::env::var("CHAOS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    let first = std::env::var("CHAOS_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(1);
    for seed in first..first + seeds {
        // Every other seed has a server that ends and starts again.
        let restarts = seed % 2 == 0;
        let mut world = World::with_conf(CONF, &["romeo@localhost", "tybalt@localhost", JULIET, NURSE, PARIS]).await;
        prefer(&world).await;
        let mut senders =
            [Sender::new(&world, "romeo@localhost", "a").await, Sender::new(&world, "tybalt@localhost", "b").await];
        let (mut dice, mut peers, counters, book) = (Dice::new(seed), peers(), counters(), Mutex::default());
        for _ in 0..600 {
            step(&world, &mut dice, &mut peers, &mut senders, &counters, &book).await;
            if restarts && dice.one_in(50) {
                restart(&mut world, &mut dice, &mut peers, &mut senders, &counters, &book).await;
            }
        }
        finish(&world, &mut peers, &senders, &counters, &book, Duration::from_secs(1)).await;
        let faults = judge(&world, &senders, &counters, &book).await;
        assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_lose_nothing_and_do_not_wait_for_each_other_for_ever() {
    let world = Arc::new(World::with_conf(CONF, &["romeo@localhost", "tybalt@localhost", JULIET, NURSE, PARIS]).await);
    prefer(&world).await;
    let (counters, book, stop) =
        (Arc::new(counters()), Arc::new(Mutex::<Book>::default()), Arc::new(AtomicBool::new(false)));
    let names: Vec<_> = peers().iter().map(|peer| (peer.user, peer.resource)).collect();
    let mut sending = Vec::new();
    for (seed, user) in
        ["romeo@localhost", "tybalt@localhost", "romeo@localhost", "tybalt@localhost"].into_iter().enumerate()
    {
        let mut sender = Sender::new(&world, user, ["a", "b", "c", "d"][seed]).await;
        let (counters, book, stop, names) = (counters.clone(), book.clone(), stop.clone(), names.clone());
        sending.push(tokio::spawn(async move {
            let mut dice = Dice::new(seed as u64 + 1);
            while !stop.load(Ordering::Relaxed) {
                let size = if dice.one_in(8) { dice.below(2500) } else { dice.below(50) };
                let number = counters.number.fetch_add(1, Ordering::SeqCst);
                sender.send(number, &address(&mut dice, &names), size).await;
                sender.read(&book);
                if dice.one_in(4) {
                    pass(Duration::from_millis(1)).await;
                } else {
                    tokio::task::yield_now().await;
                }
            }
            sender
        }));
    }
    let mut reading = Vec::new();
    for (seed, mut peer) in peers().into_iter().enumerate() {
        let (world, counters, book, stop) = (world.clone(), counters.clone(), book.clone(), stop.clone());
        reading.push(tokio::spawn(async move {
            let mut dice = Dice::new(seed as u64 + 100);
            let server = &world.server;
            while !stop.load(Ordering::Relaxed) {
                counters.now.fetch_add(1, Ordering::SeqCst);
                match dice.below(60) {
                    0..40 => {
                        peer.read(server, &counters, &book, true).await;
                        peer.acknowledge(&counters, &book);
                    }
                    40..43 => peer.read(server, &counters, &book, false).await,
                    43 => peer.part(server, false).await,
                    44..50 => peer.resume(server, &counters, &book).await,
                    50 => peer.part(server, true).await,
                    51..53 => {
                        let managed = dice.one_in(2);
                        peer.bind(server, &counters, managed, 0).await;
                    }
                    53 => world.store.fail(Some(StoreError::Full("full".to_owned()))),
                    54 => world.store.doubt(true),
                    55..58 => heal(&world),
                    _ => pass(Duration::from_millis(dice.below(3) as u64)).await,
                }
                tokio::task::yield_now().await;
            }
            peer
        }));
    }
    pass(Duration::from_millis(2500)).await;
    stop.store(true, Ordering::Relaxed);
    let end = async {
        let (mut senders, mut peers) = (Vec::new(), Vec::new());
        for task in sending {
            senders.push(task.await.unwrap());
        }
        for task in reading {
            peers.push(task.await.unwrap());
        }
        finish(&world, &mut peers, &senders, &counters, &book, Duration::from_millis(20)).await;
        judge(&world, &senders, &counters, &book).await
    };
    let faults = tokio::time::timeout(Duration::from_secs(30), end).await.expect("nobody waits for ever");
    assert!(faults.is_empty(), "{} messages: {faults:#?}", counters.number.load(Ordering::SeqCst));
}
