//! Servers that lie (security.md A, B, C, D): a scripted peer that knows the protocol and keeps to none of its rules, against the
//! server itself, over true sockets on the loopback net, with certificates of the tests' own.
//!
//! The server has the hosts `a.example` and `z.example`. `b.example` is honest and at home where the server finds it. `d.example`
//! has no certificate that is valid, and is trusted by dialback. `evil.example` has a certificate that is. In each test the lie
//! has its stream error or silence, nothing of it is delivered, and others are not touched.

mod dialback;
mod floods;
mod flows;
mod names;
mod outgoing;
mod senders;
mod twice;

use std::net::SocketAddr;
use std::time::Duration;

use rookery_core::config::{ListenerKind, TlsMode};
use tokio::net::TcpListener;

use crate::authority::{Authority, Identity, self_signed};
use crate::served::Served;
use crate::talk::Talk;

/// Longer than the server lets anybody wait for its call here.
const PATIENCE: Duration = Duration::from_secs(30);
const ROMEO: &str = "romeo@a.example";
/// The stanzas that the liars would like to see delivered hold this.
const LIE: &str = "a lie";

/// The server, and who is around it.
struct Field {
    served: Served,
    authority: Authority,
    /// Where the server finds `b.example`.
    honest: Home,
    /// Where it finds `d.example`.
    shabby: Home,
    /// Where it finds `evil.example`.
    lair: Home,
}

/// Where a domain is at home: its port, and its certificate.
struct Home {
    domain: &'static str,
    listener: TcpListener,
    identity: Identity,
}

impl Field {
    async fn new() -> Self {
        Self::with("").await
    }

    /// The same with more conf.
    async fn with(more: &str) -> Self {
        Self::tuned("", "", more).await
    }

    /// The same with other limits, and more for `[s2s]`.
    async fn tuned(limits: &str, s2s: &str, more: &str) -> Self {
        let authority = Authority::new("an authority");
        let honest = Home::new("b.example", authority.issue(&["b.example"])).await;
        let shabby = Home::new("d.example", self_signed(&["d.example"])).await;
        let lair = Home::new("evil.example", authority.issue(&["evil.example"])).await;
        let mut conf = String::from(
            "limits.stream_header = '2 seconds'\nlimits.authentication = '5 seconds'\nlimits.connections_per_second = 1000\n\
             limits.connections_burst = 1000\n",
        );
        conf += limits;
        let (a, z) = (authority.issue(&["a.example"]), authority.issue(&["z.example"]));
        for name in ["a", "z"] {
            conf += &format!(
                "[host.'{name}.example']\ncertificate = '{{folder}}/{name}.crt'\nkey = '{{folder}}/{name}.key'\n"
            );
        }
        for tls in ["starttls", "direct"] {
            conf += &format!("[[listen]]\nkind = 's2s'\naddress = '127.0.0.1:0'\ntls = '{tls}'\n");
        }
        // The name server is nobody: only domains with addresses of their own can be found.
        conf += "[s2s]\nauthorities = '{folder}/authority.pem'\nprivate_addresses = true\nnameservers = ['127.0.0.1:9']\n\
                 wait = '5 seconds'\nwait_iq = '5 seconds'\nconnect = '3 seconds'\n";
        conf += s2s;
        for home in [&honest, &shabby, &lair] {
            conf += &format!("[s2s.domain.'{}']\naddresses = ['{}']\n", home.domain, home.address());
            if home.domain == "d.example" {
                conf += "certificates = 'dialback'\n";
            }
        }
        conf += more;
        let files = [
            ("authority.pem", authority.pem.as_str()),
            ("a.crt", &a.certificate_pem),
            ("a.key", &a.key_pem),
            ("z.crt", &z.certificate_pem),
            ("z.key", &z.key_pem),
        ];
        let served = Served::new(&conf, &files, &[ROMEO, "juliet@a.example", "tybalt@z.example"]).await;
        Self { served, authority, honest, shabby, lair }
    }

    fn port(&self, tls: TlsMode) -> SocketAddr {
        self.served.port(ListenerKind::S2s, tls)
    }

    async fn romeo(&self) -> Talk {
        self.served.login(ROMEO, "orchard").await
    }

    /// A stream in the clear, after the server's features.
    async fn plain(&self, from: &str, to: &str) -> Talk {
        let mut talk = Talk::connect(self.port(TlsMode::Starttls)).await;
        talk.say(&header(from, to)).await;
        talk.hear("</stream:features>").await;
        talk
    }

    /// A stream inside TLS, and the features or the end that it has.
    async fn secured(&self, from: &str, to: &str, identity: Option<&Identity>) -> (Talk, String) {
        let mut talk = self.plain(from, to).await;
        talk.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        talk.hear("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        talk.secure(to, identity, None).await;
        talk.say(&header(from, to)).await;
        let features = talk.try_hear("</stream:features>").await.unwrap_or_else(|end| end);
        (talk, features)
    }

    /// A stream that is authenticated by its certificate, as far as the features behind it.
    async fn external(&self, from: &str, to: &str, identity: &Identity) -> Talk {
        let (mut talk, features) = self.secured(from, to, Some(identity)).await;
        assert!(features.contains(">EXTERNAL<"), "{features}");
        talk.say(&auth("=")).await;
        talk.hear("<success").await;
        talk.say(&header(from, to)).await;
        talk.hear("</stream:features>").await;
        talk
    }

    /// The honest server's stream: it works, whatever the liars do.
    async fn honest(&self) -> Talk {
        self.external("b.example", "a.example", &self.honest.identity).await
    }

    /// Nothing that a liar has said has come to Romeo, and the honest are heard.
    async fn is_untouched(&self, romeo: &mut Talk, honest: &mut Talk) {
        honest.say("<message from='x@b.example' to='romeo@a.example'><body>the truth</body></message>").await;
        let heard = romeo.hear("<body>the truth</body>").await;
        assert!(!heard.contains(LIE), "{heard}");
        romeo.hear("</message>").await;
    }
}

impl Home {
    async fn new(domain: &'static str, identity: Identity) -> Self {
        Self { domain, listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), identity }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection, after its first header, which is returned.
    async fn accept(&self) -> (Talk, String) {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let mut talk = Talk::over(accepted.expect("nobody calls").unwrap().0);
        let header = talk.hear("version='1.0'").await;
        talk.hear(">").await;
        (talk, header)
    }

    /// The next connection, inside TLS with this certificate, after the server's second header.
    async fn accept_secured(&self, identity: &Identity) -> Talk {
        let (mut talk, _) = self.accept().await;
        talk.say(&response(self.domain, "a.example", "first")).await;
        talk.say(
            "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>",
        )
        .await;
        talk.hear("<starttls").await;
        talk.hear(">").await;
        talk.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        talk.secure_as_server(identity).await;
        talk
    }

    /// The next connection as an honest server takes it: stanzas follow.
    async fn accept_open(&self) -> Talk {
        self.accept_open_with("").await
    }

    /// The same with features behind the certificate.
    async fn accept_open_with(&self, features: &str) -> Talk {
        self.accept_open_with_all("", features).await
    }

    /// The same with features before it, too.
    async fn accept_open_with_all(&self, early: &str, features: &str) -> Talk {
        let mut talk = self.accept_secured(&self.identity).await;
        talk.hear("<stream:stream").await;
        talk.hear(">").await;
        talk.say(&response(self.domain, "a.example", "second")).await;
        talk.say(&format!(
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>\
             {early}</stream:features>",
        ))
        .await;
        talk.hear("<auth").await;
        talk.hear("</auth>").await;
        talk.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        talk.hear("<stream:stream").await;
        talk.hear(">").await;
        talk.say(&response(self.domain, "a.example", "third")).await;
        talk.say(&format!("<stream:features>{features}</stream:features>")).await;
        talk
    }

    /// The next connection, inside TLS, as far as the server's key.
    async fn accept_dialback(&self) -> Talk {
        let mut talk = self.accept_secured(&self.identity).await;
        talk.hear("<stream:stream").await;
        talk.hear(">").await;
        talk.say(&response(self.domain, "a.example", "the-id")).await;
        talk.say(
            "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback></stream:features>",
        )
        .await;
        talk.hear("</db:result>").await;
        talk
    }
}

/// The header of a stream that a server opens.
fn header(from: &str, to: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' from='{from}' to='{to}' version='1.0'>"
    )
}

/// The answer to it.
fn response(from: &str, to: &str, id: &str) -> String {
    header(from, to).replace(" version='1.0'>", &format!(" id='{id}' version='1.0'>"))
}

/// SASL EXTERNAL, as whom this says in Base64.
fn auth(authzid: &str) -> String {
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{authzid}</auth>")
}

/// A message that nobody may ever see.
fn lie(from: &str) -> String {
    format!("<message from='{from}' to='{ROMEO}'><body>{LIE}</body></message>")
}
