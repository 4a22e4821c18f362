//! `rookery s2s check` on servers that are in order, and on set-ups that are broken in every way that an admin meets: what it
//! says, whose fault it finds, and that the page of troubleshooting has it. Certificates have a file of their own.

use std::net::{Ipv4Addr, SocketAddr};

use rookery_rigs::dns;

use crate::authority::{Authority, Identity};
use crate::commands::Folder;
use crate::s2s_peers::{DIALBACK, EXTERNAL, Step, closed, direct, serve, starttls};

const PAGE: &str = include_str!("../../docs/troubleshooting-federation.md");

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A domain `home.test` that looks at others, and the world around it.
pub(crate) struct Scene {
    folder: Folder,
    dns: dns::Server,
    pub(crate) authority: Authority,
}

/// What a check has said.
pub(crate) struct Said {
    code: i32,
    text: String,
}

impl Scene {
    /// With these zones. `home.test` has a certificate that everybody accepts.
    pub(crate) async fn new(zones: &str) -> Self {
        let authority = Authority::new("Test Root");
        let dns = dns::Server::start((LOOPBACK, 0).into(), zones).await.unwrap();
        let folder = Folder::new();
        let scene = Self { folder, dns, authority };
        scene.write("ca.pem", &scene.authority.pem);
        scene.shows(&scene.authority.issue(&["home.test"]));
        scene.conf("");
        scene
    }

    /// One server for `partner.test` at this address, announced for STARTTLS.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self::new(&zone("_xmpp-server", address)).await
    }

    /// One server for `partner.test` that is in order and shows this, with STARTTLS.
    pub(crate) async fn showing(show: impl FnOnce(&Authority) -> Identity) -> (Self, SocketAddr) {
        let scene = Self::new("").await;
        let shown = show(&scene.authority);
        let address = serve(LOOPBACK, 0, starttls("partner.test", &shown.config(), EXTERNAL));
        scene.zones(&zone("_xmpp-server", address));
        (scene, address)
    }

    /// Other zones.
    pub(crate) fn zones(&self, zones: &str) {
        self.dns.set(zones).unwrap();
    }

    /// DNSSEC counts, by the keys of these zones.
    pub(crate) fn believes_signatures(&self) {
        self.write("anchor.zone", &self.dns.trust_anchor());
        self.conf("dnssec = true\ntrust_anchor = \"anchor.zone\"\n");
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.0.join(name), text).unwrap();
    }

    /// What `home.test` shows to others.
    pub(crate) fn shows(&self, shown: &Identity) {
        self.write("home.crt", &shown.certificate_pem);
        self.write("home.key", &shown.key_pem);
    }

    /// The conf, with more in `[s2s]` and behind it.
    pub(crate) fn conf(&self, more: &str) {
        let patience = if more.contains("connect = ") { "" } else { "connect = \"30 seconds\"\n" };
        let dnssec = if more.contains("dnssec = ") { "" } else { "dnssec = false\n" };
        let conf = format!(
            "[host.\"home.test\"]\ncertificate = \"home.crt\"\nkey = \"home.key\"\n[s2s]\nnameservers = [\"{}\"]\n\
             authorities = \"ca.pem\"\nprivate_addresses = true\n{patience}{dnssec}{more}",
            self.dns.address()
        );
        self.write("rookery.toml", &conf);
    }

    /// The conf names no files of a certificate, and there are none in the usual place.
    pub(crate) fn conf_without_certificate(&self) {
        let conf = std::fs::read_to_string(self.folder.0.join("rookery.toml")).unwrap();
        let kept = |line: &&str| !line.starts_with("certificate = ") && !line.starts_with("key = ");
        self.write("rookery.toml", &conf.lines().filter(kept).collect::<Vec<_>>().join("\n"));
    }

    /// For set-ups in which nothing comes: no longer than it takes a machine that is busy to do what it does.
    pub(crate) fn impatient(self) -> Self {
        self.conf("connect = \"3 seconds\"\n");
        self
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        let (code, text) = tokio::task::block_in_place(|| self.folder.run(arguments, ""));
        Said { code, text }
    }

    pub(crate) fn check(&self, domain: &str) -> Said {
        self.run(&["s2s", "check", domain])
    }

    /// A fault of `partner.test`, which keeps messages from it.
    pub(crate) fn fails(&self, code: &str, whose: &str, text: &str) -> Said {
        let said = self.check("partner.test");
        said.is("verdict", &format!("no message gets to partner.test: {text}"));
        said.is("whose", whose);
        said.is("details", &format!("docs/troubleshooting-federation.md, {code}"));
        assert!(PAGE.contains(&format!("\n### {code}\n")), "the page has no {code}");
        assert_eq!(said.code, 1, "{}", said.text);
        said
    }
}

pub(crate) const THEIRS: &str = "theirs: the admins of partner.test have to act";
pub(crate) const OURS: &str = "ours: it is for you to act";
pub(crate) const NETWORK: &str = "the network's, or that of one of the two servers: it cannot be seen from here";

impl Said {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first line of a name.
    pub(crate) fn line(&self, name: &str) -> &str {
        let found = self.text.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in\n{}", self.text)).trim_start()
    }

    /// The first line of a name says this.
    pub(crate) fn is(&self, name: &str, expected: &str) {
        assert_eq!(self.line(name), expected, "{}", self.text);
    }

    /// There is a step of that level and name that says this; numbers of milliseconds do not count.
    pub(crate) fn step(&self, level: &str, about: &str, expected: &str) {
        let wanted = format!("{level:8} {about:12} {expected}");
        let is_wanted = |line: &str| line == wanted || without_times(line) == wanted;
        assert!(self.text.lines().any(is_wanted), "no {wanted:?} in\n{}", self.text);
    }

    pub(crate) fn works(&self, text: &str) {
        self.is("verdict", text);
        assert_eq!(self.code, 0, "{}", self.text);
    }
}

/// ` after 12 ms` is taken out.
fn without_times(line: &str) -> String {
    let Some((before, after)) = line.split_once(" after ") else { return line.to_owned() };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}{}", rest.strip_prefix(" ms").unwrap_or(rest))
}

/// `partner.test` with one server, under the service of this name.
pub(crate) fn zone(service: &str, address: SocketAddr) -> String {
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    format!("$ORIGIN partner.test.\n{service}._tcp SRV 0 5 {} xmpp\nxmpp {kind} {}\n", address.port(), address.ip())
}

pub(crate) fn place(address: SocketAddr) -> String {
    format!("{address} (xmpp.partner.test, STARTTLS)")
}

fn direct_place(address: SocketAddr) -> String {
    format!("{address} (xmpp.partner.test, direct TLS)")
}

/// A server by this script, announced for STARTTLS.
pub(crate) async fn scripted(script: Vec<Step>) -> (Scene, String) {
    let address = serve(LOOPBACK, 0, script);
    (Scene::at(address).await, place(address))
}

/// The same, announced for direct TLS.
pub(crate) async fn scripted_direct(script: Vec<Step>) -> (Scene, String) {
    let address = serve(LOOPBACK, 0, script);
    (Scene::new(&zone("_xmpps-server", address)).await, direct_place(address))
}

// --- in order ----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_order() {
    let (scene, address) = Scene::showing(|ca| ca.issue(&["partner.test"])).await;
    let said = scene.check("partner.test");
    let place = place(address);
    said.works(&format!(
        "messages get to partner.test: {place}, TLS 1.3; we prove who we are by our certificate (EXTERNAL)"
    ));
    said.step("ok", "conf", "home.test may talk to partner.test, which has to show a valid certificate");
    said.step("ok", "dns", "_xmpps-server._tcp.partner.test: no record");
    let srv = format!("_xmpp-server._tcp.partner.test: SRV 0 5 {} xmpp.partner.test", address.port());
    said.step("ok", "dns", &srv);
    said.step("ok", "dns", "xmpp.partner.test: 127.0.0.1");
    said.step("ok", "connect", &format!("{place}: connected"));
    said.step("ok", "stream", &format!("{place}: XMPP 1.0, offers STARTTLS (required), dialback"));
    said.step("ok", "tls", &format!("{place}: TLS 1.3; does not ask for our certificate"));
    said.step("ok", "features", &format!("{place}: XMPP 1.0, offers SASL EXTERNAL, dialback"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_order_with_direct_tls_and_dialback() {
    let scene = Scene::new("").await;
    let config = scene.authority.issue(&["partner.test"]).config();
    let address = serve(LOOPBACK, 0, direct("partner.test", &config, DIALBACK));
    scene.zones(&zone("_xmpps-server", address));
    scene.check("partner.test").works(&format!(
        "messages get to partner.test: {}, TLS 1.3; we prove who we are by being called back (dialback)",
        direct_place(address)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_for_programs() {
    let (scene, _) = Scene::showing(|ca| ca.issue(&["partner.test"])).await;
    let said = scene.run(&["--json", "s2s", "check", "partner.test"]);
    let json: serde_json::Value = serde_json::from_str(&said.text).unwrap();
    assert_eq!((json["ok"].as_bool(), json["domain"].as_str()), (Some(true), Some("partner.test")));
    assert_eq!(json["findings"][0]["about"], "conf");

    let scene = Scene::at(closed(LOOPBACK)).await;
    let said = scene.run(&["--json", "s2s", "check", "partner.test"]);
    let json: serde_json::Value = serde_json::from_str(&said.text).unwrap();
    assert_eq!((said.code, json["ok"].as_bool()), (1, Some(false)));
    assert_eq!(
        (json["fault"]["code"].as_str(), json["fault"]["whose"].as_str()),
        (Some("port-closed"), Some("theirs"))
    );
    for part in ["text", "remedy"] {
        assert!(json["fault"][part].as_str().is_some_and(|text| text.contains("partner.test")), "{json}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_said() {
    let scene = Scene::new("").await;
    for (arguments, code) in [
        (&["s2s", "check", "alice@partner.test"][..], 2),
        (&["s2s", "check", "partner.test/x"], 2),
        (&["s2s", "check", "partner.test", "--from", "other.test"], 2),
        (&["s2s", "list"], 1),
        (&["s2s", "show", "partner.test"], 1),
        (&["s2s", "close", "partner.test"], 1),
    ] {
        assert_eq!(scene.run(arguments).code, code, "{arguments:?}");
    }
}

// --- the conf ----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn the_conf_keeps_the_domain_out() {
    let (scene, _) = Scene::showing(|ca| ca.issue(&["partner.test"])).await;
    let keeps = "the conf keeps this server from partner.test";
    scene.conf("enabled = false\n");
    scene.fails("federation-off", OURS, "this server talks to no other one: [s2s] in its conf says enabled = false");
    scene.conf("deny = [\"*.test\"]\n");
    scene.fails("refused-by-conf", OURS, &format!("{keeps}: deny in [s2s] has it"));
    scene.conf("allow = [\"*.example.org\"]\n");
    scene.fails("refused-by-conf", OURS, &format!("{keeps}: allow in [s2s] does not have it"));
    scene.conf("[s2s.domain.\"partner.test\"]\ncertificates = \"refuse\"\n");
    let why = "[s2s.domain.\"partner.test\"] says certificates = \"refuse\"";
    scene.fails("refused-by-conf", OURS, &format!("{keeps}: {why}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conf_says_where_the_server_is() {
    let scene = Scene::new("$ORIGIN partner.test.\n_xmpp-server._tcp SRV 0 0 0 .\n").await;
    let config = scene.authority.issue(&["partner.test"]).config();
    let address = serve(LOOPBACK, 0, direct("partner.test", &config, EXTERNAL));
    scene.conf(&format!("[s2s.domain.\"partner.test\"]\naddresses = [\"{address}\"]\ntls = \"direct\"\n"));
    let said = scene.check("partner.test");
    said.step("ok", "dns", "not asked: the conf says where the server is");
    said.works(&format!(
        "messages get to partner.test: {address} (direct TLS), TLS 1.3; we prove who we are by our certificate (EXTERNAL)"
    ));
}

// --- DNS ---------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn no_srv_records_and_the_domain_itself_works() {
    // An address that no other run of these tests has: the port is the one of the RFC.
    let [a, b, ..] = std::process::id().to_le_bytes();
    let own = Ipv4Addr::new(127, 77, a, b.max(1));
    let scene = Scene::new(&format!("$ORIGIN partner.test.\n@ A {own}\n")).await;
    let config = scene.authority.issue(&["partner.test"]).config();
    let address = serve(own, 5269, starttls("partner.test", &config, EXTERNAL));
    let said = scene.check("partner.test");
    said.step("ok", "dns", "no SRV records; so it is partner.test itself, port 5269");
    said.works(&format!(
        "messages get to partner.test: {address} (partner.test, STARTTLS), TLS 1.3; we prove who we are by our certificate \
         (EXTERNAL)"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_srv_records_and_nothing_else() {
    let scene = Scene::new("$ORIGIN partner.test.\n_other._tcp SRV 0 0 1 x\n").await;
    let no = "DNS has no server for partner.test";
    scene.fails(
        "dns-no-server",
        THEIRS,
        &format!("{no}: partner.test has no SRV record for XMPP servers, and no address"),
    );
    scene.zones("");
    scene.fails("dns-no-server", THEIRS, &format!("{no}: the domain partner.test does not exist in DNS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_records_lead_nowhere() {
    let scene = Scene::new("$ORIGIN partner.test.\n_xmpp-server._tcp SRV 0 5 5269 gone\n").await;
    let text = "DNS has no server for partner.test: its SRV records lead nowhere: they name gone.partner.test:5269 \
                (no such host)";
    scene.fails("dns-no-server", THEIRS, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_records_say_no() {
    let scene = Scene::new("$ORIGIN partner.test.\n_xmpp-server._tcp SRV 0 0 0 .\n@ A 127.0.0.1\n").await;
    scene.fails("dns-not-offered", THEIRS, "partner.test does not federate: its SRV record has the target \".\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_private_addresses() {
    let scene = Scene::at((LOOPBACK, 5269).into()).await;
    scene.conf("");
    let conf = std::fs::read_to_string(scene.folder.0.join("rookery.toml")).unwrap();
    scene.write("rookery.toml", &conf.replace("private_addresses = true", "private_addresses = false"));
    let text = "DNS has no server for partner.test: its SRV records lead nowhere: they name xmpp.partner.test:5269 (its \
                address 127.0.0.1 is not public (s2s.private_addresses = true allows it))";
    scene.fails("dns-no-server", THEIRS, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nameserver_fails() {
    let scene = Scene::new("$ORIGIN partner.test.\n$SERVFAIL @\n").await;
    let text =
        "DNS gives no answer for partner.test: the nameserver answers SERVFAIL for _xmpp-server._tcp.partner.test SRV";
    scene.fails("dns-failing", NETWORK, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nameserver_is_silent() {
    let scene = Scene::new("$ORIGIN partner.test.\n$DROP @\n").await;
    let text = "DNS gives no answer for partner.test: no nameserver answers (asked for \
                _xmpp-server._tcp.partner.test SRV)";
    scene.fails("dns-failing", NETWORK, text);
}

/// `partner.test`, signed, with something wrong.
async fn signed(wrong: &str) -> Scene {
    let zone =
        format!("$ORIGIN partner.test.\n$SIGN\n{wrong}\n_xmpp-server._tcp SRV 0 5 5269 xmpp\nxmpp A 127.0.0.1\n");
    let scene = Scene::new(&zone).await;
    scene.believes_signatures();
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn dnssec_is_bogus() {
    for wrong in ["$BOGUS _xmpp-server._tcp", "$EXPIRED _xmpp-server._tcp", "$STRIP _xmpp-server._tcp"] {
        let text = "what DNS says of partner.test is not to be believed: DNSSEC: the answer for \
                    _xmpp-server._tcp.partner.test SRV does not have the signatures that it must have";
        signed(wrong).await.fails("dns-bogus", THEIRS, text);
    }
}
