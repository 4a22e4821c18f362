//! External components (XEP-0114) over true sockets: who may come in, what it may say, and what it gets while it comes and goes.

mod flows;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rookery_core::config::{Conf, ListenerKind, TlsMode};
use sha1::{Digest, Sha1};

use crate::served::Served;
use crate::talk::Talk;

const CONF: &str = "
[host.localhost]
[[listen]]
kind = 'component'
address = '127.0.0.1:0'
tls = 'plain'
[component.'irc.localhost']
secret = 'open sesame'
[component.'sms.localhost']
secret = 'another'
[component.'hasty.localhost']
secret = 'open sesame'
wait = '1 second'
";
const ROMEO: &str = "romeo@localhost";

async fn served() -> Served {
    Served::new(CONF, &[], &[ROMEO, "juliet@localhost"]).await
}

/// A component: its stream, and an answer to each ping unless the test keeps it silent.
struct Component {
    talk: Talk,
    domain: String,
}

impl Component {
    /// A stream whose header has been answered, and the answer to its handshake.
    async fn begin(served: &Served, domain: &str) -> (Talk, String) {
        let talk = Talk::connect(served.port(ListenerKind::Component, TlsMode::Plain)).await;
        Self::begin_over(talk, domain).await
    }

    async fn begin_over(mut talk: Talk, domain: &str) -> (Talk, String) {
        talk.say(&format!(
            "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{domain}'>"
        ))
        .await;
        let header = talk.hear("'>").await;
        let id = header.split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        (talk, id)
    }

    /// What a component is told that comes with this secret.
    async fn refused(served: &Served, domain: &str, secret: &str) -> String {
        let (mut talk, id) = Self::begin(served, domain).await;
        talk.say(&handshake(&id, secret)).await;
        talk.hear_out().await
    }

    async fn connect(served: &Served, domain: &str, secret: &str) -> Self {
        let (mut talk, id) = Self::begin(served, domain).await;
        talk.say(&handshake(&id, secret)).await;
        talk.hear("<handshake/>").await;
        Self { talk, domain: domain.to_owned() }
    }

    async fn irc(served: &Served) -> Self {
        Self::connect(served, "irc.localhost", "open sesame").await
    }

    async fn say(&mut self, stanza: &str) {
        self.talk.say(stanza).await;
    }

    /// All up to and with this text; pings are not answered.
    async fn hear(&mut self, until: &str) -> String {
        self.talk.hear(until).await
    }

    /// Answers the next ping and returns what came before it.
    async fn pong(&mut self) -> String {
        self.answer("result").await
    }

    async fn answer(&mut self, kind: &str) -> String {
        let heard = self.hear("<ping xmlns='urn:xmpp:ping'/></iq>").await;
        let at = heard.rfind("<iq").unwrap();
        let id = heard[at..].split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let domain = &self.domain;
        self.say(&format!("<iq type='{kind}' id='{id}' from='{domain}' to='localhost'/>")).await;
        heard[..at].to_owned()
    }

    /// Until the server has taken all that was said.
    async fn synced(&mut self) -> String {
        let (domain, number) = (self.domain.clone(), ASKED.fetch_add(1, Ordering::Relaxed));
        self.say(&format!(
            "<iq type='get' id='synced-{number}' from='{domain}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await;
        let heard = self.hear(&format!("id='synced-{number}'")).await;
        self.hear(">").await;
        heard
    }
}

/// Questions so far. What a component has not answered for, answers among it, comes again to its next connection: so no two
/// questions are the same.
static ASKED: AtomicUsize = AtomicUsize::new(0);

fn handshake(id: &str, secret: &str) -> String {
    let digits: String = Sha1::digest(format!("{id}{secret}")).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<handshake>{digits}</handshake>")
}

fn bodies(heard: &str) -> Vec<&str> {
    heard.split("<body>").skip(1).map(|rest| rest.split("</body>").next().unwrap()).collect()
}

#[tokio::test]
async fn stanzas_of_every_kind_go_both_ways() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let mut irc = Component::irc(&served).await;

    romeo.say("<message to='a@irc.localhost' type='chat' id='1'><body>hello</body></message>").await;
    let heard = irc.hear("</message>").await;
    assert!(heard.contains("from='romeo@localhost/orchard'") && heard.contains("to='a@irc.localhost'"), "{heard}");
    irc.say("<message from='a@irc.localhost/x' to='romeo@localhost' type='chat'><body>hi</body></message>").await;
    let heard = romeo.hear("</message>").await;
    assert!(heard.contains("from='a@irc.localhost/x'") && heard.contains("<body>hi</body>"), "{heard}");

    romeo.say("<iq to='irc.localhost' type='get' id='v'><query xmlns='jabber:iq:version'/></iq>").await;
    let heard = irc.hear("<query xmlns='jabber:iq:version'/></iq>").await;
    assert!(heard.contains("from='romeo@localhost/orchard'"), "{heard}");
    irc.say(
        "<iq from='irc.localhost' to='romeo@localhost/orchard' type='result' id='v'>\
         <query xmlns='jabber:iq:version'><name>Gate</name></query></iq>",
    )
    .await;
    assert!(romeo.hear("</iq>").await.contains("<name>Gate</name>"));

    romeo.say("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>").await;
    romeo.hear("id='roster'").await;
    // Presence: a subscription from request to approval, then the contact's.
    romeo.say("<presence to='a@irc.localhost' type='subscribe'/>").await;
    irc.hear("type='subscribe'").await;
    irc.say("<presence from='a@irc.localhost' to='romeo@localhost' type='subscribed'/>").await;
    irc.say("<presence from='a@irc.localhost/x' to='romeo@localhost'><show>away</show></presence>").await;
    romeo.hear("type='subscribed'").await;
    romeo.hear("<show>away</show>").await;
    irc.say("<presence from='a@irc.localhost' to='romeo@localhost' type='subscribe'/>").await;
    romeo.hear("type='subscribe'").await;
    romeo.say("<presence to='a@irc.localhost' type='subscribed'/>").await;
    irc.hear("type='subscribed'").await;
    romeo.say("</stream:stream>").await;
    irc.hear("type='unavailable'").await;
    served.stop().await;
}

#[tokio::test]
async fn a_user_of_a_component_is_in_a_room() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let mut irc = Component::irc(&served).await;
    let enter = "<x xmlns='http://jabber.org/protocol/muc'/>";
    romeo.say(&format!("<presence to='room@conference.localhost/romeo'>{enter}</presence>")).await;
    romeo.hear("code='110'").await;
    romeo
        .say(
            "<iq to='room@conference.localhost' type='set' id='c'><query xmlns='http://jabber.org/protocol/muc#owner'>\
             <x xmlns='jabber:x:data' type='submit'/></query></iq>",
        )
        .await;
    romeo.hear("id='c'").await;
    irc.say(&format!("<presence from='a@irc.localhost/x' to='room@conference.localhost/guest'>{enter}</presence>"))
        .await;
    assert!(irc.hear("code='110'").await.contains("to='a@irc.localhost/x'"));
    romeo.hear("room@conference.localhost/guest").await;
    irc.say(
        "<message from='a@irc.localhost/x' to='room@conference.localhost' type='groupchat'><body>from afar</body></message>",
    )
    .await;
    romeo.hear("<body>from afar</body>").await;
    irc.hear("<body>from afar</body>").await;
    served.stop().await;
}

#[tokio::test]
async fn several_come_by_one_port_and_talk_to_each_other() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let mut irc = Component::irc(&served).await;
    let mut sms = Component::connect(&served, "sms.localhost", "another").await;
    romeo.say("<message to='irc.localhost'><body>to irc</body></message>").await;
    romeo.say("<message to='sms.localhost'><body>to sms</body></message>").await;
    assert_eq!(bodies(&irc.pong().await), ["to irc"]);
    assert_eq!(bodies(&sms.pong().await), ["to sms"]);
    irc.say("<message from='a@irc.localhost' to='b@sms.localhost'><body>aside</body></message>").await;
    assert!(sms.hear("</message>").await.contains("from='a@irc.localhost'"));
    romeo
        .say("<iq type='get' id='items' to='localhost'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
        .await;
    let items = romeo.hear("</iq>").await;
    for domain in ["irc.localhost", "sms.localhost", "conference.localhost"] {
        assert!(items.contains(&format!("jid='{domain}'")), "{items}");
    }
    served.stop().await;
}

/// security.md A12, and A11's spellings: the stream ends with the error of RFC 6120 §4.9.3, nothing is routed, and other
/// components do not notice.
#[tokio::test]
async fn a12_a_component_speaks_for_its_own_domain_alone() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let mut sms = Component::connect(&served, "sms.localhost", "another").await;
    let from = |from: &str| format!("<message from='{from}' to='romeo@localhost'><body>forged</body></message>");
    let iq = "<iq type='get' id='1' from='localhost' to='romeo@localhost/orchard'><ping xmlns='urn:xmpp:ping'/></iq>";
    let forged = [
        (from("juliet@localhost"), "invalid-from"),
        (from("localhost"), "invalid-from"),
        (from("romeo@localhost/orchard"), "invalid-from"),
        (from("a@sms.localhost"), "invalid-from"),
        (from("a@sub.irc.localhost"), "invalid-from"),
        (from("a@xirc.localhost"), "invalid-from"),
        (from("a@irc.localhost.example"), "invalid-from"),
        (from("room@conference.localhost/nick"), "invalid-from"),
        (from("a@elsewhere.example"), "invalid-from"),
        // A Cyrillic letter, and labels that no domain has.
        (from("a@\u{456}rc.localhost"), "invalid-from"),
        (from("a@xn--irc-.localhost"), "improper-addressing"),
        (from("a@irc..localhost"), "improper-addressing"),
        (from(""), "improper-addressing"),
        (from("@irc.localhost"), "improper-addressing"),
        ("<message to='romeo@localhost'><body>forged</body></message>".to_owned(), "improper-addressing"),
        ("<message from='a@irc.localhost'><body>forged</body></message>".to_owned(), "improper-addressing"),
        ("<presence from='juliet@localhost' to='romeo@localhost' type='subscribe'/>".to_owned(), "invalid-from"),
        (iq.to_owned(), "invalid-from"),
        // What cannot be answered in peace may not be answered to somebody else, either.
        ("<iq type='get' id='1' from='romeo@localhost' to='@'><x xmlns='y'/></iq>".to_owned(), "invalid-from"),
        ("<iq type='get' id='1' from='a@irc.localhost'/>".to_owned(), "improper-addressing"),
        ("<iq type='get' id='1' to='romeo@localhost'/>".to_owned(), "improper-addressing"),
    ];
    for (stanza, condition) in forged {
        let mut irc = Component::irc(&served).await;
        irc.say(&stanza).await;
        let heard = irc.talk.hear_out().await;
        assert!(heard.contains(&format!("<stream:error><{condition} ")), "{stanza}: {heard}");
        assert!(!romeo.synced("localhost").await.contains("forged"), "{stanza}");
    }
    // A recipient that is none is no lie: that is told, and the stream goes on.
    let mut irc = Component::irc(&served).await;
    irc.say("<message id='garbage' from='a@irc.localhost' to='@'><body>x</body></message>").await;
    assert!(irc.hear("</message>").await.contains("<jid-malformed "));
    // Other spellings of its own domain are its own: there is one form of each address here.
    for own in ["a@IRC.localhost", "a@irc.localhost.", "irc.localhost/x", "a@\u{ff49}rc.localhost"] {
        irc.say(&from(own).replace("forged", "true")).await;
        let heard = romeo.hear("<body>true</body>").await;
        assert!(heard.contains("irc.localhost") && !heard.contains("IRC"), "{heard}");
    }
    sms.say("<message from='sms.localhost' to='romeo@localhost'><body>untouched</body></message>").await;
    romeo.hear("<body>untouched</body>").await;
    served.stop().await;
}

/// security.md A4, A12: whatever the handshake is, its refusal is the same and takes its time.
#[tokio::test]
async fn a12_a_wrong_handshake_is_answered_late_and_helps_nobody() {
    let served = served().await;
    for (domain, secret) in [("irc.localhost", "open"), ("irc.localhost", "another"), ("sms.localhost", "open sesame")]
    {
        let begun = Instant::now();
        let heard = Component::refused(&served, domain, secret).await;
        assert!(heard.contains("<stream:error><not-authorized "), "{heard}");
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    // A handshake is worth nothing on another stream, and neither is what comes behind a wrong one.
    let (_first, id) = Component::begin(&served, "irc.localhost").await;
    let (mut second, _) = Component::begin(&served, "irc.localhost").await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    second.say(&handshake(&id, "open sesame")).await;
    second.say("<message from='a@irc.localhost' to='romeo@localhost'><body>forged</body></message>").await;
    assert!(second.hear_out().await.contains("<not-authorized "));
    assert!(!romeo.synced("localhost").await.contains("forged"));

    for unknown in ["localhost", "elsewhere.example", "conference.localhost", "sub.irc.localhost"] {
        let refusal = Component::begin(&served, unknown).await.0.hear_out().await;
        assert!(refusal.contains("<stream:error><host-unknown "), "{unknown}: {refusal}");
    }
    served.stop().await;
}

/// Who comes later with the right secret has the domain: what the one before is not known to have comes first, in order, and
/// what that one says then is not taken.
#[tokio::test]
async fn a_second_connection_takes_the_place_of_the_first() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let mut first = Component::irc(&served).await;
    for n in 0..4 {
        romeo.say(&format!("<message to='irc.localhost'><body>{n}</body></message>")).await;
        if n == 1 {
            let mut had = bodies(&first.pong().await).len();
            while had < 2 {
                had += bodies(&first.pong().await).len();
            }
        }
    }
    romeo.synced("localhost").await;
    let mut second = Component::irc(&served).await;
    let heard = second.hear("<body>3</body>").await;
    assert_eq!(bodies(&heard), ["2", "3"]);
    first.say("<message from='irc.localhost' to='romeo@localhost'><body>late</body></message>").await;
    let heard = first.talk.hear_out().await;
    assert!(heard.contains("<stream:error><conflict "), "{heard}");
    second.pong().await;
    second.say("<message from='irc.localhost' to='romeo@localhost'><body>in time</body></message>").await;
    let heard = romeo.hear("<body>in time</body>").await;
    assert!(!heard.contains("late"), "{heard}");
    served.stop().await;
}

/// security.md A12: a component that the conf does not have any more speaks for nobody.
#[tokio::test]
async fn a12_a_component_that_is_taken_from_the_conf_is_not_heard_any_more() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let mut irc = Component::irc(&served).await;
    served.reload(|conf| conf.replace("[component.'irc.localhost']\nsecret = 'open sesame'\n", "")).await;
    irc.say("<message from='irc.localhost' to='romeo@localhost'><body>late</body></message>").await;
    let heard = irc.talk.hear_out().await;
    assert!(heard.contains("<stream:error><host-gone "), "{heard}");
    let mut sms = Component::connect(&served, "sms.localhost", "another").await;
    sms.say("<message from='sms.localhost' to='romeo@localhost'><body>in time</body></message>").await;
    let heard = romeo.hear("<body>in time</body>").await;
    assert!(!heard.contains("late"), "{heard}");
    served.stop().await;
}

/// A component that dies and comes back, again and again, while it is written to: nothing is lost, nothing is out of order,
/// and what it had answered for does not come twice.
#[tokio::test]
async fn a_component_is_restarted_under_traffic() {
    const MESSAGES: usize = 400;
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let writing = async {
        for n in 0..MESSAGES {
            romeo.say(&format!("<message to='a@irc.localhost' id='{n}'><body>{n}</body></message>")).await;
            if n % 20 == 0 {
                romeo.synced("localhost").await;
            }
        }
        romeo
    };
    let reading = async {
        // All that was ever read, and what of it the server knows to be taken.
        let (mut taken, mut settled) = (Vec::<usize>::new(), HashSet::<usize>::new());
        loop {
            let mut irc = Component::irc(&served).await;
            for _ in 0..3 {
                let answered = numbers(&irc.pong().await);
                let behind = numbers(&irc.synced().await);
                for number in answered.iter().chain(&behind) {
                    assert!(!settled.contains(number), "{number} came again");
                }
                settled.extend(&answered);
                taken.extend(answered.iter().chain(&behind));
                if taken.contains(&(MESSAGES - 1)) {
                    return taken;
                }
            }
            // It dies with something in its hands that it has not answered for.
            taken.extend(numbers(&irc.hear("</message>").await));
        }
    };
    let (mut romeo, mut taken) = tokio::join!(writing, reading);
    let mut seen = HashSet::new();
    taken.retain(|number| seen.insert(*number));
    assert_eq!(taken, (0..MESSAGES).collect::<Vec<_>>());
    assert!(!romeo.synced("localhost").await.contains("type='error'"));
    served.stop().await;
}

fn numbers(heard: &str) -> Vec<usize> {
    bodies(heard).iter().map(|body| body.parse().unwrap()).collect()
}

/// An error says as well as a result that the ping was read; and what was answered for is not sent again.
#[tokio::test]
async fn any_answer_to_a_ping_counts() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    for kind in ["error", "result"] {
        let mut irc = Component::irc(&served).await;
        romeo.say(&format!("<message to='irc.localhost'><body>{kind}</body></message>")).await;
        let mut heard = irc.answer(kind).await;
        while !heard.contains("<body>") {
            heard = irc.answer(kind).await;
        }
        assert_eq!(bodies(&heard), [kind]);
        irc.synced().await;
    }
    let mut irc = Component::irc(&served).await;
    romeo.say("<message to='irc.localhost'><body>last</body></message>").await;
    assert_eq!(bodies(&irc.hear("<body>last</body>").await), ["last"]);
    served.stop().await;
}

#[tokio::test]
async fn what_waits_too_long_comes_back_once_and_is_not_delivered_besides() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    romeo.say("<message to='a@hasty.localhost' id='m'><body>1</body></message>").await;
    romeo.say("<message to='a@hasty.localhost' id='e' type='error'><body>2</body></message>").await;
    romeo.say("<iq to='hasty.localhost' id='i' type='get'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    let mut heard = romeo.hear("<remote-server-timeout ").await;
    heard += &romeo.hear("<remote-server-timeout ").await;
    for id in ["id='m'", "id='i'"] {
        assert_eq!(heard.matches(id).count(), 1, "{heard}");
    }
    let mut hasty = Component::connect(&served, "hasty.localhost", "open sesame").await;
    romeo.say("<message to='a@hasty.localhost'><body>3</body></message>").await;
    assert_eq!(bodies(&hasty.pong().await), ["3"]);
    assert!(!romeo.synced("localhost").await.contains("remote-server-timeout"));
    served.stop().await;
}

/// What waits for a component is on disk before its sender is told that it is handled, and outlives the server.
#[tokio::test]
async fn what_waits_outlives_the_server() {
    let served = served().await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    romeo.say("<enable xmlns='urn:xmpp:sm:3'/>").await;
    romeo.hear("<enabled").await;
    for n in 0..5 {
        romeo.say(&format!("<message to='a@irc.localhost'><body>{n}</body></message>")).await;
    }
    romeo.say("<r xmlns='urn:xmpp:sm:3'/>").await;
    romeo.hear("h='5'").await;
    let served = served.restart().await;
    let mut irc = Component::irc(&served).await;
    assert_eq!(bodies(&irc.hear("<body>4</body>").await), ["0", "1", "2", "3", "4"]);
    served.stop().await;
}

#[tokio::test]
async fn the_ends_of_server_and_component_are_in_order() {
    let served = served().await;
    let mut irc = Component::irc(&served).await;
    irc.say("</stream:stream>").await;
    assert!(irc.talk.hear_out().await.ends_with("</stream:stream>"));
    let mut irc = Component::irc(&served).await;
    let heard = tokio::join!(served.stop(), irc.talk.hear_out()).1;
    assert!(heard.contains("<system-shutdown ") && heard.ends_with("</stream:stream>"), "{heard}");
}

#[test]
fn mistakes_in_the_conf_are_named() {
    let listen = "[[listen]]\nkind = 'component'\naddress = '127.0.0.1:0'\n";
    for (conf, says) in [
        ("[component.'irc.localhost']\n", "secret"),
        ("[component.'irc.localhost']\nsecret = ''\n", "secret"),
        ("[component.localhost]\nsecret = 'x'\n", "one of the hosts"),
        ("[component.'a@irc.localhost']\nsecret = 'x'\n", "no domain"),
        ("[component.'irc.localhost']\nsecret = 'x'\n[component.'IRC.localhost']\nsecret = 'x'\n", "same domain"),
        (&format!("{listen}tls = 'starttls'\n"), "tls"),
        ("[[listen]]\nkind = 'component'\naddress = '[::]:5347'\ntls = 'plain'\n", "in the clear"),
    ] {
        let error = Conf::parse(&format!("[host.localhost]\n{conf}"), "test.toml").unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("'x'"), "{conf}: {error}");
    }
}
