//! Servers that say too much, too slowly, or that have others asked on their behalf.

use std::time::{Duration, Instant};

use super::*;

/// security.md B1, B3, B5: what XMPP does without, and what is too large, too deep or too long, ends the stream of whoever says it,
/// before and after it has proved who it is.
#[tokio::test]
async fn b5_what_is_too_large_or_too_deep_ends_the_stream() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let inside = |xml: &str| format!("<message from='x@evil.example' to='{ROMEO}'><body>{LIE}</body>{xml}</message>");
    let cases = [
        (inside(&"x".repeat(600_000)), "policy-violation"),
        (inside(&"<x xmlns='y'/>".repeat(100_000)), "policy-violation"),
        (inside(&"<x>".repeat(10_000)), "policy-violation"),
        (inside(&format!("<x {}/>", (0..10_000).map(|n| format!("a{n}='' ")).collect::<String>())), "policy-violation"),
        (inside(&format!("<{} xmlns='y'/>", "x".repeat(70_000))), "policy-violation"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]>".to_owned(), "restricted-xml"),
        ("<!-- a comment -->".to_owned(), "restricted-xml"),
        (inside("&a;"), ""),
        (inside("&#0;"), ""),
        (inside("\u{1}"), ""),
        (
            "<message xmlns='jabber:client' from='x@evil.example' to='romeo@a.example'/>".to_owned(),
            "unsupported-stanza-type",
        ),
        ("<iq".to_owned() + &" ".repeat(600_000), "policy-violation"),
    ];
    for (said, condition) in cases {
        let mut talk = field.external("evil.example", "a.example", &field.lair.identity).await;
        let _ = talk.try_say(said.as_bytes()).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains(&format!("<stream:error><{condition}")), "{condition}: {heard}");
    }
    // A stranger may say far less.
    for said in [
        format!("<db:result from='d.example' to='a.example'>{}</db:result>", "k".repeat(20_000)),
        format!("<db:result from='d.example' to='a.example'>{}</db:result>", "<x>".repeat(20)),
        format!("<x xmlns='{}'/>", "y".repeat(20_000)),
    ] {
        let (mut talk, _) = field.secured("d.example", "a.example", None).await;
        talk.say(&said).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains("<stream:error><policy-violation "), "{heard}");
    }
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md B3, B14: an element that never ends is cut off at its limit, not read for ever.
#[tokio::test]
async fn b14_an_endless_element_is_cut_off() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let mut talk = field.external("evil.example", "a.example", &field.lair.identity).await;
    talk.say(&format!("<message from='x@evil.example' to='{ROMEO}'><body>{LIE}")).await;
    let piece = [b'x'; 16 * 1024];
    let mut said = 0;
    // The sockets hold some megabytes besides.
    while said < 64 << 20 && talk.try_say(&piece).await.is_ok() {
        said += piece.len();
    }
    assert!(said < 64 << 20, "{said}");
    assert!(talk.try_hear("<policy-violation ").await.is_ok());
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md B14: who is slow, or never proves who it is, has its time and no more; what it says meanwhile makes it no longer.
#[tokio::test]
async fn b14_strangers_have_their_time() {
    let field = Field::new().await;
    let begun = Instant::now();
    let silent = async {
        let mut talk = Talk::connect(field.port(TlsMode::Starttls)).await;
        talk.hear_out().await
    };
    let slow = async {
        let mut talk = Talk::connect(field.port(TlsMode::Starttls)).await;
        for byte in header("d.example", "a.example").chars() {
            // It goes on when it has been told already.
            if talk.try_say(byte.to_string().as_bytes()).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        talk.hear_out().await
    };
    let undecided = async {
        let (mut talk, _) = field.secured("d.example", "a.example", None).await;
        while talk.try_say(b" ").await.is_ok() && begun.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        talk.hear_out().await
    };
    let (silent, slow, undecided) = tokio::join!(silent, slow, undecided);
    for heard in [silent, slow, undecided] {
        assert!(heard.is_empty() || heard.contains("<connection-timeout "), "{heard}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    field.served.stop().await;
}

/// security.md B16: requests for dialback do not make us call others without bound: few are looked into at a time, on a stream
/// and for a domain, and the rest is refused.
#[tokio::test]
async fn b16_requests_for_dialback_are_bounded() {
    // Fewer than would end the stream.
    const DOMAINS: usize = 90;
    let victim = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = victim.local_addr().unwrap();
    let domain =
        |n: usize| format!("[s2s.domain.'v{n}.example']\naddresses = ['{address}']\ncertificates = 'dialback'\n");
    let field = Field::with(&(0..DOMAINS).map(domain).collect::<String>()).await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let (mut talk, _) = field.secured("d.example", "a.example", None).await;
    for n in 0..DOMAINS {
        talk.say(&format!("<db:result from='v{n}.example' to='a.example'>key</db:result>")).await;
    }
    // Refusals come at once and in order; so does this one, for a domain that is the server's own.
    talk.say("<db:result from='z.example' to='a.example'>key</db:result>").await;
    let refused = talk.hear("to='z.example'").await.matches("<resource-constraint ").count();
    // The victim says nothing at all to those who call.
    let mut called = Vec::new();
    while let Ok(Ok((tcp, _))) = tokio::time::timeout(Duration::from_millis(500), victim.accept()).await {
        called.push(tcp);
    }
    assert!(!called.is_empty() && called.len() <= 32, "{} calls", called.len());
    assert!(refused + 32 >= DOMAINS, "{refused} refused");
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md B2, B16: streams that nobody needs are bounded by domain, and others have theirs.
#[tokio::test]
async fn b16_streams_of_one_domain_are_bounded() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..15 {
        let (mut talk, _) = field.secured("evil.example", "a.example", Some(&field.lair.identity)).await;
        talk.say(&auth("=")).await;
        talk.hear("<success").await;
        talk.say(&header("evil.example", "a.example")).await;
        talk.hear("<stream:features").await;
        // A stream that is let in has an answer to this.
        talk.say("<db:verify from='evil.example' to='a.example' id='x'>key</db:verify>").await;
        match talk.try_hear("type='invalid'").await {
            Ok(_) => open.push(talk),
            Err(heard) => {
                assert!(heard.contains("<stream:error><resource-constraint "), "{heard}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 1 && open.len() <= 10, "{} open, {refused} refused", open.len());
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A9, B14: each request for dialback costs a look at a certificate and a line of the log; a stream has so many and
/// no more.
#[tokio::test]
async fn b14_requests_for_dialback_that_come_to_nothing_end_their_stream() {
    let field = Field::new().await;
    let mut talk = field.external("evil.example", "a.example", &field.lair.identity).await;
    let requests: String =
        (0..500).map(|n| format!("<db:result from='d{n}.example' to='a.example'>key</db:result>")).collect();
    let _ = talk.try_say(requests.as_bytes()).await;
    let heard = talk.hear_out().await;
    assert!(heard.contains("<stream:error><policy-violation"), "{heard}");
    assert!(heard.matches("type='error'").count() < 200, "{heard}");
    field.served.stop().await;
}
