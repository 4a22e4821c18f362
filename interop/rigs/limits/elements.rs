//! What the bytes of a stream may be: sizes and shapes (design's limits), and XML that XMPP forbids (RFC 6120 §11).

use std::fmt::Write as _;
use std::time::Duration;

use super::arena::{Arena, FLAT, Outcome, Trouble, ending};
use crate::client::{Connection, Transport};
use crate::{Failure, xml};

const SOON: Duration = Duration::from_secs(4);
const POLICY: &[&str] = &["policy-violation"];

/// Tries them, before authentication on each kind of listener, and after it.
pub(super) async fn try_all(arena: &mut Arena) -> Result<(), Trouble> {
    let transports =
        [("plain", Transport::Plain), ("before STARTTLS", Transport::Starttls), ("TLS", Transport::Direct)];
    for (at, transport) in transports {
        for (what, bytes, allowed) in before_authentication() {
            arena
                .check(&format!("{at}: {what}"), FLAT, async |arena| {
                    let mut connection = stranger(arena, transport).await?;
                    connection.queue(&bytes);
                    Ok(ending(&mut connection, SOON).await.must_be(allowed))
                })
                .await?;
        }
    }
    for (what, bytes, allowed) in after_authentication() {
        arena
            .check(&format!("session: {what}"), FLAT, async |arena| {
                let mut connection = arena.log_in("mallory").await?;
                connection.queue(&bytes);
                Ok(ending(&mut connection, SOON).await.must_be(allowed))
            })
            .await?;
    }
    within_limits(arena).await
}

type Attempt = (String, Vec<u8>, &'static [&'static str]);

fn attempt(what: &str, bytes: impl Into<Vec<u8>>, allowed: &'static [&'static str]) -> Attempt {
    (what.to_owned(), bytes.into(), allowed)
}

fn before_authentication() -> Vec<Attempt> {
    let mut list = vec![
        attempt("element of 11 KiB", format!("<auth xmlns='urn:x'>{}", "A".repeat(11 << 10)), POLICY),
        attempt("70 KiB of whitespace", " ".repeat(70 << 10), POLICY),
        attempt("33 elements in one", format!("<auth xmlns='urn:x'>{}", "<x/>".repeat(40)), POLICY),
        attempt("depth 9", nested("auth xmlns='urn:x'", 9), POLICY),
        attempt("10,000 attributes", attributes("auth", 10_000), POLICY),
        attempt("name of 9 KiB", format!("<{}", "n".repeat(9 << 10)), POLICY),
        attempt("an attribute's value without end", format!("<auth x='{}", "v".repeat(11 << 10)), POLICY),
    ];
    list.extend(forbidden("<auth xmlns='urn:x'>", "</auth>"));
    list
}

fn after_authentication() -> Vec<Attempt> {
    let children = |count: usize| format!("<message to='mallory@localhost'>{}", "<x/>".repeat(count));
    let mut list = vec![
        attempt("stanza of 257 KiB", format!("<message><body>{}", "b".repeat(257 << 10)), POLICY),
        attempt("stanza of 257 KiB, complete", message(&"b".repeat(257 << 10)), POLICY),
        attempt("65 attributes", attributes("message", 65), POLICY),
        attempt("10,000 attributes", attributes("message", 10_000), POLICY),
        attempt("10,000 attributes within", format!("<message>{}", attributes("x", 10_000)), POLICY),
        attempt("10,000 namespaces", namespaces(10_000), POLICY),
        attempt("33 namespaces", namespaces(33), POLICY),
        attempt("depth 65", nested("message", 65), POLICY),
        attempt("depth 10,000", nested("message", 10_000), POLICY),
        attempt("4,001 elements", children(4_001), POLICY),
        attempt("60,000 elements", children(60_000), POLICY),
        attempt("element's name of 64 KiB", format!("<message><{}", "n".repeat(64 << 10)), POLICY),
        attempt("attribute's name of 64 KiB", format!("<message {}", "n".repeat(64 << 10)), POLICY),
        attempt("prefix of 64 KiB", format!("<message><{}:x", "n".repeat(64 << 10)), POLICY),
        attempt("name of 257 bytes", format!("<message><{}/></message>", "n".repeat(257)), POLICY),
        attempt("end tag of 257 KiB", format!("<message></message{}", " ".repeat(257 << 10)), POLICY),
    ];
    list.extend(forbidden("<message><body>", "</body></message>"));
    list
}

/// RFC 6120 §11.1 and §11.3, and what XML 1.0 does not allow.
fn forbidden(start: &str, end: &str) -> Vec<Attempt> {
    const RESTRICTED: &[&str] = &["restricted-xml", "not-well-formed"];
    const ILL: &[&str] = &["not-well-formed", "invalid-xml"];
    const TEXT: &[&str] = &["not-well-formed", "bad-format", "unsupported-encoding"];
    let within = |what: &[u8]| [start.as_bytes(), what, end.as_bytes()].concat();
    vec![
        attempt("DOCTYPE", "<!DOCTYPE x [<!ENTITY a 'aaaa'>]>", RESTRICTED),
        attempt("comment", "<!-- x -->", RESTRICTED),
        attempt("comment within", within(b"<!-- x -->"), RESTRICTED),
        attempt("processing instruction", "<?php x ?>", RESTRICTED),
        attempt("processing instruction within", within(b"<?x y?>"), RESTRICTED),
        attempt("entity", within(b"&lol;"), &["restricted-xml", "not-well-formed", "undefined-condition"]),
        attempt("character reference U+0000", within(b"&#0;"), ILL),
        attempt("character reference U+FFFE", within(b"&#xFFFE;"), ILL),
        attempt("character reference beyond Unicode", within(b"&#x110000;"), ILL),
        attempt("U+0001", within(b"\x01"), TEXT),
        attempt("U+0000", within(b"\0"), TEXT),
        attempt("bad UTF-8", within(b"\xff\xfe"), TEXT),
        attempt("overlong UTF-8", within(b"\xc0\xaf"), TEXT),
        attempt("surrogate in UTF-8", within(b"\xed\xa0\x80"), TEXT),
        attempt("end tag of another element", within(b"</wrong>"), ILL),
        attempt("attribute twice", "<a xmlns='urn:x' b='1' b='2'/>", ILL),
        attempt("prefix nobody declared", "<p:a/>", &["bad-namespace-prefix", "not-well-formed"]),
        attempt("text between elements", "text", &["bad-format", "not-well-formed", "invalid-xml"]),
    ]
}

/// What is large or slow, and allowed.
async fn within_limits(arena: &mut Arena) -> Result<(), Trouble> {
    arena
        .check("limits announced before and after authentication (0478)", FLAT, async |arena| {
            let before = stranger(arena, Transport::Plain).await?.features;
            let after = arena.log_in("bob").await?.features;
            let [before, after] = [before, after].map(|features| {
                let limits = xml::child(&features, "limits")?;
                xml::text(limits, "max-bytes")?.parse::<usize>().ok()
            });
            let shown = format!("max-bytes {before:?}, then {after:?}");
            Ok(if before == Some(10 << 10) && after == Some(256 << 10) { Ok(shown) } else { Err(shown) })
        })
        .await?;
    arena
        .check("session: stanza of 250 KiB arrives", FLAT, async |arena| {
            let mut bob = arena.log_in("bob").await?;
            bob.queue(b"<presence/>");
            let text = "b".repeat(250 << 10);
            let to = bob.jid.clone();
            bob.queue(format!("<message to='{to}' id='large'><body>{text}</body></message>").as_bytes());
            arrives(&mut bob, "large", text.len()).await
        })
        .await?;
    arena
        .check("session: a stanza, a byte at a time, arrives", FLAT, async |arena| {
            let mut bob = arena.log_in("bob").await?;
            bob.queue(b"<presence/>");
            let text = "b".repeat(3000);
            let stanza = format!("<message to='{}' id='slow'><body>{text}</body></message>", bob.jid);
            for byte in stanza.into_bytes() {
                bob.queue(&[byte]);
                bob.flush().await?;
                tokio::task::yield_now().await;
            }
            arrives(&mut bob, "slow", text.len()).await
        })
        .await?;
    arena
        .check("session: a stanza without end, 100 bytes at a time", FLAT, async |arena| {
            let mut mallory = arena.log_in("mallory").await?;
            mallory.queue(b"<message><body>");
            for _ in 0..2800 {
                mallory.queue(&[b'b'; 100]);
                if mallory.flush().await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            Ok(ending(&mut mallory, SOON).await.must_be(POLICY))
        })
        .await?;
    arena
        .check("session: 2 MiB of whitespace", FLAT, async |arena| {
            let mut mallory = arena.log_in("mallory").await?;
            mallory.queue(&[b' '; 2 << 20]);
            mallory.queue(b"<iq type='get' id='after'><ping xmlns='urn:xmpp:ping'/></iq>");
            Ok(match ending(&mut mallory, SOON).await {
                end if end.other.iter().any(|iq| xml::holds(iq, "after")) => Ok("read, and the stream goes on".into()),
                end => end.must_be(POLICY),
            })
        })
        .await
}

async fn arrives(connection: &mut Connection, id: &str, length: usize) -> Result<Outcome, Failure> {
    let end = async {
        loop {
            let token = connection.element().await?;
            let bytes = connection.bytes(token);
            if xml::attribute(bytes, "id").as_deref() == Some(id) {
                let whole = xml::text(bytes, "body").is_some_and(|body| body.len() == length);
                return Ok(if whole { Ok("arrived".into()) } else { Err("arrived otherwise".into()) });
            }
        }
    };
    crate::within(SOON, end).await
}

/// A stream's beginning, authenticated by nobody.
pub(super) async fn stranger(arena: &Arena, transport: Transport) -> Result<Connection, Failure> {
    let mut connection = Connection::open(&arena.target(transport)).await?;
    connection.open_stream().await?;
    Ok(connection)
}

fn message(body: &str) -> String {
    format!("<message to='mallory@localhost'><body>{body}</body></message>")
}

fn nested(outermost: &str, depth: usize) -> String {
    format!("<{outermost}>{}", "<x>".repeat(depth - 1))
}

fn attributes(name: &str, count: usize) -> String {
    let mut tag = format!("<{name}");
    (0..count).for_each(|number| write!(tag, " a{number}=''").expect("a String takes all"));
    tag + ">"
}

fn namespaces(count: usize) -> String {
    let mut tag = "<message><x".to_owned();
    (0..count).for_each(|number| write!(tag, " xmlns:n{number}='u'").expect("a String takes all"));
    tag + ">"
}
