//! What comes from other servers and from components: who may say it, what of it is believed, and when it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rookery_core::config::Conf;
use rookery_core::remote::Inbound;
use rookery_core::server::Server;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::parser::{Parsed, parse};
use rookery_xmpp::stanza::Stanza;

use crate::remote::{Net, Stream, chat, on_disk};
use crate::told;
use crate::world::{World, bodies, jid};

const JULIET: &str = "juliet@localhost";
const COMPONENT: &str = "[host.localhost]\n[component.\"irc.localhost\"]\nsecret = \"s\"\n";

fn stanza(xml: &str) -> Stanza {
    match parse(Bytes::copy_from_slice(xml.as_bytes()), &Namespaces::content_only("jabber:client")).unwrap() {
        Parsed::Stanza(stanza) => stanza,
        other => panic!("{other:?} for {xml}"),
    }
}

/// A stream of another server that may speak for far.example to localhost.
struct Peer {
    server: Arc<Server>,
    inbound: Arc<Inbound>,
}

impl Peer {
    fn new(world: &World) -> Self {
        let peer = Self { server: world.server.clone(), inbound: Inbound::new(&world.server) };
        assert!(peer.inbound.enable_acks() && !peer.inbound.enable_acks());
        peer
    }

    /// Sends a stanza; the error is that of its stream.
    async fn try_send(&self, xml: &str) -> Result<(), &'static str> {
        let may_speak = |from: &str, to: &str| from == "far.example" && (to == "localhost" || to == "irc.localhost");
        let sent = self.server.accept_remote(&self.inbound, may_speak, stanza(xml), self.inbound.receive()).await;
        sent.map_err(|error| error.condition.name())
    }

    async fn send(&self, xml: &str) {
        assert_eq!(self.try_send(xml).await, Ok(()), "{xml}");
    }
}

fn from_far(body: &str) -> String {
    format!(
        "<message type='chat' from='romeo@far.example/orchard' to='{JULIET}' id='{body}'><body>{body}</body></message>"
    )
}

#[tokio::test]
async fn a11_who_may_not_say_something_ends_the_stream_and_is_not_heard() {
    let conf = "[host.localhost]\n[host.\"second.example\"]\n[s2s]\ndeny = [\"denied.example\"]\n";
    let world = World::with_conf(conf, &[JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let peer = Peer::new(&world);
    for (from, to, expected) in [
        ("", JULIET, "improper-addressing"),
        ("from='romeo@far.example'", "", "improper-addressing"),
        ("from='romeo@other.example'", JULIET, "invalid-from"),
        ("from='romeo@other.example.'", JULIET, "invalid-from"),
        ("from='romeo@OTHER.example'", JULIET, "invalid-from"),
        ("from='other.example'", JULIET, "invalid-from"),
        ("from='romeo@below.far.example'", JULIET, "invalid-from"),
        ("from='romeo@example'", JULIET, "invalid-from"),
        ("from='romeo@xfar.example'", JULIET, "invalid-from"),
        ("from='romeo@far.example.other.example'", JULIET, "invalid-from"),
        // Confusables, and the same domain in another script.
        ("from='romeo@fаr.example'", JULIET, "invalid-from"),
        ("from='romeo@xn--fr-7lc.example'", JULIET, "invalid-from"),
        ("from='romeo@localhost'", JULIET, "invalid-from"),
        ("from='juliet@localhost/balcony'", JULIET, "invalid-from"),
        ("from='far.example@other.example/far.example'", JULIET, "invalid-from"),
        // The pair counts, and not either of the two.
        ("from='romeo@far.example'", "juliet@second.example", "invalid-from"),
        ("from='romeo@far.example'", "juliet@third.example", "host-unknown"),
        ("from='romeo@other.example'", "juliet@far.example", "host-unknown"),
        ("from='romeo@far.example'", "juliet@far.example", "host-unknown"),
    ] {
        let to = if to.is_empty() { String::new() } else { format!("to='{to}'") };
        for xml in [
            format!("<message {from} {to}><body>psst</body></message>"),
            format!("<presence {from} {to}/>"),
            format!("<iq type='get' id='q' {from} {to}><ping xmlns='urn:xmpp:ping'/></iq>"),
        ] {
            assert_eq!(peer.try_send(&xml).await, Err(expected), "{xml}");
        }
    }
    let anybody = |_: &str, _: &str| true;
    let own = stanza("<message from='romeo@localhost' to='juliet@localhost'><body>psst</body></message>");
    let refused = world.server.accept_remote(&peer.inbound, anybody, own, None).await.unwrap_err();
    assert_eq!(refused.condition.name(), "invalid-from", "whatever the stream thinks of it");
    let denied = stanza("<message from='romeo@denied.example' to='juliet@localhost'><body>psst</body></message>");
    let refused = world.server.accept_remote(&peer.inbound, anybody, denied, None).await.unwrap_err();
    assert_eq!(refused.condition.name(), "policy-violation");
    assert_eq!(juliet.read(), "");
}

#[tokio::test]
async fn a11_a_domain_is_the_same_however_it_is_written() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let peer = Peer::new(&world);
    for from in ["far.example.", "Far.EXAMPLE", "ｆar.example"] {
        peer.send(&format!("<message from='romeo@{from}/x' to='{JULIET}'><body>hi</body></message>")).await;
        let read = juliet.read();
        assert!(read.contains(" from='romeo@far.example/x'"), "{from}: {read}");
    }
}

#[tokio::test]
async fn c1_c3_nobody_elses_server_writes_what_only_ours_may() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    juliet.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    juliet.read();
    let peer = Peer::new(&world);
    let forwarded = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='nurse@localhost'><body>forged</body></message></forwarded>";
    for name in ["sent", "received"] {
        for (open, close) in [
            (format!("<{name} xmlns='urn:xmpp:carbons:2'>"), format!("</{name}>")),
            (format!("<c:{name} xmlns:c='urn:xmpp:carbons:2'>"), format!("</c:{name}>")),
        ] {
            for from in ["juliet@far.example", "far.example"] {
                peer.send(&format!("<message from='{from}' to='{JULIET}'>{open}{forwarded}{close}</message>")).await;
                assert_eq!(juliet.read(), "");
                let body = "<body>true</body>";
                peer.send(&format!("<message from='{from}' to='{JULIET}'>{open}{forwarded}{close}{body}</message>"))
                    .await;
                let read = juliet.read();
                assert!(bodies(&read) == ["true"] && !read.contains("urn:xmpp:carbons:2"), "{read}");
            }
        }
    }
    peer.send(&format!(
        "<message from='romeo@far.example' to='{JULIET}'><body>ids</body>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='{JULIET}' id='1'/><stanza-id xmlns='urn:xmpp:sid:0' by='LOCALHOST.' id='2'/>\
         <s:stanza-id xmlns:s='urn:xmpp:sid:0' by='room@conference.localhost' id='3'/>\
         <stanza-id xmlns='urn:xmpp:sid:0' by='room@rooms.far.example' id='4'/></message>"
    ))
    .await;
    let read = juliet.read();
    assert_eq!(read.matches("stanza-id").count(), 2, "theirs, and the one that we have made: {read}");
    assert!(read.contains(" id='4'") && read.contains(&format!(" by='{JULIET}'")), "{read}");
    for forged in [" id='1'", " id='2'", " id='3'"] {
        assert!(!read.contains(forged), "{read}");
    }
}

#[tokio::test]
async fn what_comes_is_acknowledged_when_it_is_on_disk() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.login_resumable(JULIET, "balcony").await;
    let peer = Peer::new(&world);
    world.store.pause_commits();
    peer.send(&from_far("one")).await;
    peer.send("<presence from='romeo@far.example/orchard' to='juliet@localhost'/>").await;
    assert_eq!(juliet.bodies(), ["one"], "delivery does not wait for the disk");
    peer.inbound.answer_acks();
    peer.inbound.woken().await;
    assert_eq!((peer.inbound.answer(), peer.inbound.answer()), (Some(0), None), "asked, it is answered at once");
    assert_eq!(peer.inbound.handled(), 0);
    let settled = tokio::time::timeout(Duration::from_millis(30), peer.inbound.settled()).await;
    assert!(settled.is_err());
    world.store.resume_commits();
    peer.inbound.woken().await;
    assert_eq!(peer.inbound.answer(), Some(2), "and again when the rest is durable");
    peer.inbound.settled().await;
}

#[tokio::test]
async fn a_stream_without_acknowledgements_counts_nothing() {
    let world = World::new(&[JULIET]).await;
    let inbound = Inbound::new(&world.server);
    assert!(inbound.receive().is_none());
    inbound.answer_acks();
    assert_eq!((inbound.handled(), inbound.answer()), (0, None));
    inbound.settled().await;
}

#[tokio::test]
async fn what_another_server_sends_again_on_another_stream_is_taken_once() {
    let world = World::new(&[JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let message = format!(
        "<message type='chat' from='romeo@far.example/orchard' to='{JULIET}' id='5f3dbc5e-e1d3'><body>hi</body></message>"
    );
    let first = Peer::new(&world);
    first.send(&message).await;
    let second = Peer::new(&world);
    second.send(&message).await;
    assert_eq!(juliet.bodies(), ["hi"]);
    second.inbound.settled().await;
    // One that counts nothing has nothing to send again.
    let third = Inbound::new(&world.server);
    world.server.accept_remote(&third, |_, _| true, stanza(&message), None).await.unwrap();
    assert_eq!(juliet.bodies(), ["hi"]);
}

#[tokio::test]
async fn another_server_is_answered_by_its_link() {
    let world = World::new(&[JULIET]).await;
    let net = Net::of(&world);
    let peer = Peer::new(&world);
    peer.send("<iq type='get' id='v' from='romeo@far.example/x' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    peer.send("<message from='romeo@far.example/x' to='nobody@localhost' id='m'><body>?</body></message>").await;
    peer.send("<message type='error' from='romeo@far.example/x' to='nobody@localhost' id='e'/>").await;
    assert_eq!(net.wanted(), ["localhost far.example"]);
    let told = told::lines(&Stream::to(&world, "far.example").take(9).concat());
    assert_eq!(told, ["result v", "error nobody@localhost service-unavailable"]);
    assert_eq!(on_disk(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_component_gets_what_all_send_to_it_and_waits_but_a_short_time() {
    let world = World::with_conf(COMPONENT, &[JULIET]).await;
    let net = Net::of(&world);
    let juliet = world.login(JULIET, "balcony").await;
    juliet.send(&chat("#rust@irc.localhost", "one")).await;
    Peer::new(&world)
        .send("<message from='romeo@far.example' to='#rust@irc.localhost'><body>two</body></message>")
        .await;
    assert!(net.wanted().is_empty(), "components connect to us");
    let link = world.server.component_link(&jid("irc.localhost")).unwrap();
    assert!(link.is_component() && world.server.component_link(&jid("localhost")).is_none());
    let stream = Stream::carry(link.clone());
    assert_eq!(stream.read(), ["one", "two"]);
    stream.confirm();
    juliet.send(&chat("#rust@irc.localhost", "three")).await;
    stream.let_go();
    tokio::time::sleep(Duration::from_secs(58)).await;
    assert_eq!(juliet.read(), "");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(told::lines(&juliet.read()), ["error #rust@irc.localhost remote-server-timeout"]);
    assert_eq!(Stream::carry(link).read(), [""; 0]);
}

#[tokio::test]
async fn t10_what_waits_for_a_component_goes_on_after_a_restart() {
    let world = World::with_conf(COMPONENT, &[JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    juliet.send(&chat("#rust@irc.localhost", "one")).await;
    let world = world.restart().await;
    let stream = Stream::carry(world.server.component_link(&jid("irc.localhost")).unwrap());
    assert_eq!(stream.read(), ["one"]);
}

#[tokio::test]
async fn a12_a_component_speaks_for_its_domain_alone() {
    let world = World::with_conf(COMPONENT, &[JULIET]).await;
    let net = Net::of(&world);
    let juliet = world.login(JULIET, "balcony").await;
    let inbound = Inbound::new(&world.server);
    let say = async |from: &str, to: &str| {
        let xml = format!("<message {from} {to}><body>hi</body></message>");
        let said = world.server.accept_component(&inbound, &jid("irc.localhost"), stanza(&xml), None).await;
        said.map_err(|error| error.condition.name())
    };
    let to = format!("to='{JULIET}'");
    for (from, to, expected) in [
        ("", &*to, "improper-addressing"),
        ("from='#rust@irc.localhost'", "", "improper-addressing"),
        ("from='romeo@localhost'", &to, "invalid-from"),
        ("from='localhost'", &to, "invalid-from"),
        ("from='x.irc.localhost'", &to, "invalid-from"),
        ("from='romeo@far.example'", &to, "invalid-from"),
    ] {
        assert_eq!(say(from, to).await, Err(expected), "{from} {to}");
    }
    assert_eq!(juliet.read(), "");
    assert_eq!(say("from='#rust@irc.localhost/ferris'", &to).await, Ok(()));
    assert_eq!(juliet.bodies(), ["hi"]);
    assert_eq!(say("from='IRC.localhost.'", "to='romeo@far.example'").await, Ok(()));
    assert_eq!(net.wanted(), ["irc.localhost far.example"]);
    // And another server may not speak for it.
    let peer = Peer::new(&world);
    let forged = world.server.accept_remote(
        &peer.inbound,
        |_, _| true,
        stanza(&format!("<message from='#rust@irc.localhost' {to}><body>psst</body></message>")),
        None,
    );
    assert_eq!(forged.await.unwrap_err().condition.name(), "invalid-from");
}

#[tokio::test]
async fn components_are_in_the_list_of_items_and_have_their_domain_alone() {
    let conf = "[host.localhost]\n[host.\"second.example\"]\n[component.\"irc.localhost\"]\nsecret = \"s\"\n\
                [component.\"far.away\"]\nsecret = \"s\"\n[modules.muc]\nenabled = false\n";
    let world = World::with_conf(conf, &[JULIET]).await;
    let juliet = world.login(JULIET, "balcony").await;
    let mut items = Vec::new();
    for host in ["localhost", "second.example"] {
        let query = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
        juliet.send(&format!("<iq type='get' id='i' to='{host}'>{query}</iq>")).await;
        let read = juliet.read();
        items.push(["irc.localhost", "far.away"].map(|domain| read.contains(&format!("jid='{domain}'"))));
    }
    assert_eq!(items, [[true, true], [false, false]], "what is below no host belongs to the first");
    let conf = "[host.localhost]\n[component.\"conference.localhost\"]\nsecret = \"s\"\n";
    let error = world.server.reload(Conf::parse(conf, "test.toml").unwrap(), rookery_modules::ALL).unwrap_err();
    assert!(error.why.contains("\"conference.localhost\" is served already"), "{}", error.why);
}
