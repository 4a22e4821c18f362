//! Streams between two servers over the ups and downs of the network: both ways on one, cut off and gone on with, servers that
//! are away, that know no acknowledgements, that take no large stanzas.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::authority::{Authority, Identity};
use crate::s2s::{Plan, free};
use crate::talk::Talk;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way to a server that can be cut.
struct Line {
    address: SocketAddr,
    cuts: watch::Sender<u32>,
}

impl Line {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(free()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, cut) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts }
    }

    /// All connections break off.
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// Where one that is to be found by another way is looked for.
fn found_at(domain: &str, address: SocketAddr, certificates: &str) -> String {
    format!("[s2s.domain.'{domain}']\naddresses = ['{address}']\ncertificates = '{certificates}'\n")
}

/// The bodies that a user has got so far, each once and in their order.
async fn hear_all(user: &mut Talk, what: &str, count: usize) {
    for n in 0..count {
        let heard = tokio::time::timeout(PATIENCE, user.hear("</body>"))
            .await
            .unwrap_or_else(|_| panic!("{what} {n} is missing"));
        let body = heard.rsplit("<body>").next().unwrap().trim_end_matches("</body>").to_owned();
        assert_eq!(body, format!("{what} {n}"));
    }
}

async fn say(user: &mut Talk, to: &str, body: &str) {
    user.say(&format!("<message type='chat' id='{body}' to='{to}'><body>{body}</body></message>")).await;
}

fn two() -> (Authority, Plan, Plan) {
    let authority = Authority::new("the tests' authority");
    let a = Plan::new("a.example", authority.issue(&["a.example"]));
    let b = Plan::new("b.example", authority.issue(&["b.example"]));
    (authority, a, b)
}

#[tokio::test]
async fn the_answer_comes_by_the_stream_of_the_question() {
    let (authority, a, b) = two();
    let first = a.serve(&authority, &b.found("starttls", "valid")).await;
    // Nobody is where b.example looks for a.example.
    let second = b.serve(&authority, &found_at("a.example", free(), "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    let mut juliet = second.login("juliet@b.example", "j").await;
    for n in 0..10 {
        say(&mut romeo, "juliet@b.example", &format!("there {n}")).await;
        juliet.hear(&format!("<body>there {n}</body>")).await;
        say(&mut juliet, "romeo@a.example/r", &format!("back {n}")).await;
        romeo.hear(&format!("<body>back {n}</body>")).await;
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_is_cut_off_goes_on_where_it_was_both_ways() {
    const MESSAGES: usize = 200;
    let (authority, a, b) = two();
    let line = Line::to(b.starttls).await;
    let first = a.serve(&authority, &found_at("b.example", line.address, "valid")).await;
    let second = b.serve(&authority, &found_at("a.example", free(), "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    let mut juliet = second.login("juliet@b.example", "j").await;
    // Once in each direction, so that the stream is there and takes both.
    say(&mut romeo, "juliet@b.example", "there 0").await;
    say(&mut juliet, "romeo@a.example/r", "back 0").await;
    hear_all(&mut juliet, "there", 1).await;
    hear_all(&mut romeo, "back", 1).await;
    for n in 0..MESSAGES {
        say(&mut romeo, "juliet@b.example", &format!("to {n}")).await;
        say(&mut juliet, "romeo@a.example/r", &format!("fro {n}")).await;
        if n % 40 == 20 {
            line.cut();
        }
    }
    tokio::join!(hear_all(&mut juliet, "to", MESSAGES), hear_all(&mut romeo, "fro", MESSAGES));
    // Nothing comes a second time behind it.
    say(&mut romeo, "juliet@b.example", "last 0").await;
    hear_all(&mut juliet, "last", 1).await;
    say(&mut juliet, "romeo@a.example/r", "end 0").await;
    hear_all(&mut romeo, "end", 1).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_waits_outlives_both_servers() {
    let (authority, a, b) = two();
    let first = a.serve(&authority, &b.found("starttls", "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    for n in 0..5 {
        say(&mut romeo, "juliet@b.example", &format!("waiting {n}")).await;
    }
    romeo.synced("a.example").await;
    let first = first.restart().await;
    let second = b.serve(&authority, &a.found("starttls", "valid")).await;
    let mut juliet = second.login("juliet@b.example", "j").await;
    hear_all(&mut juliet, "waiting", 5).await;
    // Once more from the start: what has been delivered does not come again.
    let first = first.restart().await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    say(&mut romeo, "juliet@b.example", "new 0").await;
    hear_all(&mut juliet, "new", 1).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_server_that_is_restarted_is_found_again() {
    let (authority, a, b) = two();
    let first = a.serve(&authority, &b.found("starttls", "valid")).await;
    let mut second = b.serve(&authority, &a.found("starttls", "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    for n in 0..3 {
        let mut juliet = second.login("juliet@b.example", "j").await;
        say(&mut romeo, "juliet@b.example", &format!("round {n}")).await;
        juliet.hear(&format!("<body>round {n}</body>")).await;
        say(&mut juliet, "romeo@a.example", &format!("answer {n}")).await;
        romeo.hear(&format!("<body>answer {n}</body>")).await;
        drop(juliet);
        second = second.restart().await;
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_the_other_server_does_not_take_goes_back_and_the_rest_goes_on() {
    let (authority, a, mut b) = two();
    b.more = "stanza = '10000 B'\n".to_owned();
    let first = a.serve(&authority, &b.found("starttls", "valid")).await;
    let second = b.serve(&authority, &a.found("starttls", "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    let mut juliet = second.login("juliet@b.example", "j").await;
    say(&mut romeo, "juliet@b.example", "before 0").await;
    let large = "x".repeat(20_000);
    romeo.say(&format!("<message type='chat' id='large' to='juliet@b.example'><body>{large}</body></message>")).await;
    say(&mut romeo, "juliet@b.example", "after 0").await;
    let error = romeo.hear("</error>").await;
    assert!(error.contains("id='large'") && error.contains("<policy-violation"), "{error}");
    hear_all(&mut juliet, "before", 1).await;
    hear_all(&mut juliet, "after", 1).await;
    // On the way back the stream's opener has said what it takes.
    say(&mut juliet, "romeo@a.example", "fine 0").await;
    hear_all(&mut romeo, "fine", 1).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_domain_that_is_not_there_is_told_in_time() {
    let (authority, a, _) = two();
    let mut a = a;
    a.more = "wait = '5 seconds'\nwait_iq = '5 seconds'\nnameservers = ['127.0.0.1:9']\n".to_owned();
    let first = a.serve(&authority, &found_at("b.example", free(), "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    say(&mut romeo, "juliet@b.example", "lost").await;
    let error = romeo.hear("</error>").await;
    assert!(error.contains("<remote-server-timeout") && error.contains("connection refused"), "{error}");
    romeo.say("<iq type='get' id='q' to='b.example'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    let error = romeo.hear("</error>").await;
    assert!(error.contains("id='q'") && error.contains("<remote-server-timeout"), "{error}");
    first.stop().await;
}

/// The beginning of a stream to `to`, as another server's.
fn header(from: &str, to: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams' from='{from}' to='{to}' version='1.0'>"
    )
}

/// A server of the test's own that takes one stream, without any feature but those.
async fn take(listener: &TcpListener, domain: &str, identity: Option<&Identity>, features: &str) -> Talk {
    let (tcp, _) = listener.accept().await.unwrap();
    let mut talk = Talk::over(tcp);
    talk.hear("<stream:stream").await;
    talk.hear(">").await;
    let answer = |id: &str, inside: &str| {
        let header = header(domain, "a.example").replace("<stream:stream", &format!("<stream:stream id='{id}'"));
        format!("{header}<stream:features>{inside}</stream:features>")
    };
    let Some(identity) = identity else {
        talk.say(&answer("1", features)).await;
        return talk;
    };
    talk.say(&answer("1", "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>")).await;
    talk.hear("<starttls").await;
    talk.hear(">").await;
    talk.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    talk.secure_as_server(identity).await;
    talk.hear("<stream:stream").await;
    talk.hear(">").await;
    talk.say(&answer("2", features)).await;
    talk
}

#[tokio::test]
async fn a_server_from_before_tls_is_spoken_to_if_the_conf_names_it() {
    let (authority, a, _) = two();
    let listener = TcpListener::bind(free()).await.unwrap();
    let first = a.serve(&authority, &found_at("old.example", listener.local_addr().unwrap(), "plain")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    say(&mut romeo, "u@old.example", "hello").await;
    // No version, so no features: only dialback.
    let (tcp, _) = listener.accept().await.unwrap();
    let mut old = Talk::over(tcp);
    old.hear("<stream:stream").await;
    old.hear(">").await;
    let answer = header("old.example", "a.example").replace(" version='1.0'", "");
    old.say(&answer.replace("<stream:stream", "<stream:stream id='old'")).await;
    let request = old.hear("</db:result>").await;
    let key = request.rsplit('>').nth(1).unwrap().trim_end_matches("</db:result").to_owned();
    old.say("<db:result from='old.example' to='a.example' type='valid'/>").await;
    let message = old.hear("</message>").await;
    assert!(message.contains("<body>hello</body>"), "{message}");
    // And the way back: it connects, says nothing of XMPP 1.0, and is asked for its key.
    let mut back = Talk::connect(a.starttls).await;
    back.say(&header("old.example", "a.example").replace(" version='1.0'", "")).await;
    back.hear("<stream:stream").await;
    let heard = back.hear(">").await;
    assert!(heard.contains(" id='") && !heard.contains("version"), "{heard}");
    back.say("<db:result from='old.example' to='a.example'>made-up</db:result>").await;
    // By the stream that is there, or by one more.
    let asked = old.hear("</db:verify>").await;
    let id = asked.rsplit("id='").next().unwrap().split('\'').next().unwrap().to_owned();
    assert!(asked.contains(">made-up<") && !asked.contains(&key), "{asked}");
    old.say(&format!("<db:verify from='old.example' to='a.example' id='{id}' type='valid'/>")).await;
    back.hear("type='valid'/>").await;
    back.say("<message from='u@old.example' to='romeo@a.example' type='chat'><body>well</body></message>").await;
    romeo.hear("<body>well</body>").await;
    first.stop().await;
}

#[tokio::test]
async fn without_acknowledgements_a_ping_says_what_has_arrived() {
    let (authority, a, _) = two();
    let identity = authority.issue(&["b.example"]);
    let listener = TcpListener::bind(free()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let first = a.serve(&authority, &found_at("b.example", address, "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    say(&mut romeo, "u@b.example", "one").await;
    let dialback = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";
    let mut theirs = take(&listener, "b.example", Some(&identity), dialback).await;
    theirs.hear("</db:result>").await;
    theirs.say("<db:result from='b.example' to='a.example' type='valid'/>").await;
    theirs.hear("<body>one</body>").await;
    let ping = theirs.hear("</iq>").await;
    assert!(ping.contains("urn:xmpp:ping") && ping.contains("from='a.example'"), "{ping}");
    let id = ping.split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    // The answer comes by a stream of the other server's own.
    let mut back = Talk::connect(a.starttls).await;
    back.say(&header("b.example", "a.example")).await;
    back.hear("</stream:features>").await;
    back.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    back.hear("<proceed").await;
    back.hear(">").await;
    back.secure("a.example", Some(&identity), None).await;
    back.say(&header("b.example", "a.example")).await;
    let features = back.hear("</stream:features>").await;
    assert!(features.contains("EXTERNAL"), "{features}");
    back.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
    back.hear("<success").await;
    back.hear(">").await;
    back.say(&header("b.example", "a.example")).await;
    back.hear("</stream:features>").await;
    back.say(&format!("<iq type='result' id='{id}' from='b.example' to='a.example'/>")).await;
    // What is not confirmed is sent again on the next stream; what is, is not.
    say(&mut romeo, "u@b.example", "two").await;
    theirs.hear("<body>two</body>").await;
    theirs.hear("urn:xmpp:ping").await;
    drop(theirs);
    let mut again = take(&listener, "b.example", Some(&identity), dialback).await;
    again.hear("</db:result>").await;
    again.say("<db:result from='b.example' to='a.example' type='valid'/>").await;
    let heard = again.hear("</message>").await;
    assert!(heard.contains("<body>two</body>"), "{heard}");
    drop(back);
    first.stop().await;
}

#[tokio::test]
async fn a_stream_that_nobody_uses_is_asked_whether_it_lives_and_closed_in_the_end() {
    let (authority, mut a, _) = two();
    a.more = "idle = '10 seconds'\nkeepalive = '5 seconds'\n".to_owned();
    let identity = authority.issue(&["b.example"]);
    let listener = TcpListener::bind(free()).await.unwrap();
    let first = a.serve(&authority, &found_at("b.example", listener.local_addr().unwrap(), "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    say(&mut romeo, "u@b.example", "one").await;
    let features = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback><sm xmlns='urn:xmpp:sm:3'/>";
    let mut theirs = take(&listener, "b.example", Some(&identity), features).await;
    theirs.hear("</db:result>").await;
    theirs.say("<db:result from='b.example' to='a.example' type='valid'/>").await;
    let enable = theirs.hear("/>").await;
    assert!(enable.contains("<enable xmlns='urn:xmpp:sm:3' resume='true'"), "{enable}");
    theirs.say("<enabled xmlns='urn:xmpp:sm:3' id='some' resume='true'/>").await;
    theirs.hear("<body>one</body>").await;
    theirs.hear("<r xmlns='urn:xmpp:sm:3'/>").await;
    let acknowledged = "<a xmlns='urn:xmpp:sm:3' h='1'/>";
    theirs.say(acknowledged).await;
    // Silence.
    theirs.hear("<r xmlns='urn:xmpp:sm:3'/>").await;
    theirs.say(acknowledged).await;
    let end = theirs.hear("</stream:stream>").await;
    assert!(end.contains("<a xmlns='urn:xmpp:sm:3' h='0'/>"), "{end}");
    theirs.say("</stream:stream>").await;
    theirs.hear_out().await;
    // The next message opens another one, and an id of one that has ended in order is not asked for.
    say(&mut romeo, "u@b.example", "two").await;
    let mut again = take(&listener, "b.example", Some(&identity), features).await;
    again.hear("</db:result>").await;
    again.say("<db:result from='b.example' to='a.example' type='valid'/>").await;
    again.hear("<enable xmlns='urn:xmpp:sm:3'").await;
    again.say("<failed xmlns='urn:xmpp:sm:3'/>").await;
    let heard = again.hear("</message>").await;
    assert!(heard.contains("<body>two</body>"), "{heard}");
    first.stop().await;
}

#[tokio::test]
async fn many_domains_of_one_server_each_prove_themselves_on_one_stream() {
    let (authority, a, _) = two();
    let listener = TcpListener::bind(free()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let domains = ["x.example", "y.example", "z.example"];
    let identity = Arc::new(crate::authority::self_signed(&domains));
    let found: String = domains.iter().map(|domain| found_at(domain, address, "dialback")).collect();
    let first = a.serve(&authority, &found).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    // Their authority: says that every key is right but z.example's.
    let shown = identity.clone();
    tokio::spawn(async move {
        loop {
            let mut asked = take(&listener, "x.example", Some(&shown), "").await;
            tokio::spawn(async move {
                while let Ok(heard) = asked.try_hear("</db:verify>").await {
                    let value = |name: &str| {
                        let from = heard.split(&format!(" {name}='")).nth(1).unwrap();
                        from.split('\'').next().unwrap().to_owned()
                    };
                    let domain = value("to");
                    let kind = if domain == "z.example" { "invalid" } else { "valid" };
                    let id = value("id");
                    asked.say(&format!("<db:verify from='{domain}' to='a.example' id='{id}' type='{kind}'/>")).await;
                }
            });
        }
    });
    let mut theirs = Talk::connect(a.starttls).await;
    theirs.say(&header("x.example", "a.example")).await;
    theirs.hear("</stream:features>").await;
    theirs.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    theirs.hear("<proceed").await;
    theirs.hear(">").await;
    theirs.secure("a.example", Some(&identity), None).await;
    theirs.say(&header("x.example", "a.example")).await;
    let features = theirs.hear("</stream:features>").await;
    assert!(!features.contains("EXTERNAL") && features.contains("<errors/>"), "{features}");
    let message = |domain: &str| {
        format!("<message from='u@{domain}' to='romeo@a.example' type='chat'><body>from {domain}</body></message>")
    };
    for domain in ["x.example", "y.example"] {
        theirs.say(&format!("<db:result from='{domain}' to='a.example'>key of {domain}</db:result>")).await;
        let answer = theirs.hear("/>").await;
        assert!(answer.contains("type='valid'") && answer.contains(&format!("to='{domain}'")), "{answer}");
        theirs.say(&message(domain)).await;
        romeo.hear(&format!("<body>from {domain}</body>")).await;
    }
    // What goes wrong for one domain is no harm to the others.
    theirs.say("<db:result from='z.example' to='a.example'>key</db:result>").await;
    let answer = theirs.hear("</db:result>").await;
    assert!(answer.contains("type='error'") && answer.contains("<forbidden"), "{answer}");
    theirs.say("<db:result from='x.example' to='elsewhere.example'>key</db:result>").await;
    let answer = theirs.hear("</db:result>").await;
    assert!(answer.contains("type='error'") && answer.contains("<item-not-found"), "{answer}");
    theirs.say(&message("y.example")).await;
    romeo.hear("<body>from y.example</body>").await;
    // But it may not speak all the same.
    theirs.say(&message("z.example")).await;
    let end = theirs.hear("</stream:error>").await;
    assert!(end.contains("<invalid-from"), "{end}");
    first.stop().await;
}

#[tokio::test]
async fn a_reload_ends_the_streams_of_those_who_are_not_welcome_any_more() {
    let (authority, mut a, b) = two();
    a.more = "wait = '5 seconds'\n".to_owned();
    let first = a.serve(&authority, &b.found("starttls", "valid")).await;
    let second = b.serve(&authority, &a.found("starttls", "valid")).await;
    let mut romeo = first.login("romeo@a.example", "r").await;
    let mut juliet = second.login("juliet@b.example", "j").await;
    say(&mut romeo, "juliet@b.example", "there 0").await;
    hear_all(&mut juliet, "there", 1).await;
    second.reload(|conf| conf.replace("[s2s]\n", "[s2s]\ndeny = ['a.example']\n")).await;
    say(&mut juliet, "romeo@a.example", "back").await;
    let error = juliet.hear("</error>").await;
    assert!(error.contains("type='error'"), "{error}");
    say(&mut romeo, "juliet@b.example", "there again").await;
    let error = romeo.hear("</error>").await;
    assert!(error.contains("<remote-server-timeout"), "{error}");
    first.stop().await;
    second.stop().await;
}
