//! What goes to other servers: links and their queues, carried by a scripted stream. What comes from them is in
//! `remote_in.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rookery_core::config::Conf;
use rookery_core::control::s2s::{S2sReply, S2sRequest};
use rookery_core::remote::{Carrier, Failure, Federation, Link, Pair, RemoteStatus};
use rookery_core::store::{OutgoingStore, StoreError};
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::BareJid;

use crate::told;
use crate::world::{Client, World, bodies, jid};

const ROMEO: &str = "romeo@localhost";
const FAR: &str = "far.example";

/// A network that takes note of what is asked of it.
#[derive(Default)]
pub(crate) struct Net {
    wanted: Mutex<Vec<Arc<Link>>>,
    closed: Mutex<Vec<String>>,
}

impl Federation for Net {
    fn wanted(&self, link: Arc<Link>) {
        self.wanted.lock().unwrap().push(link);
    }

    fn list(&self) -> Vec<RemoteStatus> {
        Vec::new()
    }

    fn show(&self, _: &BareJid) -> Option<RemoteStatus> {
        None
    }

    fn close(&self, domain: &BareJid) -> usize {
        self.closed.lock().unwrap().push(domain.to_string());
        1
    }
}

impl Net {
    pub(crate) fn of(world: &World) -> Arc<Self> {
        let net = Arc::new(Self::default());
        world.server.federate(net.clone());
        net
    }

    /// The domains of the links that were wanted since the last call.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let wanted = std::mem::take(&mut *self.wanted.lock().unwrap());
        wanted.iter().map(|link| format!("{} {}", link.pair().local, link.pair().remote)).collect()
    }
}

/// A stream that carries a link.
pub(crate) struct Stream {
    pub(crate) link: Arc<Link>,
    pub(crate) carrier: Carrier,
    last: Mutex<u64>,
}

impl Stream {
    pub(crate) fn carry(link: Arc<Link>) -> Self {
        let carrier = link.carry();
        Self { link, carrier, last: Mutex::new(0) }
    }

    pub(crate) fn to(world: &World, remote: &str) -> Self {
        Self::carry(world.server.link(Pair { local: jid("localhost"), remote: jid(remote) }))
    }

    /// Takes so many stanzas at most.
    pub(crate) fn take(&self, most: usize) -> Vec<String> {
        let due = std::iter::from_fn(|| self.link.next(self.carrier)).take(most);
        due.map(|due| {
            *self.last.lock().unwrap() = due.ticket;
            due.stanza.to_xml()
        })
        .collect()
    }

    /// Takes all that waits: its texts.
    pub(crate) fn read(&self) -> Vec<String> {
        bodies(&self.take(usize::MAX).concat())
    }

    /// The peer has all that was taken.
    pub(crate) fn confirm(&self) {
        self.link.confirm(self.carrier, *self.last.lock().unwrap());
    }

    /// The last one that was taken is not written.
    pub(crate) fn refuse(&self, error: &StanzaError) {
        self.link.refuse(self.carrier, *self.last.lock().unwrap(), error);
    }

    /// The connection is gone.
    pub(crate) fn let_go(&self) {
        self.link.let_go(self.carrier);
    }
}

pub(crate) fn chat(to: &str, body: &str) -> String {
    format!("<message type='chat' to='{to}' id='{body}'><body>{body}</body></message>")
}

fn failure(definite: bool) -> Failure {
    Failure { definite, condition: Condition::RemoteServerNotFound, text: "There is no far.example in DNS.".to_owned() }
}

/// How many stanzas for other servers are on disk.
pub(crate) async fn on_disk(world: &World) -> usize {
    world.store.outgoing(0, usize::MAX).await.unwrap().len()
}

/// Waits until this many stanzas for other servers are on disk.
pub(crate) async fn until_on_disk(world: &World, count: usize) {
    for _ in 0..10_000 {
        if on_disk(world).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{} are on disk, and not {count}", on_disk(world).await);
}

pub(crate) async fn until_handled(client: &Client, h: u32) {
    for _ in 0..10_000 {
        if client.session.handled() == Some(h) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{:?} are handled, and not {h}", client.session.handled());
}

/// What a client reads when something is there.
async fn told_soon(client: &Client) -> Vec<String> {
    for _ in 0..10_000 {
        let read = client.read();
        if !read.is_empty() {
            return told::lines(&read);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("nothing to read");
}

#[tokio::test]
async fn without_a_network_there_is_no_other_server() {
    let world = World::new(&[ROMEO]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&chat("juliet@far.example", "hi")).await;
    assert_eq!(told::lines(&romeo.read()), ["error juliet@far.example remote-server-not-found"]);
}

#[tokio::test]
async fn a_stanza_goes_by_the_link_of_its_domains_and_the_network_is_asked_once() {
    let world = World::new(&[ROMEO]).await;
    let net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&chat("juliet@Far.Example./balcony", "one")).await;
    romeo.send(&chat("far.example", "two")).await;
    romeo.send(&chat("nurse@other.example", "three")).await;
    assert_eq!(net.wanted(), ["localhost far.example", "localhost other.example"]);
    let stream = Stream::to(&world, FAR);
    let due = stream.take(1).concat();
    assert!(due.contains("to='juliet@far.example/balcony' from='romeo@localhost/orchard' id='one'"), "{due}");
    assert_eq!(stream.read(), ["two"]);
    romeo.send(&chat("juliet@far.example", "four")).await;
    stream.link.woken(stream.carrier).await;
    assert_eq!(stream.read(), ["four"]);
    assert!(net.wanted().is_empty(), "somebody carries it");
    stream.let_go();
    assert_eq!(net.wanted(), ["localhost far.example"], "what was not confirmed waits");
}

#[tokio::test(start_paused = true)]
async fn who_has_been_called_in_vain_is_called_again() {
    let world = World::new(&[ROMEO]).await;
    let net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    for _ in 0..2 {
        romeo.send(&chat("juliet@far.example", "one")).await;
        romeo.send(&chat("juliet@far.example", "two")).await;
        assert_eq!(net.wanted(), ["localhost far.example"]);
        tokio::time::sleep(Duration::from_secs(302)).await;
        assert_eq!(romeo.told(), ["error juliet@far.example remote-server-timeout"; 2]);
    }
}

#[tokio::test]
async fn what_is_confirmed_before_its_batch_begins_is_never_on_disk() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let stream = Stream::to(&world, FAR);
    let before = world.store.commits();
    romeo.send(&chat("juliet@far.example", "hi")).await;
    assert_eq!(romeo.session.handled(), Some(0));
    assert_eq!(stream.read(), ["hi"]);
    stream.confirm();
    assert_eq!(romeo.session.handled(), Some(1));
    world.server.stored().await.unwrap();
    assert_eq!((world.store.commits(), on_disk(&world).await), (before, 0));
}

#[tokio::test]
async fn a_stanza_is_acknowledged_when_it_is_on_disk_and_leaves_it_when_it_is_confirmed() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat("juliet@far.example", "message")).await;
    romeo.send("<iq type='get' id='q' to='far.example'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    romeo.send("<presence type='subscribe' to='juliet@far.example'/>").await;
    world.settle().await;
    assert_eq!(romeo.session.handled(), Some(0));
    world.store.resume_commits();
    until_handled(&romeo, 3).await;
    assert_eq!(on_disk(&world).await, 3);
    let stream = Stream::to(&world, FAR);
    assert_eq!(stream.take(9).len(), 3);
    stream.confirm();
    until_on_disk(&world, 0).await;
}

#[tokio::test]
async fn presence_and_answers_wait_in_memory_alone() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    for stanza in [
        "<presence to='juliet@far.example'/>",
        "<presence type='unavailable' to='juliet@far.example'/>",
        "<iq type='result' id='r' to='juliet@far.example/balcony'/>",
        "<message type='error' to='juliet@far.example'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
        "<message type='chat' to='juliet@far.example'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
        "<message to='juliet@far.example'><body>!</body><no-store xmlns='urn:xmpp:hints'/></message>",
    ] {
        romeo.send(stanza).await;
    }
    assert_eq!(romeo.session.handled(), Some(6));
    world.server.stored().await.unwrap();
    assert_eq!(on_disk(&world).await, 0);
    assert_eq!(Stream::to(&world, FAR).take(9).len(), 6);
}

#[tokio::test]
async fn t10_what_waits_goes_on_after_a_restart_in_its_order_and_under_its_ids() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    for body in ["one", "two", "three", "four"] {
        romeo.send(&chat("juliet@far.example", body)).await;
    }
    until_handled(&romeo, 4).await;
    let stream = Stream::to(&world, FAR);
    assert_eq!(bodies(&stream.take(1).concat()), ["one"]);
    stream.confirm();
    assert_eq!(bodies(&stream.take(2).concat()), ["two", "three"]);
    let ids: Vec<u64> = world.store.outgoing(0, 9).await.unwrap().iter().map(|entry| entry.id).collect();

    // Once in order, and once killed.
    let world = world.restart().await;
    assert_eq!(on_disk(&world).await, 3);
    let world = world.start_again().await;
    let net = Net::of(&world);
    assert_eq!(net.wanted(), ["localhost far.example"]);
    let romeo = world.login_resumable(ROMEO, "garden").await;
    romeo.send(&chat("juliet@far.example", "five")).await;
    let stream = Stream::to(&world, FAR);
    let tickets: Vec<u64> = (0..3).map(|_| stream.link.next(stream.carrier).unwrap().ticket).collect();
    assert_eq!(tickets, ids[ids.len() - 3..]);
    let stream = Stream::to(&world, FAR);
    assert_eq!(stream.read(), ["two", "three", "four", "five"]);
    stream.confirm();
    until_on_disk(&world, 0).await;
    assert!(!stream.link.waiting().carried || stream.link.waiting().stanzas == 0);
}

#[tokio::test]
async fn ids_are_not_used_again_after_a_restart() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    romeo.send(&chat("juliet@far.example", "one")).await;
    until_on_disk(&world, 1).await;
    let id = world.store.outgoing(0, 1).await.unwrap()[0].id;
    let stream = Stream::to(&world, FAR);
    stream.read();
    stream.confirm();
    until_on_disk(&world, 0).await;
    let world = world.start_again().await;
    assert!(rookery_core::store::TailStore::last_id(&*world.store).await.unwrap() >= id);
    assert!(world.server.ids.next() > id);
}

#[tokio::test(start_paused = true)]
async fn t10_what_waits_too_long_goes_back_once_and_is_not_sent_any_more() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&chat("juliet@far.example", "hi")).await;
    romeo.send("<iq type='get' id='q' to='far.example'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    romeo.send("<presence type='unavailable' to='juliet@far.example'/>").await;
    let link = world.server.links_to(&jid(FAR)).remove(0);
    link.failed(Failure { text: "far.example does not answer.".to_owned(), ..failure(false) });
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(romeo.read(), "");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let read = romeo.read();
    assert!(read.contains("far.example does not answer."), "{read}");
    assert_eq!(told::lines(&read), ["error q remote-server-timeout"]);
    tokio::time::sleep(Duration::from_secs(237)).await;
    assert_eq!(romeo.read(), "");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(told::lines(&romeo.read()), ["error juliet@far.example remote-server-timeout"]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(romeo.read(), "");
    assert_eq!(on_disk(&world).await, 0);
    assert!(Stream::carry(link).take(9).is_empty());
    assert!(world.server.remotes().iter().all(|remote| remote.links.iter().all(|link| link.stanzas == 0)));
}

#[tokio::test(start_paused = true)]
async fn links_that_nobody_needs_are_dropped() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let stream = Stream::to(&world, FAR);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.server.remotes().len(), 1, "a stream holds it");
    drop(stream);
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert_eq!(world.server.remotes().len(), 0);
}

#[tokio::test]
async fn c9_no_error_is_sent_for_an_error() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    for kind in ["result", "error"] {
        romeo.send(&format!("<iq type='{kind}' id='r' to='juliet@far.example/balcony'/>")).await;
    }
    romeo.send("<message type='error' to='juliet@far.example'><body>no</body></message>").await;
    romeo.send("<presence type='error' to='juliet@far.example'/>").await;
    romeo.send("<presence type='unavailable' to='juliet@far.example'/>").await;
    romeo.send("<presence type='probe' to='juliet@far.example'/>").await;
    romeo.send(&chat("juliet@far.example", "last")).await;
    let link = world.server.links_to(&jid(FAR)).remove(0);
    link.failed(failure(true));
    let told = told_soon(&romeo).await;
    assert_eq!(told, ["error juliet@far.example remote-server-not-found"], "for the last alone");
}

#[tokio::test]
async fn a_definite_failure_sends_all_back_and_another_leaves_it() {
    let world = World::new(&[ROMEO]).await;
    let net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&chat("juliet@far.example", "hi")).await;
    until_on_disk(&world, 1).await;
    assert_eq!(net.wanted().len(), 1);
    let link = world.server.links_to(&jid(FAR)).remove(0);
    link.failed(failure(false));
    world.settle().await;
    let waiting = link.waiting();
    assert_eq!((waiting.stanzas, waiting.failure.map(|(failure, _)| failure)), (1, Some(failure(false))));
    assert_eq!(romeo.read(), "");
    romeo.send(&chat("juliet@far.example", "ho")).await;
    assert_eq!(net.wanted(), ["localhost far.example"], "the next stanza asks again");
    link.failed(failure(true));
    let read = told_soon(&romeo).await;
    assert_eq!(read[0], "error juliet@far.example remote-server-not-found");
    until_on_disk(&world, 0).await;
    net.wanted();
    assert_eq!((link.waiting().stanzas, link.waiting().bytes), (0, 0));
    let stream = Stream::carry(link);
    romeo.send(&chat("juliet@far.example", "again")).await;
    stream.link.failed(failure(true));
    assert_eq!(stream.read(), ["again"], "it is carried: another attempt's failure is none");
}

#[tokio::test(start_paused = true)]
async fn t10_what_may_have_arrived_is_sent_again_for_an_hour_and_then_its_sender_is_told() {
    let world = World::new(&[ROMEO]).await;
    let net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    let stream = Stream::to(&world, FAR);
    romeo.send(&chat("juliet@far.example", "given")).await;
    romeo.send("<iq type='get' id='q' to='far.example'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    assert_eq!(stream.take(9).len(), 2);
    stream.link.woken(stream.carrier).await;
    tokio::time::sleep(Duration::from_secs(118)).await;
    assert!(stream.link.is_current(stream.carrier) && romeo.read().is_empty(), "they may be arriving");
    let begun = tokio::time::Instant::now();
    stream.link.woken(stream.carrier).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!stream.link.is_current(stream.carrier), "its overtime is up");
    assert_eq!(net.wanted(), ["localhost far.example"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(romeo.told(), ["error q remote-server-timeout"], "whoever asks is told in time");
    stream.link.failed(failure(true));
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert_eq!(romeo.read(), "");
    tokio::time::sleep(Duration::from_secs(200)).await;
    let read = romeo.read();
    assert!(read.contains("remote-server-timeout") && read.contains("not known whether this has arrived"), "{read}");
    assert!(Stream::to(&world, FAR).read().is_empty());
}

#[tokio::test]
async fn what_a_stream_refuses_goes_back_and_to_no_other_stream() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    for body in ["one", "two", "three"] {
        romeo.send(&chat("juliet@far.example", body)).await;
    }
    until_on_disk(&world, 3).await;
    let stream = Stream::to(&world, FAR);
    let tickets: Vec<u64> = (0..2).map(|_| stream.link.next(stream.carrier).unwrap().ticket).collect();
    let error = StanzaError::new(Condition::PolicyViolation).with_text("Too large for far.example.");
    for _ in 0..2 {
        stream.link.refuse(stream.carrier, tickets[1], &error);
    }
    assert_eq!(told_soon(&romeo).await, ["error juliet@far.example policy-violation"]);
    until_on_disk(&world, 2).await;
    assert_eq!(Stream::to(&world, FAR).read(), ["one", "three"]);
    stream.link.refuse(stream.carrier, tickets[0], &error);
    world.settle().await;
    assert_eq!(romeo.read(), "", "a past one refuses nothing");
}

#[tokio::test]
async fn order_is_kept_from_one_stream_to_the_next() {
    let world = World::new(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    for number in 0..10 {
        romeo.send(&chat("juliet@far.example", &number.to_string())).await;
    }
    let first = Stream::to(&world, FAR);
    assert_eq!(first.take(3).len(), 3);
    first.confirm();
    assert_eq!(first.take(3).len(), 3);
    let second = Stream::to(&world, FAR);
    first.link.woken(first.carrier).await;
    assert!(first.take(1).is_empty() && !first.link.is_current(first.carrier));
    assert_eq!(second.read(), ["3", "4", "5", "6", "7", "8", "9"]);
    second.let_go();
    assert_eq!(Stream::to(&world, FAR).read(), ["3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn what_waits_is_bounded_for_each_and_for_all() {
    let conf =
        "[host.localhost]\n[s2s]\nqueue = \"64 KiB\"\nqueues = \"100 KiB\"\n[modules.archive]\nenabled = false\n";
    let world = World::with_conf(conf, &[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    let long = "x".repeat(30_000);
    let to_example = |to: &str| format!("<message to='juliet@{to}.example'><body>{long}</body></message>");
    for (to, fits) in [("far", true), ("far", true), ("far", false), ("other", true), ("third", false)] {
        romeo.send(&to_example(to)).await;
        let read = romeo.read();
        assert_eq!(read.is_empty(), fits, "{to}");
        assert!(fits || read.contains("<error type='wait'><resource-constraint "), "{to}");
    }
    let stream = Stream::to(&world, FAR);
    stream.take(1);
    stream.confirm();
    romeo.send(&to_example("third")).await;
    assert_eq!(romeo.read(), "", "there is room again");
}

#[tokio::test]
async fn domains_that_are_not_allowed_get_nothing_and_a_reload_says_which() {
    let conf = |more: &str| format!("[host.localhost]\n[s2s]\n{more}");
    let world = World::with_conf(&conf("deny = [\"*.bad.example\"]"), &[ROMEO]).await;
    let net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&chat("tybalt@very.bad.example", "hi")).await;
    assert_eq!(told::lines(&romeo.read()), ["error tybalt@very.bad.example not-allowed"]);
    assert!(world.server.may_federate("very.bad.example").is_err() && world.server.may_federate(FAR).is_ok());
    romeo.send(&chat("juliet@far.example", "hi")).await;
    assert_eq!(romeo.read(), "");
    let conf = Conf::parse(&conf("allow = [\"*.bad.example\"]"), "test.toml").unwrap();
    world.server.reload(conf, rookery_modules::ALL).unwrap();
    assert_eq!(told_soon(&romeo).await, ["error juliet@far.example not-allowed"]);
    assert_eq!(*net.closed.lock().unwrap(), [FAR]);
    romeo.send(&chat("juliet@far.example", "hi")).await;
    assert_eq!(told::lines(&romeo.read()), ["error juliet@far.example not-allowed"]);
    romeo.send(&chat("tybalt@very.bad.example", "hi")).await;
    assert_eq!(romeo.read(), "");
}

#[tokio::test]
async fn while_the_database_fails_only_what_a_stream_takes_is_taken() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let stream = Stream::to(&world, FAR);
    world.store.fail(Some(StoreError::Unavailable("no disk".into())));
    romeo.send(&chat("juliet@far.example", "one")).await;
    assert_eq!(stream.read(), ["one"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(romeo.session.handled(), Some(0), "neither on disk nor confirmed");
    stream.confirm();
    assert_eq!(romeo.session.handled(), Some(1));
    romeo.send(&chat("juliet@far.example", "two")).await;
    assert_eq!(stream.read(), ["two"]);
    romeo.send(&chat("nurse@other.example", "three")).await;
    let read = romeo.read();
    assert!(read.contains("from='nurse@other.example'") && read.contains("resource-constraint"), "{read}");
    romeo.send("<presence to='nurse@other.example'/>").await;
    assert_eq!(romeo.read(), "", "presence needs no disk");
    stream.confirm();
    world.store.fail(None);
    until_on_disk(&world, 0).await;
    world.server.stored().await.unwrap();
    assert_eq!(on_disk(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_database_does_not_take_for_too_long_goes_back() {
    let world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    world.store.pause_commits();
    romeo.send(&chat("juliet@far.example", "hi")).await;
    world.store.fail(Some(StoreError::Full("no space".into())));
    world.store.resume_commits();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let read = romeo.read();
    assert!(read.contains("<error type='wait'><resource-constraint "), "{read}");
    assert_eq!(romeo.session.handled(), Some(1));
    world.store.fail(None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(Stream::to(&world, FAR).read().is_empty());
    assert_eq!(on_disk(&world).await, 0);
}

#[tokio::test]
async fn nothing_is_sent_on_in_the_name_of_another_server() {
    let world = World::new(&[ROMEO]).await;
    let net = Net::of(&world);
    world.route("<message from='a@one.example' to='b@two.example'><body>psst</body></message>").await;
    assert!(net.wanted().is_empty() && world.server.remotes().is_empty());
}

#[tokio::test]
async fn an_admin_sees_what_waits() {
    let world = World::new(&[ROMEO]).await;
    let net = Net::of(&world);
    let romeo = world.login(ROMEO, "orchard").await;
    romeo.send(&chat("juliet@far.example", "hi")).await;
    world.server.links_to(&jid(FAR))[0].failed(failure(false));
    let S2sReply::Servers { servers } = world.server.command_remotes(S2sRequest::List {}).unwrap() else { panic!() };
    assert_eq!(servers.len(), 1);
    let S2sReply::Server(shown) =
        world.server.command_remotes(S2sRequest::Show { domain: "FAR.example".into() }).unwrap()
    else {
        panic!()
    };
    assert_eq!(*shown, servers[0]);
    let link = &shown.links[0];
    assert_eq!((link.local.as_str(), link.carried, link.stanzas), ("localhost", false, 1));
    assert_eq!(link.failure.as_ref().unwrap().condition, "remote-server-not-found");
    let closed = world.server.command_remotes(S2sRequest::Close { domain: FAR.into() }).unwrap();
    assert_eq!(closed, S2sReply::Closed { domain: FAR.into(), closed: 1 });
    assert_eq!(*net.closed.lock().unwrap(), [FAR]);
    for (domain, text) in [("nobody.example", "there is no stream to nobody.example"), ("a@b", "is no domain")] {
        let error = world.server.command_remotes(S2sRequest::Show { domain: domain.into() }).unwrap_err();
        assert!(error.text.contains(text), "{error}");
    }
}
