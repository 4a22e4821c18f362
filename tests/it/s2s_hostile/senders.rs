//! Stanzas of a server that has proved who it is, and says that it is somebody else, or that it is the recipient's own server.

use super::*;

/// security.md A11: `from` is of the domain that is authenticated on this very stream, `to` is ours; anything else ends the
/// stream and goes nowhere.
#[tokio::test]
async fn a11_a_server_speaks_for_its_own_domain_alone() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    let to = |to: &str| format!("<message from='x@evil.example' to='{to}'><body>{LIE}</body></message>");
    let presence = |from: &str, kind: &str| format!("<presence from='{from}' to='{ROMEO}' type='{kind}'/>");
    let iq = |from: &str| {
        format!("<iq type='get' id='1' from='{from}' to='{ROMEO}/orchard'><ping xmlns='urn:xmpp:ping'/></iq>")
    };
    let cases = [
        (lie("x@b.example"), "invalid-from"),
        (lie("b.example"), "invalid-from"),
        (lie("x@d.example"), "invalid-from"),
        (lie("x@sub.evil.example"), "invalid-from"),
        (lie("x@example"), "invalid-from"),
        (lie("x@evil.example.b.example"), "invalid-from"),
        (lie("x@b.example/evil.example"), "invalid-from"),
        (lie("evil.example@b.example"), "invalid-from"),
        // Users and hosts of the server itself, and its rooms.
        (lie("juliet@a.example"), "invalid-from"),
        (lie("romeo@a.example/orchard"), "invalid-from"),
        (lie("a.example"), "invalid-from"),
        (lie("tybalt@z.example"), "invalid-from"),
        (lie("room@conference.a.example/nick"), "invalid-from"),
        // A Cyrillic letter.
        (lie("x@evil\u{456}.example"), "invalid-from"),
        (lie(""), "improper-addressing"),
        (lie("@evil.example"), "improper-addressing"),
        (lie("x@"), "improper-addressing"),
        (lie("x").replace("from='x' ", ""), "improper-addressing"),
        (format!("<message from='x@evil.example'><body>{LIE}</body></message>"), "improper-addressing"),
        (to(""), "improper-addressing"),
        (to("x@b.example"), "host-unknown"),
        (to("x@elsewhere.example"), "host-unknown"),
        // A host of ours, but not the one that this stream is authenticated for.
        (to("tybalt@z.example"), "invalid-from"),
        (presence("juliet@a.example", "subscribe"), "invalid-from"),
        (presence("juliet@a.example", "subscribed"), "invalid-from"),
        (presence("x@b.example", "unavailable"), "invalid-from"),
        (presence("x@b.example", "probe"), "invalid-from"),
        (iq("b.example"), "invalid-from"),
        (iq("a.example"), "invalid-from"),
        // What cannot be answered in peace is not answered to somebody else, either.
        ("<iq type='get' id='1' from='romeo@a.example' to='@'><x xmlns='y'/></iq>".to_owned(), "improper-addressing"),
    ];
    for (stanza, condition) in cases {
        let mut talk = field.external("evil.example", "a.example", &field.lair.identity).await;
        talk.say(&stanza).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains(&format!("<stream:error><{condition} ")), "{stanza}: {heard}");
    }
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A11: another pair on the same stream needs an authentication of its own, and has it by its certificate.
#[tokio::test]
async fn a11_each_pair_of_domains_is_authenticated_by_itself() {
    let field = Field::new().await;
    let mut tybalt = field.served.login("tybalt@z.example", "street").await;
    let mut talk = field.honest().await;
    talk.say("<db:result from='b.example' to='z.example'>key</db:result>").await;
    let heard = talk.hear("/>").await;
    assert!(heard.contains("type='valid'"), "{heard}");
    talk.say("<message from='x@b.example' to='tybalt@z.example'><body>by another pair</body></message>").await;
    tybalt.hear("<body>by another pair</body>").await;
    field.served.stop().await;
}

/// security.md A3: who is authenticated at one host, as one domain, is so at no other and as no other.
#[tokio::test]
async fn a3_a_stream_is_not_begun_again_elsewhere() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    for (from, to, condition) in [
        ("evil.example", "z.example", "not-authorized"),
        ("b.example", "a.example", "invalid-from"),
        ("a.example", "a.example", "invalid-from"),
        ("evil.example", "elsewhere.example", "not-authorized"),
    ] {
        let (mut talk, _) = field.secured("evil.example", "a.example", Some(&field.lair.identity)).await;
        talk.say(&auth("=")).await;
        talk.hear("<success").await;
        talk.say(&header(from, to)).await;
        talk.say(&lie("x@b.example")).await;
        let heard = talk.hear_out().await;
        assert!(heard.contains(&format!("<stream:error><{condition} ")), "{from} to {to}: {heard}");
    }
    // Before TLS it was somebody else; then it counts who it is inside.
    let mut talk = field.plain("b.example", "a.example").await;
    talk.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    talk.hear("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    talk.secure("a.example", Some(&field.lair.identity), None).await;
    talk.say(&header("evil.example", "a.example")).await;
    talk.hear(">EXTERNAL<").await;
    talk.say(&auth("=")).await;
    talk.hear("<success").await;
    talk.say(&header("evil.example", "a.example")).await;
    talk.hear("<stream:features").await;
    talk.say(&lie("x@b.example")).await;
    assert!(talk.hear_out().await.contains("<stream:error><invalid-from "));
    // A header in the middle of a stream that is open.
    let mut talk = field.external("evil.example", "a.example", &field.lair.identity).await;
    talk.say(&header("b.example", "a.example")).await;
    talk.say(&lie("x@b.example")).await;
    assert!(talk.hear_out().await.contains("<stream:error>"));
    // In the name of the server itself.
    let mut talk = Talk::connect(field.port(TlsMode::Starttls)).await;
    talk.say(&header("a.example", "a.example")).await;
    let heard = talk.hear_out().await;
    assert!(heard.contains("<stream:error><invalid-from "), "{heard}");
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md C1, C3: copies, archive results and ids in the recipient's own name are nothing that another server can say.
#[tokio::test]
async fn c1_other_servers_make_no_carbons_and_no_ids_of_ours() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    romeo.say("<iq type='set' id='on'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    romeo.hear("id='on'").await;
    let mut talk = field.external("evil.example", "a.example", &field.lair.identity).await;
    let forwarded = format!(
        "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='juliet@a.example/x' to='{ROMEO}'>\
         <body>{LIE}</body></message></forwarded>"
    );
    for wrapped in ["received", "sent"] {
        for copy in [
            format!("<{wrapped} xmlns='urn:xmpp:carbons:2'>{forwarded}</{wrapped}>"),
            format!("<c:{wrapped} xmlns:c='urn:xmpp:carbons:2'>{forwarded}</c:{wrapped}>"),
            format!("<{wrapped} xmlns='&#117;rn:xmpp:carbons:2'>{forwarded}</{wrapped}>"),
        ] {
            talk.say(&format!("<message from='x@evil.example' to='{ROMEO}'>{copy}</message>")).await;
            talk.say(&format!("<message from='x@evil.example' to='{ROMEO}/orchard'>{copy}</message>")).await;
        }
    }
    talk.say(&format!(
        "<message from='x@evil.example' to='{ROMEO}'><body>mine</body><stanza-id xmlns='urn:xmpp:sid:0' id='forged' \
         by='{ROMEO}'/><s:stanza-id xmlns:s='urn:xmpp:sid:0' id='forged' by='ROMEO@A.example'/></message>"
    ))
    .await;
    let heard = romeo.hear("<body>mine</body>").await + &romeo.hear("</message>").await;
    assert!(!heard.contains(LIE) && !heard.contains("carbons") && !heard.contains("forged"), "{heard}");
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md C9: what cannot be delivered is told to its sender once, and an error is never answered with one.
#[tokio::test]
async fn c9_what_cannot_be_delivered_is_told_once_and_never_for_an_error() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    // To a domain that nobody finds.
    romeo.say("<message to='x@nowhere.example' id='error' type='error'><body>1</body></message>").await;
    romeo.say("<message to='x@nowhere.example' id='told'><body>2</body></message>").await;
    let heard = romeo.hear("</error>").await;
    assert!(heard.contains("id='told'") && heard.contains("<remote-server-"), "{heard}");
    assert!(!romeo.synced("a.example").await.contains("<error"));
    // To a user who is not there: the error goes to the honest server, by a stream of ours.
    let mut talk = field.honest().await;
    talk.say("<message from='x@b.example' to='nobody@a.example' id='error' type='error'><body>1</body></message>")
        .await;
    talk.say("<iq from='x@b.example' to='nobody@a.example' id='result' type='result'/>").await;
    talk.say("<message from='x@b.example' to='nobody@a.example' id='told'><body>2</body></message>").await;
    let mut back = field.honest.accept_open().await;
    let heard = back.hear("</message>").await;
    assert!(heard.contains("id='told'") && heard.contains("type='error'"), "{heard}");
    assert!(!heard.contains("id='error'") && !heard.contains("id='result'"), "{heard}");
    field.served.stop().await;
}

/// security.md A14: a stream is gone on with by the domain that it is of, and by nobody else; trying harms nobody.
#[tokio::test]
async fn a14_nobody_goes_on_with_the_stream_of_another_domain() {
    let field = Field::new().await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    honest.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    let enabled = honest.hear("/>").await;
    let id = enabled.split("<enabled").nth(1).and_then(|rest| rest.split("id='").nth(1)).unwrap_or_default();
    let id = id.split('\'').next().unwrap_or_default().to_owned();
    assert!(id.len() >= 16, "{enabled}");
    let resume = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>");
    for h in ["0", "7", "4294967295", "x"] {
        let mut talk = field.external("evil.example", "a.example", &field.lair.identity).await;
        talk.say(&resume.replace("h='0'", &format!("h='{h}'"))).await;
        talk.say(&lie("x@b.example")).await;
        let heard = talk.hear_out().await;
        assert!(!heard.contains("<resumed") && heard.contains("<stream:error>"), "{heard}");
    }
    // Nor by itself at another host of ours, nor before it has proved who it is.
    let mut talk = field.external("b.example", "z.example", &field.honest.identity).await;
    talk.say(&resume).await;
    let heard = talk.try_hear("<failed").await;
    assert!(heard.is_ok_and(|heard| !heard.contains("<resumed")));
    let (mut talk, _) = field.secured("b.example", "a.example", Some(&field.lair.identity)).await;
    talk.say(&resume).await;
    let heard = talk.hear_out().await;
    assert!(!heard.contains("<resumed") && heard.contains("<stream:error>"), "{heard}");
    field.is_untouched(&mut romeo, &mut honest).await;
    field.served.stop().await;
}

/// security.md A13: a user speaks in nobody's name, neither in that of a user of another server.
#[tokio::test]
async fn a13_a_user_is_nobody_of_another_server() {
    let field = Field::new().await;
    for from in
        ["x@b.example", "b.example", "romeo@b.example/orchard", "romeo@z.example", "a.example", "juliet@a.example"]
    {
        let mut romeo = field.romeo().await;
        romeo.say(&format!("<message from='{from}' to='x@b.example'><body>{LIE}</body></message>")).await;
        let heard = romeo.hear_out().await;
        assert!(heard.contains("<stream:error><invalid-from "), "{from}: {heard}");
    }
    let mut romeo = field.romeo().await;
    romeo.say("<message to='x@b.example'><body>the truth</body></message>").await;
    let mut taken = field.honest.accept_open().await;
    let heard = taken.hear("</message>").await;
    assert!(heard.contains("from='romeo@a.example/orchard'") && !heard.contains(LIE), "{heard}");
    field.served.stop().await;
}
