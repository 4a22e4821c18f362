//! Dialback (XEP-0220) with those who lie in each of its four steps.

use tokio::task::JoinSet;

use super::*;

/// Has the server open a stream to `d.example`, as far as its key.
async fn key_of_the_server(field: &Field, romeo: &mut Talk, text: &str) -> (Talk, String) {
    romeo.say(&format!("<message to='x@d.example'><body>{text}</body></message>")).await;
    let mut talk = field.shabby.accept_secured(&field.shabby.identity).await;
    talk.hear("<stream:stream").await;
    talk.hear(">").await;
    talk.say(&response("d.example", "a.example", "the-id")).await;
    talk.say("<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback></stream:features>")
        .await;
    let result = talk.hear("</db:result>").await;
    let key = result.rsplit_once("</").unwrap().0.rsplit_once('>').unwrap().1.to_owned();
    assert!(result.contains("from='a.example'") && result.contains("to='d.example'"), "{result}");
    (talk, key)
}

/// A question about a key, and what is said to it.
async fn verify(talk: &mut Talk, from: &str, to: &str, id: &str, key: &str) -> String {
    talk.say(&format!("<db:verify from='{from}' to='{to}' id='{id}'>{key}</db:verify>")).await;
    talk.try_hear("/>").await.unwrap_or_else(|end| end)
}

/// security.md A8, A9: a key is right for its stream and its pair of domains, in this direction, and for nothing else.
#[tokio::test]
async fn a9_a_key_is_good_for_one_stream_of_one_pair() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    let (mut called, key) = key_of_the_server(&field, &mut romeo, "hello").await;
    let (mut talk, _) = field.secured("d.example", "a.example", Some(&field.shabby.identity)).await;
    let flipped: String = key.chars().rev().collect();
    let longer = format!("{key}0");
    for (from, to, id, key) in [
        ("d.example", "a.example", "another-id", key.as_str()),
        ("d.example", "a.example", "the-id", &flipped),
        ("d.example", "a.example", "the-id", &longer),
        ("d.example", "a.example", "the-id", ""),
        ("d.example", "a.example", "the-id", &key[..key.len() - 1]),
        // Of other pairs: the other host of ours, another peer, both swapped.
        ("d.example", "z.example", "the-id", &key),
        ("b.example", "a.example", "the-id", &key),
        ("evil.example", "a.example", "the-id", &key),
    ] {
        let heard = verify(&mut talk, from, to, id, key).await;
        assert!(!heard.contains("type='valid'"), "{from} {to} {id} {key}: {heard}");
        if heard.contains("</stream:stream>") {
            talk = field.secured("d.example", "a.example", Some(&field.shabby.identity)).await.0;
        }
    }
    let heard = verify(&mut talk, "d.example", "a.example", "the-id", &key).await;
    assert!(heard.contains("type='valid'"), "{heard}");
    // That was honest; so the message comes.
    called.say("<db:result from='d.example' to='a.example' type='valid'/>").await;
    called.hear("<body>hello</body>").await;
    field.served.stop().await;
}

/// security.md A9: an answer that nobody has asked for is none, on streams that others have opened to us.
#[tokio::test]
async fn a9_unsolicited_answers_on_a_strangers_stream_prove_nothing() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    for answer in [
        "<db:result from='d.example' to='a.example' type='valid'/>",
        "<db:result from='b.example' to='a.example' type='valid'/>",
        "<db:result from='a.example' to='d.example' type='valid'/>",
        "<db:result from='a.example' to='a.example' type='valid'/>",
        "<db:result from='d.example' to='a.example' type='valid'>key</db:result>",
        "<db:verify from='d.example' to='a.example' id='the-id' type='valid'/>",
        "<db:verify from='b.example' to='a.example' id='the-id' type='valid'/>",
        "<db:verify from='a.example' to='b.example' id='the-id' type='valid'/>",
        "<db:verify from='d.example' to='a.example' type='valid'/>",
        "<db:result/>",
        "<db:verify/>",
        "<db:other from='d.example' to='a.example' type='valid'/>",
        "<result xmlns='jabber:server:dialback' from='d.example' to='a.example' type='&#118;alid'/>",
    ] {
        for identity in [&field.shabby.identity, &field.lair.identity] {
            let from = answer.split("from='").nth(1).and_then(|rest| rest.split('\'').next()).unwrap_or("d.example");
            let (mut talk, _) = field.secured("d.example", "a.example", Some(identity)).await;
            talk.say(answer).await;
            talk.say(&lie(&format!("x@{from}"))).await;
            let heard = talk.hear_out().await;
            assert!(heard.contains("<stream:error>") && !heard.contains("type='valid'"), "{answer}: {heard}");
        }
    }
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A9: nor are they on streams of ours: what waits is not sent, and the stream ends.
#[tokio::test]
async fn a9_unsolicited_answers_on_our_stream_send_nothing() {
    let mut cases = JoinSet::new();
    for answer in [
        "<db:result from='b.example' to='a.example' type='valid'/>",
        "<db:result from='d.example' to='z.example' type='valid'/>",
        "<db:result from='a.example' to='d.example' type='valid'/>",
        "<db:verify from='d.example' to='a.example' id='the-id' type='valid'/>",
        "<message from='x@d.example' to='romeo@a.example'><body>a lie</body></message>",
    ] {
        cases.spawn(async move {
            let field = Field::new().await;
            let mut romeo = field.romeo().await;
            let (mut talk, _) = key_of_the_server(&field, &mut romeo, "secret").await;
            talk.say(answer).await;
            let heard = talk.hear_out().await;
            assert!(heard.contains("</stream:stream>") && !heard.contains("secret"), "{answer}: {heard}");
            // What waits comes back in the end.
            let back = romeo.hear("</error>").await;
            assert!(back.contains("type='error'") && !back.contains(LIE), "{back}");
            field.served.stop().await;
        });
    }
    cases.join_all().await;
}

/// security.md A9: the server of the domain alone says whether a key is right, and only to what it was asked.
#[tokio::test]
async fn a9_only_the_domains_own_server_says_that_a_key_is_right() {
    let mut cases = JoinSet::new();
    for answer in [
        "<db:verify from='d.example' to='a.example' id='ID' type='invalid'/>",
        "<db:verify from='d.example' to='a.example' id='ID' type='error'><error type='cancel'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:verify>",
        "<db:verify from='d.example' to='a.example' id='another' type='valid'/>",
        "<db:verify from='b.example' to='a.example' id='ID' type='valid'/>",
        "<db:verify from='a.example' to='d.example' id='ID' type='valid'/>",
        "<db:verify from='d.example' to='z.example' id='ID' type='valid'/>",
        "<db:verify from='d.example' to='a.example' type='valid'/>",
        "<db:result from='d.example' to='a.example' type='valid'/>",
        "</stream:stream>",
    ] {
        cases.spawn(async move {
            let field = Field::new().await;
            let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
            // Somebody claims to be d.example; its server is asked.
            let (mut liar, _) = field.secured("d.example", "a.example", None).await;
            liar.say("<db:result from='d.example' to='a.example'>key</db:result>").await;
            let mut home = field.shabby.accept_secured(&field.shabby.identity).await;
            home.hear("<stream:stream").await;
            home.hear(">").await;
            home.say(&response("d.example", "a.example", "another")).await;
            home.say("<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>").await;
            let question = home.hear("</db:verify>").await;
            let asked = question.split("<db:verify").nth(1).unwrap();
            let id = asked.split("id='").nth(1).unwrap().split('\'').next().unwrap();
            assert!(asked.contains(">key<") && asked.contains("to='d.example'"), "{question}");
            home.say(&answer.replace("ID", id)).await;
            let heard = liar.try_hear("<db:result").await.unwrap_or_else(|end| end);
            liar.say(&lie("x@d.example")).await;
            let heard = heard + &liar.hear_out().await;
            assert!(!heard.contains("type='valid'") && heard.contains("</stream:stream>"), "{answer}: {heard}");
            field.is_untouched(&mut romeo, &mut honest).await;
            field.served.stop().await;
        });
    }
    cases.join_all().await;
}

/// security.md A10, D9: where the conf wants a valid certificate, or TLS, dialback stands in for neither.
#[tokio::test]
async fn a10_dialback_does_not_stand_in_for_a_certificate() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    // In the clear, nothing but STARTTLS is heard, for whichever domain.
    for domain in ["d.example", "b.example", "evil.example"] {
        let mut talk = field.plain(domain, "a.example").await;
        talk.say(&format!("<db:result from='{domain}' to='a.example'>key</db:result>")).await;
        talk.say(&lie(&format!("x@{domain}"))).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains("<stream:error><policy-violation "), "{heard}");
    }
    // A key for ourselves, for a domain that is not served here, and in our own name.
    for (from, to) in
        [("b.example", "a.example"), ("a.example", "a.example"), ("z.example", "a.example"), ("d.example", "b.example")]
    {
        let (mut talk, _) = field.secured("d.example", "a.example", Some(&field.shabby.identity)).await;
        talk.say(&format!("<db:result from='{from}' to='{to}'>key</db:result>")).await;
        let heard = talk.try_hear("type='error'").await.unwrap_or_else(|end| end);
        assert!(!heard.contains("type='valid'"), "{from} {to}: {heard}");
        talk.say(&lie(&format!("x@{from}"))).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains("<stream:error>") || heard.contains("</stream:stream>"), "{heard}");
    }
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}
