//! What one peer may take from the server, tried over true sockets: bytes, guesses, time; and what a bug may take along.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::world::*;
use rookery_core::module::{Entry, Fault, Flow, Hooks, Module, SessionEvent, Setup, Xep};
use rookery_core::session::Session;
use rookery_core::store::AccountStore;
use rookery_store::MemoryStore;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::sasl::Credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

const PING: &str = "<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>";
const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

// ---- bytes -----------------------------------------------------------------------------------------------------------

/// How long it takes until a client that sends so much (it may be nothing) is heard again. What is read in one piece
/// is dealt with before its price is paid, so it takes a second piece to see.
async fn heard_after(talk: &mut Talk, bytes: usize) -> Duration {
    let start = Instant::now();
    talk.say(&" ".repeat(bytes)).await;
    for _ in 0..2 {
        talk.say(PING).await;
        talk.hear("id='p'").await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_connections_of_an_account_are_read_at_its_rate_together() {
    let conf = "[limits]\naccount_rate = '10 KiB'\naccount_burst = '40 KiB'\n";
    let world = World::with_conf("account-rate", conf).await;
    let mut first = world.login("romeo", "orchard").await;
    let mut second = world.login("romeo", "garden").await;
    let mut juliet = world.login("juliet", "balcony").await;
    assert!(heard_after(&mut first, 30 * 1024).await < Duration::from_millis(100), "a burst");
    assert!(heard_after(&mut second, 50 * 1024).await >= Duration::from_secs(3), "the same account's");
    assert!(heard_after(&mut juliet, 30 * 1024).await < Duration::from_millis(100), "another's");
    assert!(world.clients.counters().paused.load(Ordering::Relaxed) > 0);
}

#[tokio::test(start_paused = true)]
async fn the_connections_of_an_address_are_read_at_its_rate_together_unless_it_is_exempt() {
    let conf = "[limits]\naddress_rate = '10 KiB'\naddress_burst = '40 KiB'\n";
    let world = World::with_conf("address-rate", &format!("{conf}exempt = []\n")).await;
    let mut romeo = world.login("romeo", "orchard").await;
    let mut juliet = world.login("juliet", "balcony").await;
    assert!(heard_after(&mut romeo, 30 * 1024).await < Duration::from_millis(100), "a burst");
    assert!(heard_after(&mut juliet, 50 * 1024).await >= Duration::from_secs(3), "from the same address");

    let exempt = World::with_conf("address-exempt", conf).await;
    let mut romeo = exempt.login("romeo", "orchard").await;
    assert!(heard_after(&mut romeo, 200 * 1024).await < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn b14_who_does_not_acknowledge_is_cut_off_and_who_is_read_slowly_is_not_taken_for_that() {
    let conf = "[limits]\nconnection_rate = '10 KiB'\nconnection_burst = '40 KiB'\n";
    let world = World::with_conf("read-slowly", conf).await;
    let mut juliet = world.login("juliet", "balcony").await;
    juliet.say(&format!("{ENABLE}<presence/>")).await;
    juliet.hear("<presence").await;
    let mut romeo = world.login("romeo", "orchard").await;
    romeo.say("<message to='juliet@chat.example' type='chat'><body>hi</body></message>").await;
    juliet.hear("<r ").await;
    let start = Instant::now();
    juliet.say(&(" ".repeat(2 << 20) + PING)).await;
    juliet.hear("id='p'").await;
    assert!(start.elapsed() > Duration::from_secs(150));
    // What she was asked for is a while old by now, and she has not been slow.
    tokio::time::sleep(Duration::from_secs(20)).await;
    for late in ["", "<a xmlns='urn:xmpp:sm:3' h='2'/>"] {
        juliet.say(&(late.to_owned() + PING)).await;
        juliet.hear("id='p'").await;
    }

    // One who is heard, and does not acknowledge, is another matter.
    romeo.say("<message to='juliet@chat.example' type='chat'><body>ho</body></message>").await;
    juliet.hear("<r ").await;
    let start = Instant::now();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        juliet.say(PING).await;
        juliet.hear("id='p'").await;
    }
    let end = tokio::time::timeout(Duration::from_secs(100), juliet.hear_out()).await;
    assert!(end.is_ok(), "she is still there after {:?}", start.elapsed());
}

// ---- guesses ---------------------------------------------------------------------------------------------------------

/// A client on the plain port, from an address of this machine.
async fn from_address(world: &World, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_nodelay(true).expect("set");
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).expect("bound");
    let mut tcp = socket.connect(world.plain).await.expect("connected");
    tcp.write_all(STREAM.as_bytes()).await.expect("written");
    hear(&mut tcp, "</stream:features>").await;
    tcp
}

async fn hear(tcp: &mut TcpStream, until: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(until) {
        let mut buffer = [0; 4096];
        let count = tcp.read(&mut buffer).await.expect("read");
        assert!(count > 0, "the end came before {until}: {heard}");
        heard += std::str::from_utf8(&buffer[..count]).expect("text");
    }
    heard
}

/// The answer to an attempt, and the seconds it took.
async fn attempt(tcp: &mut TcpStream, user: &str, password: &str) -> (String, u64) {
    let start = Instant::now();
    tcp.write_all(plain(user, password).as_bytes()).await.expect("written");
    let answer = hear(tcp, ">").await;
    let answer = if answer.starts_with("<failure") && !answer.contains("</failure>") {
        answer + &hear(tcp, "</failure>").await
    } else {
        answer
    };
    (answer, start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a5_guessing_gets_slower_for_known_and_unknown_accounts_and_locks_nobody_out() {
    let conf = "[limits]\nexempt = []\naccount_failed_auths = 3\nfailed_auths = 100\nauthentication = '600 seconds'\n";
    let world = World::with_conf("guessing", conf).await;
    for user in ["nobody", "romeo"] {
        let mut tcp = from_address(&world, 1).await;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let (answer, wait) = attempt(&mut tcp, user, "guess").await;
            assert!(answer.contains("not-authorized"), "{answer}");
            waits.push(wait);
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 15, 15], "{user}");
    }
    // A new connection changes nothing, another address does, and so does another account.
    let mut elsewhere = from_address(&world, 2).await;
    assert_eq!(attempt(&mut elsewhere, "romeo", "guess").await.1, 0);
    let mut other = from_address(&world, 1).await;
    let (answer, wait) = attempt(&mut other, "juliet", "secret").await;
    assert!(answer.contains("<success") && wait == 0, "{answer} {wait}");
    let mut again = from_address(&world, 1).await;
    let (answer, wait) = attempt(&mut again, "romeo", "secret").await;
    assert!(answer.contains("<success") && wait == 15, "{answer} {wait}");
    let mut afterwards = from_address(&world, 1).await;
    assert_eq!(attempt(&mut afterwards, "romeo", "guess").await.1, 0, "a success forgives");
    let counters = world.clients.counters();
    assert_eq!(counters.auth_failed.load(Ordering::Relaxed), 20);
    assert_eq!(counters.auth_delayed.load(Ordering::Relaxed), 13);
}

#[tokio::test(start_paused = true)]
async fn many_guesses_at_once_wait_in_a_line_that_is_short() {
    let conf = "[limits]\nexempt = []\naccount_failed_auths = 1\nconnections_burst = 1000\n";
    let world = World::with_conf("at-once", conf).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(from_address(&world, 1).await);
    }
    let mut tasks = Vec::new();
    for mut tcp in connections {
        tasks.push(tokio::spawn(async move { attempt(&mut tcp, "romeo", "guess").await }));
    }
    let (mut judged, mut refused) = (0, 0);
    for task in tasks {
        let (answer, wait) = task.await.expect("answered");
        assert!(wait <= 15, "{wait}");
        match answer.contains("temporary-auth-failure") {
            true => refused += 1,
            false => judged += 1,
        }
    }
    assert_eq!((judged, refused), (5, 15));
    assert_eq!(world.clients.counters().auth_refused.load(Ordering::Relaxed), 15);
}

// ---- time ------------------------------------------------------------------------------------------------------------

/// Says `first`, then `again` once in `every` for as long as it is let; when the end comes, in seconds.
async fn ended_after(address: SocketAddr, first: &str, again: &'static str, every: Duration) -> u64 {
    let start = Instant::now();
    let tcp = TcpStream::connect(address).await.expect("connected");
    tcp.set_nodelay(true).expect("set");
    let (mut from, mut to) = tcp.into_split();
    to.write_all(first.as_bytes()).await.expect("written");
    let trickle = tokio::spawn(async move {
        for byte in again.bytes().cycle() {
            tokio::time::sleep(every).await;
            if to.write_all(&[byte]).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let mut all = Vec::new();
    // What is still on its way when the server closes may make it a reset.
    let _ = from.read_to_end(&mut all).await;
    trickle.abort();
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn b14_every_deadline_holds_whatever_trickles_in() {
    let conf = "[limits]\ntls_handshake = '7 seconds'\nstream_header = '5 seconds'\nauthentication = '20 seconds'\n";
    let world = World::with_conf("deadlines", conf).await;
    let starttls = format!("{STREAM}<starttls xmlns='{}'/>", ns::TLS);
    let half_auth = format!("{STREAM}<auth xmlns='{}' mechanism='PLAIN'>", ns::SASL);
    let logged_in = format!("{STREAM}{}", plain("romeo", "secret"));
    let second = Duration::from_secs(1);
    for (what, address, first, again, expected) in [
        ("silence", world.starttls, "", "", 5..=5),
        ("silence where TLS is due", world.direct, "", "", 7..=7),
        ("half a header", world.plain, "<stream:stream xmlns='", "x", 5..=6),
        ("whitespace for a header", world.plain, "", " ", 5..=6),
        ("half a ClientHello", world.direct, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", "\u{3}", 7..=8),
        ("silence after <proceed/>", world.starttls, starttls.as_str(), "", 7..=7),
        ("silence after the features", world.plain, STREAM, "", 20..=20),
        ("whitespace after the features", world.plain, STREAM, " ", 20..=21),
        ("half an <auth/>", world.plain, half_auth.as_str(), "A", 20..=21),
        ("no header after <success/>", world.plain, logged_in.as_str(), "", 5..=5),
    ] {
        let ended = ended_after(address, first, again, second).await;
        assert!(expected.contains(&ended), "{what}: {ended}");
    }
    // Authenticated, but no resource: the time is absolute there as well.
    let mut tcp = from_address(&world, 1).await;
    let start = Instant::now();
    assert!(attempt(&mut tcp, "romeo", "secret").await.0.contains("<success"));
    tcp.write_all(STREAM.as_bytes()).await.expect("written");
    let heard = hear(&mut tcp, "</stream:stream>").await;
    assert!(heard.contains("connection-timeout") && start.elapsed().as_secs() == 20, "{heard} {:?}", start.elapsed());
    assert_eq!(world.admission.unauthenticated(), 0);
}

#[tokio::test(start_paused = true)]
async fn b3_a_stanza_that_trickles_in_is_cut_off_at_the_limit() {
    let world = World::with_conf("trickle", "[limits]\nstanza = '20 KiB'\n").await;
    let mut romeo = world.login("romeo", "orchard").await;
    romeo.say("<message to='juliet@chat.example'><body>").await;
    let mut sent = 0;
    let last = loop {
        romeo.say(&"x".repeat(512)).await;
        sent += 512;
        assert!(sent <= 20 * 1024 + 512, "{sent}");
        if let Ok(heard) = tokio::time::timeout(Duration::from_secs(1), romeo.client.hear(1)).await {
            romeo.heard += std::str::from_utf8(&heard.expect("heard")).expect("text");
            break romeo.hear_out().await;
        }
    };
    assert!(last.contains("policy-violation") && last.contains("stanza-too-big"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn b14_a_client_that_never_reads_is_detached_and_loses_nothing() {
    let world =
        World::with_conf("deaf", "[limits]\nconnection_rate = '1 GiB'\nconnection_burst = '1 GiB'\naccount_rate = '1 GiB'\naccount_burst = '1 GiB'\n")
            .await;
    let mut romeo = world.login("romeo", "orchard").await;
    let mut deaf = world.login("juliet", "balcony").await;
    deaf.say(&format!("<presence/>{ENABLE}")).await;
    let enabled = deaf.hear("<enabled").await + &deaf.hear(">").await;
    let id = enabled.split(" id='").last().and_then(|rest| rest.split('\'').next()).expect("an id").to_owned();
    let session = session(&world, "juliet@chat.example", "balcony");
    let body = "x".repeat(100_000);
    for n in 0..50 {
        romeo.say(&format!("<message to='juliet@chat.example' type='chat'><body>{n}:{body}</body></message>")).await;
    }
    assert!(heard_after(&mut romeo, 0).await < Duration::from_secs(1), "the sender is not held up");
    let start = Instant::now();
    while !session.is_detached() {
        assert!(start.elapsed() < Duration::from_secs(130), "still there");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!session.is_closed());
    let mut again = world.connect().await;
    again.authenticate("juliet").await;
    again.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    again.hear("<resumed").await;
    for n in 0..50 {
        let message = again.hear("</message>").await;
        assert!(message.contains(&format!("<body>{n}:xxx")), "{n}");
        again.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", n + 1)).await;
    }
}

fn session(world: &World, user: &str, resource: &str) -> Arc<Session> {
    world.server.accounts.loaded(user).expect("loaded").session(resource).expect("bound")
}

// ---- bugs ------------------------------------------------------------------------------------------------------------

/// A module with bugs.
struct Buggy;

impl Module for Buggy {
    const NAME: &'static str = "buggy";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new(_: (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<Self>) {
        on.nonza("urn:example:bug", "bug", |_, _, _, _| panic!("a bug that this test is about"));
        on.session(SessionEvent::Closed, |_, _, session| match session.jid.resourcepart() {
            Some("cursed") => panic!("another one"),
            _ => Flow::Next,
        });
    }
}

#[tokio::test]
async fn b10_a_panic_ends_one_connection_and_its_session_lives_by_the_rules() {
    let store = Arc::new(MemoryStore::new());
    let keys = Credentials::from_password("secret", 4096).expect("keys");
    for user in ["romeo@chat.example", "juliet@chat.example"] {
        assert!(store.create_account(&BareJid::new(user).expect("a JID"), &keys).await.expect("stored"));
    }
    let modules: Vec<Entry> = rookery_modules::ALL.iter().copied().chain([Entry::of::<Buggy>()]).collect();
    let world = World::over("buggy", "", store, &modules).await;
    let mut juliet = world.login("juliet", "balcony").await;
    let mut plain = world.login("romeo", "orchard").await;
    let mut cursed = world.login("romeo", "cursed").await;
    let mut resumable = world.login("romeo", "garden").await;
    resumable.say(ENABLE).await;
    resumable.hear("<enabled").await;
    let sessions = ["orchard", "cursed", "garden"].map(|resource| session(&world, "romeo@chat.example", resource));
    for talk in [&mut plain, &mut cursed, &mut resumable] {
        talk.say("<bug xmlns='urn:example:bug'/>").await;
        talk.hear_out().await;
    }
    while !(sessions[0].is_closed() && sessions[1].is_closed() && sessions[2].is_detached()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.server.accounts.loaded("romeo@chat.example").expect("loaded").sessions().len(), 1);
    assert_eq!(world.server.panics.total(), 4);
    juliet.say(PING).await;
    juliet.hear("id='p'").await;
}

// ---- the end ---------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn t11_the_end_takes_a_moment_whoever_does_not_answer_and_loses_nothing() {
    let conf = "[limits]\nexempt = []\naccount_failed_auths = 1\n";
    let mut world = World::with_conf("end", conf).await;
    let mut romeo = world.login("romeo", "orchard").await;
    let mut idle = world.login("romeo", "idle").await;
    let mut juliet = world.login("juliet", "balcony").await;
    juliet.say(&format!("<presence/>{ENABLE}")).await;
    juliet.hear("<enabled").await;
    // Sent to her, and never acknowledged.
    romeo.say("<message to='juliet@chat.example' type='chat'><body>Wherefore?</body></message>").await;
    juliet.hear("Wherefore?").await;
    // Others at every stage, who will not answer.
    let silent = TcpStream::connect(world.direct).await.expect("connected");
    let mut in_handshake = TcpStream::connect(world.starttls).await.expect("connected");
    in_handshake.write_all(format!("{STREAM}<starttls xmlns='{}'/>", ns::TLS).as_bytes()).await.expect("written");
    hear(&mut in_handshake, "<proceed").await;
    let mut guessing = from_address(&world, 1).await;
    attempt(&mut guessing, "romeo", "guess").await;
    guessing.write_all(plain("romeo", "guess").as_bytes()).await.expect("written");
    while world.clients.counters().auth_delayed.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }

    let start = Instant::now();
    world.stop.take().expect("once").send(()).expect("running");
    (&mut world.task).await.expect("ended");
    world.server.finish().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for talk in [&mut romeo, &mut idle] {
        assert!(talk.hear_out().await.contains("system-shutdown"));
    }
    // Her session goes on, so her stream is left unfinished.
    assert!(!juliet.hear_out().await.contains("</stream:stream>"));
    drop((silent, in_handshake, guessing));

    let world = World::over("after-the-end", conf, world.store.clone(), rookery_modules::ALL).await;
    let mut juliet = world.login("juliet", "balcony").await;
    juliet.say("<presence/>").await;
    let message = juliet.hear("</message>").await;
    assert!(message.contains("Wherefore?"), "{message}");
}

// ---- registration ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn registration_is_offered_only_where_a_module_takes_it_and_refused_elsewhere() {
    const ASK: &str = "<iq id='r' type='get'><query xmlns='jabber:iq:register'/></iq>";
    let without = World::with_conf("no-register", "[modules.register]\nenabled = false\n").await;
    let mut talk = without.connect().await;
    talk.say(STREAM).await;
    let features = talk.hear("</stream:features>").await;
    assert!(!features.contains("register"), "{features}");
    talk.say(ASK).await;
    let answer = talk.hear("</iq>").await;
    assert!(answer.contains("id='r'") && answer.contains("<service-unavailable"), "{answer}");

    let with = World::with_conf("register", "[modules.register]\nregistration = true\n").await;
    let mut talk = with.connect().await;
    talk.say(STREAM).await;
    assert!(talk.hear("</stream:features>").await.contains("http://jabber.org/features/iq-register"));
    talk.say(ASK).await;
    let answer = talk.hear("</iq>").await;
    assert!(answer.contains("type='result'") && answer.contains("<username"), "{answer}");
}
