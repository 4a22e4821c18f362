//! What an admin sees of two servers that talk: `rookery s2s list`, `show`, `close`, and a look at a real server.

use crate::authority::Authority;
use crate::s2s::{converse, free, two};
use crate::served::Served;

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sees_the_streams_and_closes_them() {
    let (a, b) = two("starttls", "valid", true).await;
    assert_eq!(a.rookery(&["s2s", "list"]), (0, String::new()));
    let (code, json) = a.rookery(&["--json", "s2s", "show", "b.example"]);
    assert_eq!(code, 3, "{json}");
    converse(&a, &b).await;

    let (code, list) = a.rookery(&["s2s", "list"]);
    assert!(code == 0 && list.starts_with("b.example  1 out, ") && !list.contains("failed"), "{list}");
    let (code, shown) = a.rookery(&["s2s", "show", "b.example"]);
    assert_eq!(code, 0, "{shown}");
    for part in [
        "b.example\nstream ",
        ", out, 127.",
        "\n  their certificate is valid, issued under \"the tests' authority\"",
        "\n  a.example to b.example, by certificate",
        "\n  b.example to a.example, by certificate",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let (_, json) = a.rookery(&["--json", "s2s", "list"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ok"]["servers"][0]["domain"], "b.example");
    assert_eq!(json["ok"]["servers"][0]["streams"][0]["pairs"][0]["by"], "certificate");

    let (code, closed) = a.rookery(&["s2s", "close", "b.example"]);
    assert!(code == 0 && closed.starts_with("b.example: ") && !closed.starts_with("b.example: 0"), "{closed}");
    converse(&a, &b).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sees_dialback() {
    let (a, b) = two("direct", "dialback", false).await;
    converse(&a, &b).await;
    let (_, shown) = a.rookery(&["s2s", "show", "b.example"]);
    assert!(shown.contains("\n  a.example to b.example, by dialback"), "{shown}");
    assert!(shown.contains("\n  their certificate is self-signed: nobody vouches for it"), "{shown}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_real_server() {
    let (a, b) = two("starttls", "valid", true).await;
    let (code, text) = a.rookery(&["s2s", "check", "b.example"]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "verdict  messages get to b.example: ",
        " (STARTTLS), TLS 1.3; we prove who we are by our certificate (EXTERNAL)",
        "; asks for our certificate",
        "the certificate is valid, issued under \"the tests' authority\"",
        "XMPP 1.0, offers SASL EXTERNAL",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    b.stop().await;
    let (code, text) = a.rookery(&["s2s", "check", "b.example"]);
    assert!(code == 1 && text.contains(" refuses connections: nothing listens on this port"), "{text}");
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_oneself() {
    let authority = Authority::new("the tests' authority");
    let (identity, address) = (authority.issue(&["a.example"]), free());
    let conf = format!(
        "[[listen]]\nkind = 's2s'\naddress = '{address}'\ntls = 'starttls'\n[host.'a.example']\n[s2s]\ndnssec = false\n\
         authorities = '{{folder}}/ca.pem'\n[s2s.domain.'a.example']\naddresses = ['{address}']\n"
    );
    let files = [
        ("ca.pem", authority.pem.as_str()),
        ("certs/a.example.crt", identity.certificate_pem.as_str()),
        ("certs/a.example.key", identity.key_pem.as_str()),
    ];
    let server = Served::new(&conf, &files, &[]).await;
    // Whoever is named to ask: it is ours.
    for more in [&[][..], &["--from", "a.example"]] {
        let (code, text) = server.rookery(&[&["s2s", "check", "a.example"], more].concat());
        let verdict = format!("verdict  other servers find and reach a.example: {address} (STARTTLS), TLS 1.3");
        assert!(code == 0 && text.lines().any(|line| line == verdict), "{text}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_service_of_our_own() {
    let authority = Authority::new("the tests' authority");
    let address = free();
    let found = |domain| format!("[s2s.domain.'{domain}']\naddresses = ['{address}']\n");
    let conf = format!(
        "[[listen]]\nkind = 's2s'\naddress = '{address}'\ntls = 'starttls'\n[host.'a.example']\n[modules.muc]\n\
         domains = ['rooms', 'other']\n[s2s]\ndnssec = false\nauthorities = '{{folder}}/ca.pem'\n{}{}",
        found("rooms.a.example"),
        found("other.a.example")
    );
    let identity = authority.issue(&["a.example", "rooms.a.example"]);
    let files = [
        ("ca.pem", authority.pem.as_str()),
        ("certs/a.example.crt", identity.certificate_pem.as_str()),
        ("certs/a.example.key", identity.key_pem.as_str()),
    ];
    let server = Served::new(&conf, &files, &[]).await;
    let (code, text) = server.rookery(&["s2s", "check", "rooms.a.example"]);
    for line in [
        "ok       conf         rooms.a.example is a domain of this server, looked at as others look at it".to_owned(),
        format!("verdict  other servers find and reach rooms.a.example: {address} (STARTTLS), TLS 1.3"),
    ] {
        assert!(code == 0 && text.lines().any(|said| said == line), "no {line:?} in\n{text}");
    }
    // The host's certificate stands in for it, and does not name it: that is ours to mend.
    let (code, text) = server.rookery(&["s2s", "check", "other.a.example"]);
    assert!(code == 1 && text.contains("is for a.example, rooms.a.example, not for other.a.example"), "{text}");
    assert!(text.contains("\nwhose    ours: it is for you to act\n"), "{text}");
    server.stop().await;
}
