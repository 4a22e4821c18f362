//! Who sends too much, asks too much or acknowledges nothing: bounded, and nobody else's loss (security.md B14, B16).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rookery_core::module::{Call, Entry, Fault, Flow, Hooks, IqResult, Module, SessionEvent, Setup, Target, Xep};
use rookery_core::server::Server;
use rookery_core::session::{Session, StreamInfo};
use rookery_xmpp::error::{Condition, StreamCondition};
use rookery_xmpp::stanza::IqType;

use crate::world::{Client, World, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";
const NARROW: &str = "[host.localhost]\n[limits]\noutbox = '64 KiB'\n";
const PING: &str = "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>";

/// Reads all that waits, as a connection does: how many bytes, and how the stream is to be closed, if it is.
fn drain(client: &Client) -> (usize, Option<StreamCondition>) {
    let mut buffer = Vec::new();
    let drained = client.session.drain(client.session.connection(), &mut buffer, usize::MAX, Instant::now());
    (buffer.len(), drained.expect("the connection is the session's").close.map(|error| error.condition))
}

#[tokio::test]
async fn b14_who_reads_and_never_acknowledges_is_ended() {
    let world = World::with_conf(NARROW, &[ROMEO]).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let mut read = 0;
    let condition = loop {
        romeo.send(PING).await;
        // A count that never grows is no acknowledgement, though it is an answer.
        romeo.send("<a xmlns='urn:xmpp:sm:3' h='0'/>").await;
        let (bytes, close) = drain(&romeo);
        read += bytes;
        assert!(read < 4 << 20, "{read} bytes are held for a client that acknowledges none");
        if let Some(condition) = close {
            break condition;
        }
    };
    assert_eq!(condition, StreamCondition::ResourceConstraint);
    assert!(read > 256 << 10, "a client with a long line has not acknowledged so much yet: {read}");
}

#[tokio::test]
async fn b14_a_stranger_cannot_end_the_session_of_a_slow_reader() {
    let world = World::with_conf(NARROW, &[ROMEO, JULIET]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login(JULIET, "balcony").await;
    let long = "x".repeat(4000);
    for stanza in [
        format!("<message type='headline' to='{JULIET}'><body>{long}</body></message>"),
        format!("<message type='groupchat' to='{JULIET}/balcony'><body>{long}</body></message>"),
        format!("<message type='error' to='{JULIET}/balcony'><body>{long}</body></message>"),
        format!("<iq type='set' id='i' to='{JULIET}/balcony'><x xmlns='urn:x'>{long}</x></iq>"),
        format!("<iq type='result' id='i' to='{JULIET}/balcony'><x xmlns='urn:x'>{long}</x></iq>"),
        format!("<presence to='{JULIET}'><status>{long}</status></presence>"),
        format!("<presence type='unavailable' to='{JULIET}/balcony'><status>{long}</status></presence>"),
    ] {
        for _ in 0..100 {
            romeo.send(&stanza).await;
            romeo.read();
        }
        juliet.send(PING).await;
        let (bytes, close) = drain(&juliet);
        assert_eq!(close, None, "ended by {stanza}");
        assert!((32 << 10..128 << 10).contains(&bytes), "{bytes} of {stanza}");
    }
    // What the user has subscribed to is not left out: the session begins anew rather than seeing half of it.
    world.subscribe(&juliet, &romeo).await;
    for _ in 0..100 {
        romeo.send(&format!("<presence><status>{long}</status></presence>")).await;
        romeo.read();
    }
    assert_eq!(drain(&juliet).1, Some(StreamCondition::ResourceConstraint));
}

/// A module that takes for ever to answer.
struct Slow;

static ASKED: AtomicUsize = AtomicUsize::new(0);

impl Module for Slow {
    const NAME: &'static str = "slow";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.iq(IqType::Get, Target::Account, "urn:slow", "slow", Self::answer);
    }
}

impl Slow {
    async fn answer(self: Arc<Self>, _: Call) -> IqResult {
        ASKED.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn b14_requests_that_are_under_way_are_bounded_by_not_reading_on() {
    let modules: Vec<Entry> = rookery_modules::ALL.iter().copied().chain([Entry::of::<Slow>()]).collect();
    let world = World::with_modules("[host.localhost]\n", &[ROMEO, JULIET], &modules).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let ask = async || {
        for number in 0..1000 {
            romeo.send(&format!("<iq type='get' id='{number}'><slow xmlns='urn:slow'/></iq>")).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), ask()).await.is_err());
    assert_eq!(ASKED.load(Ordering::Relaxed), 101);
    let juliet = world.login(JULIET, "balcony").await;
    juliet.send(PING).await;
    assert!(juliet.read().contains("type='result'"));
}

/// A module that takes its time over the end of a session, as those do that write it down.
struct Lingering;

impl Module for Lingering {
    const NAME: &'static str = "lingering";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.session(SessionEvent::Closed, Self::closed);
    }
}

impl Lingering {
    fn closed(self: &Arc<Self>, _: &Arc<Server>, _: &Arc<Session>) -> Flow {
        Flow::Wait(Box::pin(async {
            tokio::task::yield_now().await;
            Flow::Next
        }))
    }
}

#[tokio::test]
async fn b16_resources_are_few_and_each_is_one_session_however_many_bind_at_once() {
    let modules: Vec<Entry> = rookery_modules::ALL.iter().copied().chain([Entry::of::<Lingering>()]).collect();
    let world = Arc::new(World::with_modules("[host.localhost]\n", &[ROMEO], &modules).await);
    for number in 0..10 {
        let client = world.login_resumable(ROMEO, &format!("r{number}")).await;
        if number % 2 == 0 {
            client.cut().await;
        }
    }
    let binding: Vec<_> = (0..40)
        .map(|number| {
            let world = world.clone();
            tokio::spawn(async move {
                let stream = StreamInfo { id: number, peer: [127, 0, 0, 1].into(), secured: true };
                let resource = format!("r{}", number % 14);
                world.server.bind(&jid(ROMEO), Some(&resource), stream).await.map_err(|error| error.condition)
            })
        })
        .collect();
    for bound in binding {
        if let Err(condition) = bound.await.unwrap() {
            assert_eq!(condition, Condition::ResourceConstraint);
        }
    }
    let sessions = world.server.account(&jid(ROMEO)).await.unwrap().expect("an account").sessions();
    let mut resources: Vec<&str> = sessions.iter().map(|session| session.jid.as_str()).collect();
    resources.sort_unstable();
    resources.dedup();
    assert_eq!((sessions.len(), resources.len()), (10, 10), "{resources:?}");
    assert!(sessions.iter().all(|session| !session.is_closed()));
}
