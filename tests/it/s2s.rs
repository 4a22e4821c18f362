//! Two servers in this process that talk over sockets: how they find out who the other is, and what goes between them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::authority::{Authority, Identity, self_signed};
use crate::served::Served;

/// A free port on an address of this process' own.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high.max(1), low, NEXT.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// A server to be: its domain, where others find it, and what it shows them.
pub(crate) struct Plan {
    domain: &'static str,
    pub(crate) starttls: SocketAddr,
    direct: SocketAddr,
    identity: Identity,
    /// Goes into its conf, behind `[s2s]`.
    pub(crate) more: String,
}

impl Plan {
    pub(crate) fn new(domain: &'static str, identity: Identity) -> Self {
        Self { domain, starttls: free(), direct: free(), identity, more: String::new() }
    }

    /// Into the conf of one that is to find this one.
    pub(crate) fn found(&self, tls: &str, certificates: &str) -> String {
        let address = if tls == "direct" { self.direct } else { self.starttls };
        format!(
            "[s2s.domain.'{}']\naddresses = ['{address}']\ntls = '{tls}'\ncertificates = '{certificates}'\n",
            self.domain
        )
    }

    pub(crate) async fn serve(&self, authority: &Authority, others: &str) -> Served {
        let Self { domain, starttls, direct, identity, more } = self;
        let conf = format!(
            "[[listen]]\nkind = 's2s'\naddress = '{starttls}'\ntls = 'starttls'\n\
             [[listen]]\nkind = 's2s'\naddress = '{direct}'\ntls = 'direct'\n\
             [host.'{domain}']\n[s2s]\nauthorities = '{{folder}}/ca.pem'\ndnssec = false\n{more}\n{others}"
        );
        let (certificate, key) = (format!("certs/{domain}.crt"), format!("certs/{domain}.key"));
        let files = [
            ("ca.pem", authority.pem.as_str()),
            (certificate.as_str(), identity.certificate_pem.as_str()),
            (key.as_str(), identity.key_pem.as_str()),
        ];
        Served::new(&conf, &files, &[&format!("romeo@{domain}"), &format!("juliet@{domain}")]).await
    }
}

/// Two servers that find each other.
pub(crate) async fn two(tls: &str, certificates: &str, trusted: bool) -> (Served, Served) {
    let authority = Authority::new("the tests' authority");
    let identity = |domain| if trusted { authority.issue(&[domain]) } else { self_signed(&[domain]) };
    let (a, b) = (Plan::new("a.example", identity("a.example")), Plan::new("b.example", identity("b.example")));
    let first = a.serve(&authority, &b.found(tls, certificates)).await;
    let second = b.serve(&authority, &a.found(tls, certificates)).await;
    (first, second)
}

/// A message each way, and the answer to a question.
pub(crate) async fn converse(a: &Served, b: &Served) {
    let mut romeo = a.login("romeo@a.example", "r").await;
    let mut juliet = b.login("juliet@b.example", "j").await;
    for n in 0..20 {
        romeo
            .say(&format!("<message type='chat' id='m{n}' to='juliet@b.example'><body>there {n}</body></message>"))
            .await;
        let heard = juliet.hear(&format!("<body>there {n}</body>")).await;
        assert!(heard.contains("from='romeo@a.example/r'"), "{heard}");
        juliet
            .say(&format!("<message type='chat' id='m{n}' to='romeo@a.example/r'><body>back {n}</body></message>"))
            .await;
        romeo.hear(&format!("<body>back {n}</body>")).await;
    }
    romeo.say("<iq type='get' id='q' to='b.example'><query xmlns='jabber:iq:version'/></iq>").await;
    let heard = romeo.hear("</iq>").await;
    assert!(heard.contains("type='result'") && heard.contains("from='b.example'"), "{heard}");
}

#[tokio::test]
async fn servers_with_valid_certificates_talk_over_starttls() {
    let (a, b) = two("starttls", "valid", true).await;
    converse(&a, &b).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn servers_with_valid_certificates_talk_over_direct_tls() {
    let (a, b) = two("direct", "valid", true).await;
    converse(&a, &b).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn servers_with_self_signed_certificates_talk_by_dialback() {
    let (a, b) = two("starttls", "dialback", false).await;
    converse(&a, &b).await;
    a.stop().await;
    b.stop().await;
}
