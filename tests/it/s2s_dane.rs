//! Servers that call us and show certificates that DNS names, or does not (DANE, RFC 7712): a signed zone vouches for a caller,
//! an unsigned one for nobody, and a stranger cannot have us ask DNS, or other servers, for much at once.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rookery_core::config::{ListenerKind, TlsMode};
use rookery_rigs::dns::{Server as Nameserver, Trouble};
use tokio::net::{TcpListener, TcpSocket};

use crate::authority::{Authority, Identity, self_signed};
use crate::s2s_dns::names;
use crate::served::Served;
use crate::talk::Talk;

/// A server, `a.example`, and the nameserver that it asks.
struct Scene {
    dns: Nameserver,
    a: Served,
}

impl Scene {
    async fn new(authority: &Authority, zones: &str, conf: &str) -> Self {
        let dns = Nameserver::start(([127, 0, 0, 1], 0).into(), zones).await.unwrap();
        let identity = authority.issue(&["a.example"]);
        let conf = format!(
            "[[listen]]\nkind = 's2s'\naddress = '127.0.0.1:0'\ntls = 'direct'\n[host.'a.example']\n\
             [s2s]\nauthorities = '{{folder}}/ca.pem'\nnameservers = ['{}']\nprivate_addresses = true\n\
             trust_anchor = '{{folder}}/anchor'\n{conf}",
            dns.address()
        );
        let anchor = dns.trust_anchor();
        let files = [
            ("ca.pem", authority.pem.as_str()),
            ("anchor", anchor.as_str()),
            ("certs/a.example.crt", identity.certificate_pem.as_str()),
            ("certs/a.example.key", identity.key_pem.as_str()),
        ];
        let a = Served::new(&conf, &files, &["romeo@a.example"]).await;
        Self { dns, a }
    }

    fn port(&self) -> SocketAddr {
        self.a.port(ListenerKind::S2s, TlsMode::Direct)
    }

    /// Calls as `from`; what the features are then.
    async fn call(&self, from: &str, identity: Option<&Identity>) -> (Talk, String) {
        call(self.port(), from, identity).await
    }

    /// Whether a caller may prove itself by this certificate.
    async fn believes(&self, from: &str, identity: &Identity) -> bool {
        self.call(from, Some(identity)).await.1.contains(">EXTERNAL<")
    }
}

async fn call(port: SocketAddr, from: &str, identity: Option<&Identity>) -> (Talk, String) {
    greet(Talk::connect(port).await, from, identity).await
}

async fn greet(mut talk: Talk, from: &str, identity: Option<&Identity>) -> (Talk, String) {
    talk.secure("a.example", identity, Some("xmpp-server")).await;
    talk.say(&header(from)).await;
    let features = talk.try_hear("</stream:features>").await.unwrap_or_else(|end| end);
    (talk, features)
}

fn header(from: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams' from='{from}' to='a.example' version='1.0'>"
    )
}

/// The zone of a domain with one server.
fn zone(domain: &str, sign: bool, tlsa: Option<&str>) -> String {
    let (sign, tlsa) = (if sign { "$SIGN\n" } else { "" }, tlsa.map(|tlsa| format!("_5269._tcp.xmpp TLSA {tlsa}\n")));
    let tlsa = tlsa.unwrap_or_default();
    format!("$ORIGIN {domain}.\n$TTL 60\n{sign}_xmpp-server._tcp SRV 0 0 5269 xmpp\nxmpp A 127.0.0.1\n{tlsa}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_key_dns_names_is_who_it_says() {
    let (authority, shown) = (Authority::new("the tests' authority"), self_signed(&["anything.example"]));
    let zones = ["b.example", "c.example"].map(|domain| zone(domain, true, Some(&names(&shown)))).concat();
    let Scene { dns, a } = Scene::new(&authority, &(zones + &zone("d.example", true, None)), "").await;
    let mut romeo = a.login("romeo@a.example", "r").await;
    let port = a.port(ListenerKind::S2s, TlsMode::Direct);
    let (mut talk, features) = call(port, "b.example", Some(&shown)).await;
    assert!(features.contains(">EXTERNAL<"), "{features}");
    talk.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
    talk.hear("<success").await;
    talk.say(&header("b.example")).await;
    talk.hear("</stream:features>").await;
    talk.say("<message from='u@b.example' to='romeo@a.example' type='chat'><body>of b</body></message>").await;
    romeo.hear("<body>of b</body>").await;
    // The same key speaks for another domain that names it, and not for one that does not.
    talk.say("<db:result from='d.example' to='a.example'>key</db:result>").await;
    let answer = talk.hear("</db:result>").await;
    assert!(answer.contains("<not-authorized"), "{answer}");
    talk.say("<db:result from='c.example' to='a.example'>key</db:result>").await;
    let answer = talk.hear("/>").await;
    assert!(answer.contains("type='valid'"), "{answer}");
    talk.say("<message from='u@c.example' to='romeo@a.example' type='chat'><body>of c</body></message>").await;
    romeo.hear("<body>of c</body>").await;
    let (_, shown) = a.rookery(&["s2s", "show", "b.example"]);
    for part in ["\n  their certificate is the one that DNS names (DANE)", "\n  b.example to a.example, by DANE"] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let (_, shown) = a.rookery(&["s2s", "show", "c.example"]);
    assert!(shown.contains("\n  c.example to a.example, by DANE"), "{shown}");
    assert!(dns.asked().iter().any(|question| question == "_5269._tcp.xmpp.b.example. TLSA"), "{:?}", dns.asked());
    a.stop().await;
}

#[tokio::test]
async fn a10_dns_vouches_for_nobody_but_whom_it_names() {
    let authority = Authority::new("the tests' authority");
    let (own, other) = (self_signed(&["b.example"]), self_signed(&["b.example"]));
    let vouched = authority.issue(&["b.example", "unsigned.example", "bare.example", "nobody.example"]);
    let zones = [
        zone("b.example", true, Some(&names(&own))),
        zone("evil.example", true, Some(&names(&other))),
        zone("unsigned.example", false, Some(&names(&own))),
        zone("bare.example", true, None),
    ];
    let scene = Scene::new(&authority, &zones.concat(), "").await;
    assert!(scene.believes("b.example", &own).await);
    // The key of another domain, and the key of nobody.
    assert!(scene.believes("evil.example", &other).await && !scene.believes("b.example", &other).await);
    assert!(!scene.believes("evil.example", &own).await);
    // Whatever an authority says.
    assert!(!scene.believes("b.example", &vouched).await);
    // What is not signed is anybody's; then authorities count, as where DNS names no key, or no server.
    assert!(!scene.believes("unsigned.example", &own).await);
    for domain in ["unsigned.example", "bare.example", "nobody.example"] {
        assert!(scene.believes(domain, &vouched).await, "{domain}");
        assert!(!scene.believes(domain, &self_signed(&[domain])).await, "{domain}");
    }
    scene.a.stop().await;
}

#[tokio::test]
async fn a10_forged_answers_of_dns_vouch_for_nobody_and_missing_ones_keep_nobody_away() {
    let authority = Authority::new("the tests' authority");
    let (own, vouched) = (self_signed(&["b.example"]), authority.issue(&["b.example"]));
    for (trouble, is_verdict) in [(Trouble::Bogus, true), (Trouble::Strip, true), (Trouble::ServFail, false)] {
        let scene = Scene::new(&authority, &zone("b.example", true, Some(&names(&own))), "").await;
        scene.dns.trouble("_tcp.b.example.", trouble);
        assert!(!scene.believes("b.example", &own).await, "{trouble:?}");
        assert_eq!(scene.believes("b.example", &vouched).await, !is_verdict, "{trouble:?}");
        scene.a.stop().await;
    }
    // Nothing is asked where nothing is checked, or of whom the conf has the key.
    let scene = Scene::new(&authority, &zone("b.example", true, Some(&names(&own))), "dnssec = false").await;
    assert!(scene.believes("b.example", &vouched).await && !scene.believes("b.example", &own).await);
    assert!(scene.call("c.example", None).await.1.contains("<dialback "));
    assert!(scene.dns.asked().is_empty(), "{:?}", scene.dns.asked());
    scene.a.stop().await;
}

#[tokio::test]
async fn b16_a_stranger_has_dns_asked_for_few_names_at_once() {
    const STRANGERS: usize = 12;
    let authority = Authority::new("the tests' authority");
    let scene =
        Scene::new(&authority, "$ORIGIN example.\n$SIGN\n@ A 127.0.0.1\n$DROP @", "[limits]\nexempt = []\n").await;
    // Without a certificate there is nothing to compare.
    assert!(!scene.call("s.example", None).await.1.contains(">EXTERNAL<"));
    assert!(scene.dns.asked().is_empty(), "{:?}", scene.dns.asked());
    let port = scene.port();
    let identity = std::sync::Arc::new(self_signed(&["anything.example"]));
    let mut strangers = tokio::task::JoinSet::new();
    for n in 0..STRANGERS {
        let identity = identity.clone();
        strangers.spawn(async move { call(port, &format!("s{n}.example"), Some(&identity)).await.1 });
    }
    // Who is vouched for does not wait for them.
    let identity = authority.issue(&["v.example"]);
    let vouched = scene.believes("v.example", &identity);
    let (strangers, vouched) = tokio::join!(strangers.join_all(), vouched);
    assert!(vouched && strangers.iter().all(|features| !features.contains(">EXTERNAL<")), "{strangers:?}");
    let asked = scene.dns.asked();
    let of =
        |question: &String| question.split_once("._tcp.").map(|(_, name)| name.split('.').next().unwrap().to_owned());
    let domains: BTreeSet<_> = asked.iter().filter_map(of).filter(|domain| domain != "v").collect();
    assert!((1..=4).contains(&domains.len()), "{domains:?}");
    scene.a.stop().await;
}

/// Who has a certificate for a domain that is not its own uses up its address's turns, with names of its own for which no
/// nameserver answers, so that DNS cannot be asked whether the certificate is the domain's.
#[tokio::test]
async fn a10_who_uses_up_its_address_s_turns_is_not_spared_the_question_for_its_keys() {
    let authority = Authority::new("the tests' authority");
    let (own, stolen) = (self_signed(&["b.example"]), authority.issue(&["b.example"]));
    let scene = Scene::new(&authority, &(zone("b.example", true, Some(&names(&own))) + SILENT), CROWDED).await;
    let strangers = crowd(&scene, 1, &authority.issue(&["*.evil.example"])).await;
    let call = async |from: [u8; 4], domain: &str, identity: &Identity| {
        let talk = connect_from(scene.port(), from.into()).await;
        greet(talk, domain, Some(identity)).await.1.contains(">EXTERNAL<")
    };
    assert!(!call([127, 0, 1, 0], "b.example", &stolen).await);
    // Others are no matter of that, and what is known costs nothing.
    assert!(call([127, 0, 0, 9], "v.example", &authority.issue(&["v.example"])).await);
    assert!(call([127, 0, 0, 9], "b.example", &own).await && call([127, 0, 1, 0], "b.example", &own).await);
    drop(strangers);
    scene.a.stop().await;
}

/// All turns are taken by a crowd that an authority vouches for: nobody is believed without the question, and nobody is kept
/// away for good, or at all who is there already.
#[tokio::test]
async fn a10_a_crowd_switches_dane_off_for_nobody_and_keeps_no_friends_away() {
    let authority = Authority::new("the tests' authority");
    let own = self_signed(&["b.example"]);
    let [friend, stolen] = [(); 2].map(|()| authority.issue(&["b.example", "friend.example"]));
    let mut zones = zone("b.example", true, Some(&names(&own))) + SILENT;
    // Of whom nothing is remembered.
    zones += &zone("friend.example", true, Some(&names(&friend))).replace("$TTL 60", "$TTL 0");
    let scene = Scene::new(&authority, &zones, CROWDED).await;
    let (mut talk, features) = scene.call("friend.example", Some(&friend)).await;
    assert!(features.contains(">EXTERNAL<"), "{features}");
    talk.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
    talk.hear("<success").await;
    talk.say(&header("friend.example")).await;
    talk.hear("</stream:features>").await;
    let strangers = crowd(&scene, 16, &authority.issue(&["*.evil.example"])).await;
    // Who is there already comes and goes, and is asked for.
    assert!(scene.believes("friend.example", &friend).await && !scene.believes("friend.example", &stolen).await);
    talk.say("<db:result from='b.example' to='a.example'>key</db:result>").await;
    let (as_b, answer) = tokio::join!(scene.call("b.example", Some(&stolen)), talk.hear("</db:result>"));
    assert!(as_b.1.contains("<stream:error><resource-constraint ") && !as_b.1.contains("EXTERNAL"), "{}", as_b.1);
    assert!(answer.contains("type='wait'") && answer.contains("<resource-constraint "), "{answer}");
    // Nor does the crowd know whom DNS alone vouches for.
    assert!(scene.believes("b.example", &own).await);
    drop(strangers);
    scene.a.stop().await;
}

/// Certificates that nobody vouches for cost nothing.
#[tokio::test]
async fn b16_a_crowd_without_an_authority_keeps_nobody_away_who_has_one() {
    let authority = Authority::new("the tests' authority");
    let own = self_signed(&["b.example"]);
    let scene = Scene::new(&authority, &(zone("b.example", true, Some(&names(&own))) + SILENT), CROWDED).await;
    let strangers = crowd(&scene, 16, &self_signed(&["*.evil.example"])).await;
    let vouched = authority.issue(&["v.example", "b.example"]);
    assert!(scene.believes("v.example", &vouched).await && !scene.believes("b.example", &vouched).await);
    drop(strangers);
    scene.a.stop().await;
}

/// Nobody is exempt, and a crowd may be there at once.
const CROWDED: &str = "[limits]\nexempt = []\nconnections_per_second = 1000\nconnections_burst = 1000\n";

/// Names of a stranger's for which no nameserver answers.
const SILENT: &str = "$ORIGIN evil.example.\n$SIGN\n@ A 127.0.0.1\n$DROP @\n";

/// Calls from so many addresses as four silent domains each; returns when DNS is asked for all of them.
async fn crowd(scene: &Scene, addresses: u8, identity: &Identity) -> Vec<Talk> {
    let mut talks = Vec::new();
    let domains: Vec<_> = (0..addresses * 4).map(|n| format!("s{n}.evil.example")).collect();
    for n in 0..addresses * 4 {
        let mut talk = connect_from(scene.port(), Ipv4Addr::new(127, 0, 1, n / 4)).await;
        talk.secure("a.example", Some(identity), Some("xmpp-server")).await;
        talks.push(talk);
    }
    // All at once: a search gives up after a while.
    for (talk, domain) in talks.iter_mut().zip(&domains) {
        talk.say(&header(domain)).await;
    }
    let is_asked = |domain: &String| scene.dns.asked().contains(&format!("_xmpp-server._tcp.{domain}. SRV"));
    let all_asked = async {
        while !domains.iter().all(is_asked) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_asked).await.unwrap();
    talks
}

async fn connect_from(port: SocketAddr, from: Ipv4Addr) -> Talk {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    Talk::over(socket.connect(port).await.unwrap())
}

/// Dialback: a stranger's keys make us call whomever they are of.
#[tokio::test]
async fn b16_a_stranger_leaves_questions_of_dialback_to_others() {
    const DOMAINS: usize = 12;
    // Where all of them are at home, and nobody says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let found = |domain: &str| {
        let address = silent.local_addr().unwrap();
        format!("[s2s.domain.'{domain}']\naddresses = ['{address}']\ncertificates = 'dialback'\n")
    };
    let domains: Vec<_> = (0..DOMAINS).map(|n| format!("d{n}.example")).collect();
    let conf: String = domains.iter().map(|domain| found(domain)).collect();
    let conf = format!("dnssec = false\n{conf}{}[limits]\nexempt = []\n", found("honest.example"));
    let scene = Scene::new(&Authority::new("the tests' authority"), "$ORIGIN example.\n@ A 127.0.0.1", &conf).await;
    let key = |from: &str| format!("<db:result from='{from}' to='a.example'>key</db:result>");
    let mut strangers = Vec::new();
    for _ in 0..2 {
        let mut talk = scene.call("d0.example", None).await.0;
        for domain in &domains {
            talk.say(&key(domain)).await;
        }
        strangers.push(talk);
    }
    let mut called = Vec::new();
    for _ in 0..16 {
        called.push(silent.accept().await.unwrap());
    }
    // The next call is because of somebody else.
    let talk = connect_from(scene.port(), Ipv4Addr::new(127, 0, 0, 9)).await;
    let mut honest = greet(talk, "honest.example", None).await.0;
    honest.say(&key("honest.example")).await;
    let mut call = Talk::over(silent.accept().await.unwrap().0);
    call.hear("<stream:stream").await;
    let header = call.hear(">").await;
    assert!(header.contains("to='honest.example'"), "{header}");
    scene.a.stop().await;
}
