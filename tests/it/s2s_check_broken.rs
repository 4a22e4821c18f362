//! `rookery s2s check` on connections, streams and TLS that are broken.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::authority::self_signed;
use crate::s2s_check::{NETWORK, OURS, Scene, THEIRS, place, scripted, scripted_direct, zone};
use crate::s2s_peers::{
    DIALBACK, EXTERNAL, Step, closed, crowded, features, header, proceed, serve, starttls, until_starttls,
};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The beginning of a stream without version, as before 2004.
const OLD: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                   xmlns:db='jabber:server:dialback' id='42'>";

// --- the connection ----------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let address = closed(LOOPBACK);
    let place = place(address);
    let text = format!("{place} refuses connections: nothing listens on this port");
    Scene::at(address).await.fails("port-closed", THEIRS, &text).step("error", "connect", &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_dropped() {
    // A queue of connections that is full drops what else comes.
    let (address, _crowd) = crowded(LOOPBACK);
    let text = format!("{} does not answer: something drops the packets", place(address));
    Scene::at(address).await.impatient().fails("no-answer", NETWORK, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ipv6_and_dead() {
    let address = closed(Ipv6Addr::LOCALHOST);
    let text = "partner.test has IPv6 addresses only, and none of them is reached from here";
    let said = Scene::at(address).await.fails("only-ipv6", NETWORK, text);
    said.step("error", "connect", &format!("{} refuses connections: nothing listens on this port", place(address)));
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_dead_and_ipv4_works() {
    let scene = Scene::new("").await;
    let config = scene.authority.issue(&["partner.test"]).config();
    let works = serve(LOOPBACK, 0, starttls("partner.test", &config, EXTERNAL));
    let dead = SocketAddr::from((Ipv6Addr::LOCALHOST, works.port()));
    scene.zones(&format!("{}xmpp AAAA ::1\n", zone("_xmpp-server", works)));
    let said = scene.check("partner.test");
    let fine = place(works);
    said.works(&format!(
        "messages get to partner.test: {fine}, TLS 1.3; we prove who we are by our certificate (EXTERNAL)"
    ));
    said.is("besides", &format!("{} refuses connections: nothing listens on this port", place(dead)));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_accepts_and_says_nothing() {
    let (scene, place) = scripted(vec![Step::Waits]).await;
    let text = format!("{place} takes the connection and says nothing");
    scene.impatient().fails("silent", THEIRS, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_hangs_up() {
    let (scene, place) = scripted(vec![Step::Hears(">")]).await;
    scene.fails("hung-up", THEIRS, &format!("{place} hangs up where its stream header is due"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_answers() {
    let answer = "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n<html></html>".to_owned();
    let (scene, place) = scripted(vec![Step::Hears(">"), Step::Says(answer.clone()), Step::Waits]).await;
    scene.fails("web-server", THEIRS, &format!("a web server answers at {place}"));
    let (scene, place) = scripted_direct(vec![Step::Takes(100), Step::Says(answer), Step::Waits]).await;
    scene.fails("web-server", THEIRS, &format!("a web server answers at {place}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_answers() {
    let (scene, place) = scripted(vec![Step::Says("SSH-2.0-OpenSSH_9.2p1\r\n".to_owned()), Step::Waits]).await;
    scene.fails("not-xmpp", THEIRS, &format!("what answers at {place} does not speak XMPP"));
}

#[tokio::test(flavor = "multi_thread")]
async fn far_too_much_comes() {
    let mut script = header("partner.test");
    script.extend([Step::Says(format!("<a>{}", "x".repeat(200_000))), Step::Waits]);
    let (scene, place) = scripted(script).await;
    let text = format!("{place} sends more than any server needs where its stream features are due");
    scene.fails("excessive", THEIRS, &text);
}

// --- the stream --------------------------------------------------------------------------------------------------

fn stream_error(condition: &str) -> Vec<Step> {
    let mut script = header("partner.test");
    let namespace = "urn:ietf:params:xml:ns:xmpp-streams";
    script.push(Step::Says(format!(
        "<stream:error><{condition} xmlns='{namespace}'/><text xmlns='{namespace}'>go\taway</text></stream:error>"
    )));
    script.push(Step::Waits);
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_does_not_serve_the_domain() {
    let (scene, place) = scripted(stream_error("host-unknown")).await;
    let text = format!("the server at {place} does not serve partner.test (host-unknown)");
    scene.fails("host-unknown", THEIRS, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_for_clients() {
    let (scene, place) = scripted(stream_error("invalid-namespace")).await;
    let text = format!("{place} is a port for clients, not for servers (invalid-namespace)");
    scene.fails("client-port", THEIRS, &text);

    let config = scene.authority.issue(&["partner.test"]).config_for(b"xmpp-client");
    let (scene, place) = scripted_direct(vec![Step::Secures(config), Step::Hears(">")]).await;
    let text = format!("{place} speaks TLS, but not with servers (no_application_protocol)");
    scene.fails("client-port", THEIRS, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_sends_us_elsewhere() {
    let (scene, place) = scripted(stream_error("see-other-host")).await;
    let text = format!("{place} sends us on to another host, where nothing vouches for partner.test");
    scene.fails("see-other-host", THEIRS, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_does_not_want_us() {
    let (scene, place) = scripted(stream_error("policy-violation")).await;
    scene.fails("stream-error", THEIRS, &format!("{place} ends the stream: policy-violation: go away"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_of_before_2004() {
    let (scene, place) = scripted(vec![Step::Hears(">"), Step::Says(OLD.to_owned()), Step::Waits]).await;
    scene.fails("old-stream", THEIRS, &format!("{place} speaks the XMPP of before 2004, which has no encryption"));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_encryption() {
    let mut script = header("partner.test");
    script.extend([features(DIALBACK), Step::Waits]);
    let (scene, place) = scripted(script).await;
    scene.fails("no-starttls", THEIRS, &format!("{place} offers no encryption (STARTTLS)"));
    scene.conf("[s2s.domain.\"partner.test\"]\ncertificates = \"plain\"\n");
    scene.check("partner.test").works(&format!(
        "messages get to partner.test: {place}, no encryption; we prove who we are by being called back (dialback)"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_refused() {
    let mut script = until_starttls("partner.test");
    script.extend([
        Step::Says("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>".to_owned()),
        Step::Waits,
    ]);
    let (scene, place) = scripted(script).await;
    scene.fails("starttls-refused", THEIRS, &format!("{place} offers encryption (STARTTLS) and then refuses it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_stalls() {
    let mut script = header("partner.test");
    script.extend([Step::Says("<stream:features><star".to_owned()), Step::Waits]);
    let (scene, place) = scripted(script).await;
    let text = format!("{place} falls silent where its stream features are due");
    scene.impatient().fails("stalled", THEIRS, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_way_to_prove_who_we_are() {
    let scene = Scene::new("").await;
    let config = scene.authority.issue(&["partner.test"]).config();
    let mut script = until_starttls("partner.test");
    script.extend([proceed(), Step::Secures(config), Step::Hears("<stream:stream "), Step::Hears(">")]);
    script.push(Step::Says(OLD.replace("id=", "version='1.0' id=").replace("xmlns:db='jabber:server:dialback' ", "")));
    script.extend([features(""), Step::Waits]);
    let address = serve(LOOPBACK, 0, script);
    scene.zones(&zone("_xmpp-server", address));
    let place = place(address);
    let text = format!("{place} offers neither SASL EXTERNAL nor dialback: there is no way to prove to it who we are");
    scene.fails("no-proof", THEIRS, &text);

    // Where our own certificate is worth nothing, that is the reason.
    scene.shows(&self_signed(&["home.test"]));
    let text = "our own certificate for home.test is self-signed: nobody vouches for it";
    scene.fails("own-certificate", OURS, text).step("warning", "own", text);
}

// --- TLS ---------------------------------------------------------------------------------------------------------

/// An alert as a record of TLS 1.0.
fn alert(description: u8) -> Step {
    Step::Sends(vec![0x15, 3, 1, 0, 2, 2, description])
}

/// What a server does that answers to the handshake with this.
fn handshake(then: Vec<Step>) -> Vec<Step> {
    let mut script = until_starttls("partner.test");
    script.extend([proceed(), Step::Takes(100)]);
    script.extend(then);
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_too_old() {
    // A server of today with old versions alone says so by an alert; one of then answers in its own version.
    let mut old_hello = vec![0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    old_hello.extend([7; 32]);
    old_hello.extend([0, 0, 0x2f, 0]);
    for answer in [alert(70), Step::Sends(old_hello)] {
        let (scene, place) = scripted(handshake(vec![answer, Step::Waits])).await;
        scene.fails("tls-too-old", THEIRS, &format!("{place} speaks neither TLS 1.2 nor TLS 1.3"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_refused() {
    let (scene, place) = scripted(handshake(vec![alert(40), Step::Waits])).await;
    scene.fails("tls-refused", THEIRS, &format!("{place} refuses the TLS handshake (handshake_failure)"));
    let (scene, place) = scripted(handshake(vec![alert(112), Step::Waits])).await;
    let text = format!("{place} has no certificate for partner.test (unrecognized_name)");
    scene.fails("tls-name-unknown", THEIRS, &text);
    let (scene, place) = scripted(handshake(vec![alert(48), Step::Waits])).await;
    scene.fails("tls-our-certificate", OURS, &format!("{place} does not accept our certificate (unknown_ca)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_silent() {
    let (scene, place) = scripted(handshake(vec![Step::Waits])).await;
    scene.impatient().fails("tls-silent", THEIRS, &format!("{place} says nothing in the TLS handshake"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_hellos_are_lost() {
    let scene = Scene::new("").await;
    let config = scene.authority.issue(&["partner.test"]).config();
    let mut script = until_starttls("partner.test");
    script.extend([proceed(), Step::IfSmall(1000), Step::Secures(config)]);
    script.extend(header("partner.test"));
    script.extend([features(EXTERNAL), Step::Waits]);
    let address = serve(LOOPBACK, 0, script);
    scene.zones(&zone("_xmpp-server", address));
    let place = place(address);
    let text = format!("{place} does not answer to the TLS handshake unless its first message fits into one packet");
    scene.impatient().fails("tls-hello-lost", NETWORK, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_packets_are_lost() {
    // The head of a handshake record, and no more of it.
    let begun = Step::Sends(vec![0x16, 3, 3, 0x10, 0, 2, 0, 0, 80]);
    let (scene, place) = scripted(handshake(vec![begun, Step::Waits])).await;
    let text = format!("the TLS handshake with {place} stops after 9 bytes: large packets are lost on the way");
    scene.impatient().fails("tls-stalled", NETWORK, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_hangs_up() {
    let (scene, place) = scripted(handshake(Vec::new())).await;
    scene.fails("tls-hung-up", THEIRS, &format!("{place} hangs up in the TLS handshake"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_makes_no_sense() {
    let nonsense = Step::Sends(vec![0x16, 3, 3, 0, 4, 1, 0, 0, 0]);
    let (scene, place) = scripted(handshake(vec![nonsense, Step::Waits])).await;
    let said = scene.check("partner.test");
    said.is("details", "docs/troubleshooting-federation.md, tls-failed");
    assert!(said.text().contains(&format!("the TLS handshake with {place} fails: ")), "{}", said.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_xmpp_where_tls_is_due() {
    let mut script = vec![Step::Takes(100), Step::Says(OLD.to_owned())];
    script.push(Step::Says(
        "<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>".to_owned(),
    ));
    script.push(Step::Waits);
    let (scene, place) = scripted_direct(script).await;
    scene.fails("tls-not-spoken", THEIRS, &format!("{place} speaks plain XMPP where TLS is due"));
    let (scene, place) =
        scripted_direct(vec![Step::Takes(100), Step::Says("220 ready\r\n".to_owned()), Step::Waits]).await;
    scene.fails("tls-not-spoken", THEIRS, &format!("{place} does not speak TLS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_where_plain_xmpp_is_due() {
    let (scene, place) = scripted(vec![Step::Takes(10), alert(10), Step::Waits]).await;
    let text = format!("{place} speaks TLS from the first byte, and DNS says that it begins by STARTTLS");
    scene.fails("tls-too-soon", THEIRS, &text);
}
