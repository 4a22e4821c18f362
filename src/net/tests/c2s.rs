//! Clients over true sockets against the server itself, with a database in memory: logging in, talking, leaving.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use common::world::*;
use common::*;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::ns;
use rookery_xmpp::sasl::{ChannelBindings, Decoy, Login, Mechanism, Policy, Secret};
use rookery_xmpp::stream::{self, Config, Deadlines, Ending, Event, Peer, Stream, TlsInfo};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Our own stream as a client, so that the strongest mechanism is tried with true channel bindings.
async fn log_in(
    world: &World,
    starttls: bool,
    config: &Arc<ClientConfig>,
    bindings: fn(&Client) -> ChannelBindings,
) -> Result<Mechanism, Ending> {
    let client_side = Config {
        kind: stream::Kind::C2s,
        starttls,
        require_tls: starttls,
        secured: !starttls,
        policy: Policy::CLIENTS,
        decoy: Decoy { secret: Secret::new(&[0; 32]), iterations: 4096 },
        auth_attempts: 1,
        pre_auth: Limits::c2s(),
        limits: Limits::c2s(),
        deadlines: Deadlines::default(),
    };
    let user = BareJid::new("romeo@chat.example").expect("a JID");
    let peer = Peer {
        to: user.domain(),
        from: Some(user.clone().into()),
        login: Some(Login {
            user: "romeo".to_owned(),
            password: "secret".to_owned().into(),
            plain: false,
            external: false,
            only: None,
        }),
        binding: stream::Binding::Resource("orchard".to_owned()),
    };
    let now = std::time::Instant::now;
    let mut client = None;
    let mut tcp = None;
    if starttls {
        tcp = Some(TcpStream::connect(world.starttls).await.expect("connected"));
    } else {
        client = Some(Client::connect(world.direct, config).await.expect("secured"));
    }
    let mut stream = Stream::initiating(Arc::new(client_side), Arc::new(peer), now());
    if let Some(client) = &client {
        stream.handle_tls(now(), TlsInfo { bindings: bindings(client) });
    }
    let mut mechanism = None;
    loop {
        while let Some(bytes) = stream.poll_transmit() {
            match (&mut client, &mut tcp) {
                (Some(client), _) => client.say(&bytes).await.expect("said"),
                (None, Some(tcp)) => tcp.write_all(&bytes).await.expect("written"),
                (None, None) => panic!("no connection"),
            }
        }
        match stream.poll_event() {
            Some(Event::StartTls) => {
                let secured = Client::over(tcp.take().expect("plain"), config).await.expect("secured");
                stream.handle_tls(now(), TlsInfo { bindings: bindings(&secured) });
                client = Some(secured);
                continue;
            }
            Some(Event::Authenticated { mechanism: by, .. }) => mechanism = Some(by),
            Some(Event::Bound(jid)) => {
                assert_eq!(jid.as_str(), "romeo@chat.example/orchard");
                return Ok(mechanism.expect("authenticated"));
            }
            Some(Event::Closed(ending)) => return Err(ending),
            Some(_) => continue,
            None => {}
        }
        let bytes = match (&mut client, &mut tcp) {
            (Some(client), _) => client.hear(1).await.expect("heard"),
            (None, Some(tcp)) => {
                let mut buffer = vec![0; 4096];
                let count = tcp.read(&mut buffer).await.expect("read");
                buffer.truncate(count);
                buffer
            }
            (None, None) => panic!("no connection"),
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let used = stream.handle_input(now(), rest);
            rest = &rest[used..];
            if stream.is_busy() {
                assert!(rest.is_empty(), "the server waits for answers");
            }
        }
    }
}

fn exporter(client: &Client) -> ChannelBindings {
    let exported = client.tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
    ChannelBindings { exporter: Some(Secret::new(&exported.expect("exported"))), end_point: None }
}

fn end_point(client: &Client) -> ChannelBindings {
    let certificate = client.tls.peer_certificates().expect("a certificate").first().expect("one");
    let hash = digest::digest(&digest::SHA256, certificate);
    ChannelBindings { exporter: None, end_point: Some(Secret::new(hash.as_ref())) }
}

fn both(client: &Client) -> ChannelBindings {
    ChannelBindings { end_point: end_point(client).end_point, ..exporter(client) }
}

/// As somebody in the middle would have them: of another TLS session, with another certificate.
fn foreign(_: &Client) -> ChannelBindings {
    ChannelBindings { exporter: Some(Secret::new(&[7; 32])), end_point: None }
}

fn foreign_end_point(_: &Client) -> ChannelBindings {
    ChannelBindings { exporter: None, end_point: Some(Secret::new(&[7; 32])) }
}

#[tokio::test]
async fn a_client_logs_in_with_channel_binding_of_either_type_over_both_tls_versions_on_both_ports() {
    let world = World::new("strong").await;
    let tls13 = client_config_of(&world.dir, &[&TLS13]);
    let tls12 = client_config_of(&world.dir, &[&TLS12]);
    for starttls in [true, false] {
        for bindings in [exporter, end_point, both] {
            assert_eq!(log_in(&world, starttls, &tls13, bindings).await, Ok(Mechanism::ScramSha256Plus));
        }
        assert_eq!(log_in(&world, starttls, &tls12, end_point).await, Ok(Mechanism::ScramSha256Plus));
        // The exporter is not announced there, so that it is the end point again.
        assert_eq!(log_in(&world, starttls, &tls12, both).await, Ok(Mechanism::ScramSha256Plus));
    }
    assert_eq!(world.admission.unauthenticated(), 0);
}

#[tokio::test]
async fn a16_channel_bindings_of_another_connection_fail() {
    let world = World::new("middle").await;
    let tls13 = client_config_of(&world.dir, &[&TLS13]);
    let tls12 = client_config_of(&world.dir, &[&TLS12]);
    for (config, bindings) in
        [(&tls13, foreign as fn(&Client) -> _), (&tls13, foreign_end_point), (&tls12, foreign_end_point)]
    {
        assert!(log_in(&world, false, config, bindings).await.is_err());
    }
    assert_eq!(world.clients.counters().auth_failed.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[tokio::test]
async fn two_clients_talk_and_leave() {
    let world = World::new("talk").await;
    let mut romeo = world.login("romeo", "orchard").await;
    let mut juliet = world.login("juliet", "balcony").await;
    juliet.say("<presence/>").await;
    juliet.hear("<presence").await;
    romeo.say("<message to='juliet@chat.example' type='chat'><body>Neither, fair saint</body></message>").await;
    let message = juliet.hear("</message>").await;
    assert!(
        message.contains("from='romeo@chat.example/orchard'") && message.contains("Neither, fair saint"),
        "{message}"
    );
    romeo.say("<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq></stream:stream>").await;
    let last = romeo.hear_out().await;
    assert!(last.contains("id='p'") && last.ends_with("</stream:stream>"), "{last}");
    let account = world.server.accounts.loaded("romeo@chat.example").expect("loaded");
    assert!(account.sessions().is_empty());
}

#[tokio::test]
async fn many_stanzas_in_one_piece_are_answered_in_order() {
    let world = World::new("pieces").await;
    let mut romeo = world.login("romeo", "orchard").await;
    let pings: String =
        (0..500).map(|n| format!("<iq id='n{n}' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")).collect();
    romeo.say(&pings).await;
    let heard = romeo.hear("id='n499'").await;
    let ids: Vec<&str> = heard.split("id='").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
    let expected: Vec<String> = (0..500).map(|n| format!("n{n}")).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_wrong_password_fails_and_the_fifth_one_closes() {
    let world = World::new("wrong").await;
    let mut client = world.connect().await;
    client.say(STREAM).await;
    client.hear("</stream:features>").await;
    for _ in 0..4 {
        client.say(&plain("romeo", "wrong")).await;
        assert!(client.hear("</failure>").await.contains("not-authorized"));
    }
    client.say(&plain("nobody", "secret")).await;
    let last = client.hear_out().await;
    assert!(last.contains("not-authorized") && last.contains("policy-violation"), "{last}");
    assert!(last.ends_with("</stream:stream>"));
}

#[tokio::test]
async fn a17_nothing_is_taken_from_before_tls() {
    let world = World::new("before-tls").await;
    let mut tcp = TcpStream::connect(world.starttls).await.expect("connected");
    let starttls = format!("<starttls xmlns='{}'/>{}", ns::TLS, plain("romeo", "secret"));
    tcp.write_all(format!("{STREAM}{starttls}").as_bytes()).await.expect("written");
    let mut all = String::new();
    tcp.read_to_string(&mut all).await.expect("read");
    assert!(all.contains("policy-violation") && !all.contains("<proceed"), "{all}");

    let mut tcp = TcpStream::connect(world.starttls).await.expect("connected");
    tcp.write_all(format!("{STREAM}{}", plain("romeo", "secret")).as_bytes()).await.expect("written");
    let mut all = vec![0; 4096];
    let mut heard = String::new();
    while !heard.contains("</failure>") {
        let count = tcp.read(&mut all).await.expect("read");
        assert!(count > 0, "{heard}");
        heard += std::str::from_utf8(&all[..count]).expect("text");
    }
    assert!(heard.contains("encryption-required"), "{heard}");
    assert!(!heard.contains("<mechanism"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn b14_silence_and_slowness_have_an_end() {
    let world = World::new("silence").await;
    let start = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(world.starttls).await.expect("connected");
    let mut all = String::new();
    silent.read_to_string(&mut all).await.expect("read");
    assert!(all.contains("connection-timeout"), "{all}");
    // Then up to five seconds for the client's own end, which `read_to_string` does not send.
    assert!((10..=15).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    drop(silent);

    // The time to authenticate is absolute.
    let start = tokio::time::Instant::now();
    let slow = TcpStream::connect(world.plain).await.expect("connected");
    let (mut from, mut to) = slow.into_split();
    let trickle = tokio::spawn(async move {
        let _ = to.write_all(STREAM.as_bytes()).await;
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    });
    let mut all = String::new();
    from.read_to_string(&mut all).await.expect("read");
    assert!(all.contains("connection-timeout"), "{all}");
    assert!((60..=66).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    trickle.abort();
}

#[tokio::test]
async fn a_session_is_resumed_over_a_new_connection() {
    let world = World::new("resume").await;
    let mut juliet = world.login("juliet", "balcony").await;
    juliet.say("<presence/><enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    let enabled = juliet.hear("<enabled").await + &juliet.hear(">").await;
    let id = enabled.split("id='").last().and_then(|rest| rest.split('\'').next()).expect("an id").to_owned();
    let account = world.server.accounts.loaded("juliet@chat.example").expect("loaded");
    let session = account.session("balcony").expect("bound");
    drop(juliet);
    while !session.is_detached() {
        tokio::task::yield_now().await;
    }
    let mut romeo = world.login("romeo", "orchard").await;
    romeo.say("<message to='juliet@chat.example/balcony' type='chat'><body>Wherefore?</body></message>").await;

    let mut again = world.connect().await;
    again.authenticate("juliet").await;
    again.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    again.hear("<resumed").await;
    again.hear("Wherefore?").await;
    assert!(!session.is_detached());

    // A third connection takes it from the second, which is told so.
    let mut third = world.connect().await;
    third.authenticate("juliet").await;
    third.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    third.hear("Wherefore?").await;
    assert!(again.hear_out().await.contains("<conflict"));
    assert!(!session.is_detached() && !session.is_closed());
}

#[tokio::test]
async fn a_resource_that_is_bound_again_ends_the_first() {
    let world = World::new("conflict").await;
    let mut first = world.login("romeo", "orchard").await;
    let mut second = world.login("romeo", "orchard").await;
    let last = first.hear_out().await;
    assert!(last.contains("<conflict") && last.contains("Another client has bound this resource."), "{last}");
    second.say("<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    second.hear("id='p'").await;
}

#[tokio::test]
async fn a_message_larger_than_the_outbox_arrives_all_the_same() {
    let world = World::with_conf("large", "[limits]\noutbox = '16 KiB'\n").await;
    let mut romeo = world.login("romeo", "orchard").await;
    let mut juliet = world.login("juliet", "balcony").await;
    juliet.say("<presence/><enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    juliet.hear("<enabled").await;
    for n in 0..5 {
        let body = "x".repeat(100_000);
        romeo.say(&format!("<message to='juliet@chat.example' type='chat'><body>{n}{body}</body></message>")).await;
    }
    for n in 0..5 {
        let message = juliet.hear("</message>").await;
        assert!(message.contains(&format!("<body>{n}xxx")), "{n}");
        juliet.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", n + 1)).await;
    }
}

#[tokio::test]
async fn the_end_of_the_server_is_said_to_everyone() {
    let mut world = World::new("shutdown").await;
    let mut bound = world.login("romeo", "orchard").await;
    let mut stranger = TcpStream::connect(world.plain).await.expect("connected");
    stranger.write_all(STREAM.as_bytes()).await.expect("written");
    let mut heard = String::new();
    while !heard.contains("</stream:features>") {
        let mut buffer = [0; 4096];
        let count = stranger.read(&mut buffer).await.expect("read");
        heard += std::str::from_utf8(&buffer[..count]).expect("text");
    }
    world.stop.take().expect("once").send(()).expect("running");
    assert!(bound.hear_out().await.contains("system-shutdown"));
    stranger.read_to_string(&mut heard).await.expect("read");
    assert!(heard.contains("system-shutdown"), "{heard}");
    drop((bound, stranger));
    world.task.await.expect("ended");
}

#[tokio::test(start_paused = true)]
async fn b14_a_client_that_never_reads_is_given_up_and_others_are_not_touched() {
    let world =
        World::with_conf("never-reads", "[limits]\nconnection_rate = '1 GiB'\nconnection_burst = '1 GiB'\n").await;
    let mut romeo = world.login("romeo", "orchard").await;
    let mut deaf = world.login("juliet", "balcony").await;
    deaf.say("<presence/>").await;
    deaf.hear("<presence").await;
    let body = "x".repeat(100_000);
    let message = format!("<message to='juliet@chat.example' type='chat'><body>{body}</body></message>");
    for _ in 0..100 {
        romeo.say(&message).await;
    }
    romeo.say("<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    romeo.hear("id='p'").await;
    let account = world.server.accounts.loaded("juliet@chat.example").expect("loaded");
    let start = tokio::time::Instant::now();
    while !account.sessions().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "still there");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    romeo.say("<iq id='q' type='get'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    romeo.hear("id='q'").await;
}

#[tokio::test]
async fn b14_who_asks_for_much_at_once_and_reads_gets_all_of_it() {
    let world = World::with_conf("asks-for-much", "[limits]\noutbox = '64 KiB'\n").await;
    let mut tcp = TcpStream::connect(world.plain).await.expect("connected");
    let mut heard = String::new();
    let mut talk = async |text: &str, until: &str| {
        tcp.write_all(text.as_bytes()).await.expect("written");
        loop {
            if let Some(at) = heard.find(until) {
                heard.drain(..at + until.len());
                return;
            }
            let mut buffer = vec![0; 65536];
            let count = tcp.read(&mut buffer).await.expect("read");
            heard += std::str::from_utf8(&buffer[..count]).expect("text");
            assert!(count > 0, "the end came before {until}: {heard}");
        }
    };
    talk(STREAM, "</stream:features>").await;
    talk(&plain("romeo", "secret"), "<success").await;
    talk(STREAM, "</stream:features>").await;
    talk(&format!("<iq id='b' type='set'><bind xmlns='{}'/></iq>", ns::BIND), "</iq>").await;
    let groups: String = (0..3).map(|number| format!("<group>{number}{}</group>", "g".repeat(900))).collect();
    for number in 0..100 {
        let item = format!("<item jid='x{number}@chat.example'>{groups}</item>");
        let set = format!("<iq id='s{number}' type='set'><query xmlns='jabber:iq:roster'>{item}</query></iq>");
        talk(&set, &format!("id='s{number}'")).await;
    }
    let asked: String =
        (0..20).map(|number| format!("<iq id='g{number}' type='get'><query xmlns='jabber:iq:roster'/></iq>")).collect();
    talk(&asked, "id='g0'").await;
    for number in 1..20 {
        talk("", &format!("id='g{number}'")).await;
    }
}

#[tokio::test]
async fn b14_who_writes_faster_than_the_database_takes_it_is_read_in_small_pieces() {
    let rates = ["connection", "account"].map(|who| format!("{who}_rate = '1 GiB'\n{who}_burst = '1 GiB'\n")).concat();
    let world = World::with_conf("pressure", &format!("[limits]\nresources = 100\n{rates}")).await;
    let chat =
        |to: &str, body: &str| format!("<message to='{to}@chat.example' type='chat'><body>{body}</body></message>");
    let ping = "<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>";
    let mut juliet = world.login("juliet", "balcony").await;
    juliet.say("<presence/>").await;
    juliet.hear("<presence").await;
    let mut others = Vec::new();
    for number in 0..40 {
        others.push(world.login("romeo", &format!("other{number}")).await);
    }
    let mut romeo = world.login("romeo", "orchard").await;

    world.store.pause_commits();
    for other in &mut others {
        other.say(&(chat("romeo", &"x".repeat(200_000)) + ping)).await;
        other.hear("id='p'").await;
    }
    // He is not read for a while after this, and what he says next is there in one piece.
    romeo.say(&chat("juliet", "first")).await;
    juliet.hear("first").await;
    for _ in 0..800 {
        romeo.say(&chat("juliet", "flood")).await;
    }
    juliet.hear("flood").await;
    // While she asks, all that has been read is dealt with.
    let mut count = 0;
    for _ in 0..20 {
        juliet.say(ping).await;
        count += juliet.hear("id='p'").await.matches("flood").count();
    }
    assert!(count < 500, "{count} messages were taken before their sender was slowed down");
}
