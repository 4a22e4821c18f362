//! Servers that find each other by DNS, as in the world outside: SRV records, signed zones with keys in them, and what becomes
//! of messages when DNS says no, or nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use rookery_rigs::dns::{Server as Nameserver, Trouble};

use crate::authority::{Authority, Identity, self_signed};
use crate::s2s::free;
use crate::served::Served;

/// A server of `domain` whose port for other servers is `port`, and that asks this nameserver and nobody else.
async fn served(
    domain: &str,
    port: SocketAddr,
    identity: &Identity,
    authority: &Authority,
    dns: &Nameserver,
) -> Served {
    let conf = format!(
        "[[listen]]\nkind = 's2s'\naddress = '{port}'\ntls = 'starttls'\n[host.'{domain}']\n\
         [s2s]\nauthorities = '{{folder}}/ca.pem'\nnameservers = ['{}']\nprivate_addresses = true\n\
         trust_anchor = '{{folder}}/anchor'\nwait = '5 seconds'\n",
        dns.address()
    );
    let (certificate, key) = (format!("certs/{domain}.crt"), format!("certs/{domain}.key"));
    let anchor = dns.trust_anchor();
    let files = [
        ("ca.pem", authority.pem.as_str()),
        ("anchor", anchor.as_str()),
        (certificate.as_str(), identity.certificate_pem.as_str()),
        (key.as_str(), identity.key_pem.as_str()),
    ];
    Served::new(&conf, &files, &[&format!("romeo@{domain}"), &format!("juliet@{domain}")]).await
}

/// The zone of a domain with one server: where it is, and what it must show.
fn zone(domain: &str, port: SocketAddr, tlsa: &str) -> String {
    format!(
        "$ORIGIN {domain}.\n$TTL 0\n$SIGN\n_xmpp-server._tcp SRV 0 0 {} xmpp\nxmpp A {}\n_{}._tcp.xmpp TLSA {tlsa}\n",
        port.port(),
        port.ip(),
        port.port()
    )
}

/// The TLSA record of a server's own certificate (DANE-EE).
pub(crate) fn names(identity: &Identity) -> String {
    let digest = digest(&SHA256, &identity.chain[0]);
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("3 0 1 {digits}")
}

struct Two {
    dns: Nameserver,
    a: Served,
    b: Served,
}

/// Two servers; what b shows, and what DNS says that it shows.
async fn two(b_shows: impl FnOnce(&Authority) -> Identity, tlsa: impl FnOnce(&Identity) -> String) -> Two {
    let authority = Authority::new("the tests' authority");
    let (a_port, b_port) = (free(), free());
    let (a_shows, b_shows) = (authority.issue(&["a.example"]), b_shows(&authority));
    let zones = zone("a.example", a_port, &names(&a_shows)) + &zone("b.example", b_port, &tlsa(&b_shows));
    let dns = Nameserver::start(([127, 0, 0, 1], 0).into(), &zones).await.unwrap();
    let a = served("a.example", a_port, &a_shows, &authority, &dns).await;
    let b = served("b.example", b_port, &b_shows, &authority, &dns).await;
    Two { dns, a, b }
}

/// What romeo gets for a message to somebody, and after how long.
async fn answered(a: &Served, to: &str) -> (String, Duration) {
    let mut romeo = a.login("romeo@a.example", "r").await;
    let begun = Instant::now();
    romeo.say(&format!("<message type='chat' id='m' to='{to}'><body>hello</body></message>")).await;
    let heard = romeo.hear("</message>").await;
    assert!(heard.contains("type='error'") && heard.contains(&format!("from='{to}'")), "{heard}");
    (heard, begun.elapsed())
}

#[tokio::test]
async fn the_key_that_dns_names_is_enough() {
    let Two { a, b, dns } = two(|_| self_signed(&["b.example"]), names).await;
    let mut romeo = a.login("romeo@a.example", "r").await;
    let mut juliet = b.login("juliet@b.example", "j").await;
    romeo.say("<message type='chat' id='m' to='juliet@b.example'><body>there</body></message>").await;
    juliet.hear("<body>there</body>").await;
    let asked = dns.asked();
    assert!(asked.iter().any(|question| question.starts_with('_') && question.ends_with("._tcp.xmpp.b.example. TLSA")));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a10_a_key_that_dns_does_not_name_is_refused_whoever_vouches_for_it() {
    let other = self_signed(&["b.example"]);
    let Two { a, b, .. } = two(|authority| authority.issue(&["b.example"]), |_| names(&other)).await;
    let (heard, _) = answered(&a, "juliet@b.example").await;
    assert!(heard.contains("remote-server-timeout"), "{heard}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn whom_dns_does_not_know_is_told_at_once() {
    let Two { a, b, dns } = two(|authority| authority.issue(&["b.example"]), names).await;
    let (heard, after) = answered(&a, "juliet@nowhere.example").await;
    assert!(heard.contains("remote-server-not-found"), "{heard}");
    assert!(after < Duration::from_secs(4), "{after:?}");
    dns.set("$ORIGIN b.example.\n$SIGN\n@ A 127.0.0.1\n_xmpp-server._tcp SRV 0 0 0 .").unwrap();
    let (heard, _) = answered(&a, "juliet@b.example").await;
    assert!(heard.contains("remote-server-not-found"), "{heard}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn while_dns_fails_messages_wait_and_then_go() {
    for trouble in [Trouble::ServFail, Trouble::Bogus] {
        let Two { a, b, dns } = two(|authority| authority.issue(&["b.example"]), names).await;
        dns.trouble("_tcp.b.example.", trouble);
        let mut romeo = a.login("romeo@a.example", "r").await;
        let mut juliet = b.login("juliet@b.example", "j").await;
        romeo.say("<message type='chat' id='m' to='juliet@b.example'><body>patience</body></message>").await;
        while !dns.asked().iter().any(|question| question.starts_with("_xmpp-server._tcp.b.example.")) {
            romeo.synced("a.example").await;
        }
        dns.calm();
        juliet.hear("<body>patience</body>").await;
        // And then there is nothing more to say of it.
        assert!(!romeo.synced("a.example").await.contains("<error"), "{trouble:?}");
        a.stop().await;
        b.stop().await;
    }
}
