//! Two things at once: sessions that end, come and read their tail while messages are on their way (XEP-0198 §5,
//! RFC 6121 §8.5.2, XEP-0160).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_core::module::{Entry, Fault, Flow, Hooks, Module, SessionEvent, Setup, Xep};
use rookery_core::server::Server;
use rookery_core::session::{Session, StreamInfo};
use rookery_core::store::{StoreError, TailStore};

use crate::outside;
use crate::world::{Client, World, bodies, jid};

const BOTH: &[&str] = &["romeo@localhost", "juliet@localhost"];

fn chat(to: &str, body: &str) -> String {
    format!("<message type='chat' to='{to}' id='{body}'><body>{body}</body></message>")
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// So many messages that an outbox does not hold them; their bodies begin with a number.
async fn flood(romeo: &Client, to: &str, count: usize) {
    let long = "x".repeat(4000);
    for number in 0..count {
        romeo.send(&format!("<message type='chat' to='{to}'><body>{number} {long}</body></message>")).await;
    }
}

/// Reads until nothing comes any more: the first words of the bodies.
async fn read_all(client: &Client) -> Vec<String> {
    let mut got = Vec::new();
    for _ in 0..100 {
        got.extend(client.bodies().iter().filter_map(|body| body.split(' ').next().map(str::to_owned)));
        pass(Duration::from_millis(100)).await;
    }
    got
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

async fn resume(world: &World, client: &Client, h: u32) -> bool {
    world.server.resume(&client.session, h, |h| format!("<resumed h='{h}'/>").into()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_bound_twice_at_once_is_one_session() {
    let world = World::new(BOTH).await;
    let old = world.login("juliet@localhost", "phone").await;
    let stream = || StreamInfo { id: 9, peer: [127, 0, 0, 1].into(), secured: true };
    let user = jid("juliet@localhost");
    world.store.slow(Duration::from_millis(100));
    let bind = || world.server.bind(&user, Some("phone"), stream());
    let (one, two) = tokio::join!(bind(), bind());
    let open = [one, two].into_iter().flatten().filter(|session| !session.is_closed()).count();
    assert_eq!((open, old.session.account.sessions().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn many_binds_at_once_are_not_more_sessions_than_allowed() {
    let world = World::new(BOTH).await;
    let first = world.login_resumable("juliet@localhost", "first").await;
    for number in 1..10 {
        world.login("juliet@localhost", &number.to_string()).await;
    }
    first.cut().await;
    let stream = || StreamInfo { id: 9, peer: [127, 0, 0, 1].into(), secured: true };
    let user = jid("juliet@localhost");
    world.store.slow(Duration::from_millis(100));
    let bind = |resource| world.server.bind(&user, Some(resource), stream());
    let (one, two) = tokio::join!(bind("a"), bind("b"));
    assert_eq!((u8::from(one.is_ok()) + u8::from(two.is_ok()), first.session.account.sessions().len()), (1, 10));
}

/// Holds up what happens when a session has become available.
struct Slow;

impl Module for Slow {
    const NAME: &'static str = "slow";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.session(SessionEvent::Available, Self::available);
    }
}

impl Slow {
    fn available(self: &Arc<Self>, _: &Arc<Server>, _: &Arc<Session>) -> Flow {
        Flow::Wait(Box::pin(async {
            pass(Duration::from_secs(1)).await;
            Flow::Next
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_comes_before_what_is_sent_while_a_client_announces_itself() {
    let modules: Vec<Entry> = rookery_modules::ALL.iter().copied().chain([Entry::of::<Slow>()]).collect();
    let world = World::with_modules("[host.localhost]\n", BOTH, &modules).await;
    let romeo = world.bind("romeo@localhost", "orchard").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    let juliet = world.bind("juliet@localhost", "balcony").await;
    tokio::join!(juliet.send("<presence/>"), async {
        pass(Duration::from_millis(500)).await;
        romeo.send(&chat("juliet@localhost", "two")).await;
    });
    assert_eq!(read_all(&juliet).await, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn what_another_session_leaves_reaches_one_that_reads_its_tail_farther_on() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let phone = world.login_resumable("juliet@localhost", "phone").await;
    let laptop = world.login("juliet@localhost", "laptop").await;
    romeo.send(&chat("juliet@localhost/phone", "early")).await;
    assert_eq!(phone.bodies(), ["early"]);
    flood(&romeo, "juliet@localhost/laptop", 200).await;
    pass(Duration::from_secs(1)).await;
    phone.leave().await;
    let mut got = read_all(&laptop).await;
    got.sort();
    let mut expected = numbers(200);
    expected.push("early".to_owned());
    expected.sort();
    assert_eq!(got, expected);
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_catches_up_misses_nothing_that_another_confirms() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let phone = world.login_resumable("juliet@localhost", "phone").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    assert_eq!(phone.bodies(), ["one"]);
    world.store.slow(Duration::from_secs(1));
    let laptop = world.bind("juliet@localhost", "laptop").await;
    laptop.send("<presence/>").await;
    let read = phone.read();
    romeo.send(&chat("juliet@localhost", "two")).await;
    assert_eq!(phone.bodies(), ["two"]);
    phone.send(&format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", 2 + read.matches("<presence").count())).await;
    assert_eq!(read_all(&laptop).await, ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_resource_misses_nothing_that_another_confirms_or_is_told() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let phone = world.login("juliet@localhost", "phone").await;
    let laptop = world.login("juliet@localhost", "laptop").await;
    phone.read();
    let long = "x".repeat(4000);
    for number in 0..100 {
        romeo.send(&format!("<message type='chat' to='juliet@localhost'><body>{number} {long}</body></message>")).await;
        assert_eq!(phone.bodies().len(), 1);
    }
    assert_eq!(read_all(&laptop).await, numbers(100));
    for number in 0..200 {
        romeo.send(&format!("<message type='chat' to='juliet@localhost'><body>{number} {long}</body></message>")).await;
        assert_eq!(phone.bodies().len(), 1);
    }
    let (read, error) = laptop.last_words().await;
    assert!(bodies(&read).len() < 200 && error.contains("resource-constraint"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_a_session_had_not_read_yet_goes_to_the_others_when_it_ends() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let phone = world.login("juliet@localhost", "phone").await;
    let laptop = world.login("juliet@localhost", "laptop").await;
    for (number, size) in [200_000, 100_000, 10].into_iter().enumerate() {
        romeo.send(&chat("juliet@localhost/phone", &format!("{number} {}", "x".repeat(size)))).await;
    }
    pass(Duration::from_secs(1)).await;
    phone.cut().await;
    assert_eq!(read_all(&laptop).await, numbers(3));
}

#[tokio::test(start_paused = true)]
async fn a_resource_with_a_negative_priority_reads_only_its_own_from_the_tail() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let hidden = world.bind("juliet@localhost", "hidden").await;
    hidden.send("<presence><priority>-1</priority></presence>").await;
    flood(&romeo, "juliet@localhost/hidden", 100).await;
    romeo.send(&chat("juliet@localhost", "for others")).await;
    romeo.send(&chat("juliet@localhost/hidden", "last")).await;
    let mut expected = numbers(100);
    expected.push("last".to_owned());
    assert_eq!(read_all(&hidden).await, expected);
    let phone = world.bind("juliet@localhost", "phone").await;
    phone.send("<presence/>").await;
    assert_eq!(read_all(&phone).await, ["for"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_fills_its_mailbox_and_no_more() {
    let world = World::with_conf("[limits]\noffline_messages = 200\n[host.localhost]\n", BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    flood(&romeo, "juliet@localhost", 200).await;
    let read = juliet.bodies().len();
    pass(Duration::from_secs(1)).await;
    flood(&romeo, "juliet@localhost", 500).await;
    let refused = romeo.read().matches("type='error'").count();
    assert_eq!(refused, 500 - read);
    assert_eq!(read_all(&juliet).await.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_room_is_told_what_an_occupant_did_not_get() {
    let world = outside::world(BOTH).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.cut().await;
    world
        .route(
            "<message from='room@outside.example/romeo' to='juliet@localhost/balcony' type='groupchat'><body>x</body></message>",
        )
        .await;
    assert!(outside::seen().is_empty());
    juliet.leave().await;
    assert_eq!(outside::seen(), ["error juliet@localhost/balcony service-unavailable"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_never_comes_before_stream_management_is_on() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    juliet.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    juliet.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    let mut first = Vec::new();
    juliet.session.drain(juliet.connection, &mut first, 1, Instant::now()).unwrap();
    assert_eq!(bodies(&String::from_utf8(first.clone()).unwrap()), ["one"]);
    assert!(!String::from_utf8(first).unwrap().contains("<a "));
    let rest = juliet.read();
    assert!(rest.starts_with("<enabled") && rest.ends_with("<a xmlns='urn:xmpp:sm:3' h='0'/>"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn what_a_commit_in_doubt_stored_is_not_read_again_once_it_is_confirmed() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let phone = world.login_resumable("juliet@localhost", "phone").await;
    world.store.doubt(true);
    romeo.send(&chat("juliet@localhost", "one")).await;
    romeo.send(&chat("juliet@localhost", "two")).await;
    assert_eq!(phone.bodies(), ["one", "two"]);
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.store.tail(&jid("juliet@localhost"), 0, u64::MAX, 10).await.unwrap().len(), 2);
    phone.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    let laptop = world.bind("juliet@localhost", "laptop").await;
    laptop.send("<presence/>").await;
    assert!(read_all(&laptop).await.is_empty(), "one is confirmed, two is on its way");
    world.store.doubt(false);
    phone.leave().await;
    assert_eq!(read_all(&laptop).await, ["two"]);
    assert!(world.store.tail(&jid("juliet@localhost"), 0, u64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn b9_a_stanza_is_given_up_though_it_is_being_written() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    world.store.pause_commits();
    romeo.send(&chat("juliet@localhost", "poison")).await;
    world.store.commits_held(1).await;
    for _ in 0..3 {
        assert_eq!(juliet.bodies(), ["poison"]);
        juliet.cut().await;
        assert!(resume(&world, &juliet, 0).await);
    }
    assert!(juliet.bodies().is_empty());
    assert!(romeo.read().contains("undefined-condition"));
    world.store.resume_commits();
    pass(Duration::from_secs(1)).await;
    assert!(world.store.tail(&jid("juliet@localhost"), 0, u64::MAX, 10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_late_is_not_delivered_too() {
    let world = World::new(BOTH).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    juliet.leave().await;
    world.store.fail(Some(StoreError::Full("no space left".to_owned())));
    romeo.send(&chat("juliet@localhost", "one")).await;
    pass(Duration::from_secs(15)).await;
    assert!(romeo.read().contains("type='error'"));
    let juliet = world.bind("juliet@localhost", "balcony").await;
    juliet.send("<presence/>").await;
    assert!(read_all(&juliet).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a14_a_count_that_goes_backwards_leaves_the_session_and_its_time_as_they_were() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    juliet.read();
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    juliet.cut().await;
    pass(Duration::from_secs(400)).await;
    assert!(!resume(&world, &juliet, 0).await && !resume(&world, &juliet, 7).await);
    assert!(juliet.session.is_detached());
    pass(Duration::from_secs(201)).await;
    assert!(juliet.session.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_resumed_and_cut_off_again_has_its_whole_time() {
    let world = World::new(BOTH).await;
    let mut juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.cut().await;
    pass(Duration::from_secs(500)).await;
    assert!(resume(&world, &juliet, 0).await);
    juliet.connection = juliet.session.connection();
    juliet.cut().await;
    pass(Duration::from_secs(500)).await;
    assert!(juliet.session.is_detached());
    pass(Duration::from_secs(101)).await;
    assert!(juliet.session.is_closed());
}

/// Two connections resume a session at once, and the later waits first: it has used up the wake that was for both.
#[tokio::test(start_paused = true)]
async fn a_connection_whose_session_has_gone_on_elsewhere_is_told_however_late_it_waits() {
    let world = World::new(BOTH).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.cut().await;
    assert!(resume(&world, &juliet, 0).await);
    let one = juliet.session.connection();
    assert!(resume(&world, &juliet, 0).await);
    let other = juliet.session.connection();
    juliet.session.woken(other).await;
    let is_told = |connection| tokio::time::timeout(Duration::from_secs(1), juliet.session.woken(connection));
    assert!(is_told(one).await.is_ok());
    // It has passed the wake on, and once.
    assert!(is_told(other).await.is_ok());
    assert!(is_told(other).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_a_past_connection_takes_is_passed_on() {
    let world = World::new(BOTH).await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    let old = juliet.session.connection();
    assert!(resume(&world, &juliet, 0).await);
    let new = juliet.session.connection();
    juliet.session.woken(new).await;
    romeo.send(&chat("juliet@localhost/balcony", "one")).await;
    juliet.session.woken(old).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), juliet.session.woken(new)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_not_told_something_is_not_resumed() {
    let world = World::new(BOTH).await;
    world.befriend("romeo@localhost", "juliet@localhost").await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    juliet.cut().await;
    let status = "x".repeat(10_000);
    for _ in 0..100 {
        romeo.send(&format!("<presence to='juliet@localhost'><status>{status}</status></presence>")).await;
    }
    romeo.send(&chat("juliet@localhost", "two")).await;
    assert!(!resume(&world, &juliet, 0).await);
    assert!(juliet.session.is_closed());
    let juliet = world.bind("juliet@localhost", "balcony").await;
    juliet.send("<presence/>").await;
    assert_eq!(read_all(&juliet).await, ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn an_account_whose_sessions_have_ended_is_let_go_and_what_was_handled_is_known_still() {
    let world = World::new(BOTH).await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    let id = juliet.session.resumption_id().unwrap();
    juliet.send("<presence/>").await;
    juliet.leave().await;
    drop(juliet);
    pass(Duration::from_secs(300)).await;
    assert!(world.server.accounts.all().is_empty());
    assert_eq!(world.server.handled_before(&jid("juliet@localhost"), &id), Some(1));
    assert_eq!(world.server.handled_before(&jid("romeo@localhost"), &id), None);
}

#[tokio::test(start_paused = true)]
async fn a_presence_that_is_being_told_ends_with_its_session() {
    let modules: Vec<Entry> = rookery_modules::ALL.iter().copied().chain([Entry::of::<Slow>()]).collect();
    let world = World::with_modules("[host.localhost]\n", BOTH, &modules).await;
    let user = jid("juliet@localhost");
    world.befriend("romeo@localhost", "juliet@localhost").await;
    let romeo = world.login("romeo@localhost", "orchard").await;
    let old = world.bind("juliet@localhost", "balcony").await;
    let stream = StreamInfo { id: 9, peer: [127, 0, 0, 1].into(), secured: true };
    let (_, new) = tokio::join!(old.send("<presence/>"), async {
        pass(Duration::from_millis(500)).await;
        world.server.bind(&user, Some("balcony"), stream).await
    });
    pass(Duration::from_secs(5)).await;
    assert!(new.is_ok_and(|new| !new.is_available()));
    assert_eq!(
        romeo.told(),
        [
            "available juliet@localhost/balcony -> romeo@localhost",
            "unavailable juliet@localhost/balcony -> romeo@localhost"
        ]
    );
    old.try_send("<presence/>").await;
    assert!(!old.session.is_available() && romeo.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_database_is_not_kept_busy_by_what_was_delivered_meanwhile() {
    let world = World::without_archive(&["romeo@localhost", "juliet@localhost", "nurse@localhost"]).await;
    let romeo = world.login_resumable("romeo@localhost", "orchard").await;
    let juliet = world.login("juliet@localhost", "balcony").await;
    world.login("nurse@localhost", "kitchen").await.leave().await;
    world.store.slow(Duration::from_secs(9));
    romeo.send(&chat("nurse@localhost", "first")).await;
    pass(Duration::from_secs(1)).await;
    for number in 0..10 {
        for _ in 0..600 {
            romeo.send(&chat("juliet@localhost", "x")).await;
            juliet.read();
        }
        romeo.send(&chat("nurse@localhost", &number.to_string())).await;
    }
    pass(Duration::from_secs(18)).await;
    assert_eq!(romeo.session.handled(), Some(6011));
}

#[tokio::test(start_paused = true)]
async fn c9_nothing_counts_as_handled_whose_error_had_no_room() {
    for count in [100, 200] {
        let world = World::new(&["romeo@localhost", "nurse@localhost"]).await;
        let romeo = world.login_resumable("romeo@localhost", "orchard").await;
        world.login("nurse@localhost", "kitchen").await.leave().await;
        world.store.fail(Some(StoreError::Full("no space left".to_owned())));
        let long = "x".repeat(3800);
        for _ in 0..count {
            romeo.send(&format!("<message type='chat' to='nurse@localhost'><body>{long}</body></message>")).await;
        }
        pass(Duration::from_secs(15)).await;
        let handled = romeo.session.handled().unwrap();
        let (told, error) = if count == 100 { (romeo.read(), String::new()) } else { romeo.last_words().await };
        let told = told.matches("type='error'").count();
        assert_eq!((told, count == 200), (handled as usize, error.contains("resource-constraint")));
        assert!(told >= 100, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_unavailable_while_it_catches_up_gets_all_in_order_when_it_is_back() {
    let world = World::new(BOTH).await;
    let romeo = world.bind("romeo@localhost", "orchard").await;
    romeo.send(&chat("juliet@localhost", "one")).await;
    pass(Duration::from_secs(1)).await;
    let juliet = world.bind("juliet@localhost", "balcony").await;
    world.store.slow(Duration::from_secs(1));
    juliet.send("<presence/>").await;
    romeo.send(&chat("juliet@localhost", "two")).await;
    juliet.send("<presence type='unavailable'/>").await;
    pass(Duration::from_secs(5)).await;
    assert!(juliet.bodies().is_empty());
    juliet.send("<presence/>").await;
    assert_eq!(read_all(&juliet).await, ["one", "two"]);
}
