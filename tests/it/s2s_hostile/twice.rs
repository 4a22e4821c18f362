//! What goes out reaches the other server once or goes back, whatever its streams do; and what it thinks of one of our domains is
//! no matter of the others.

use tokio::task::JoinSet;

use super::*;

const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
const BIDI: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";
pub(super) const SM: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
/// What shows, on a stream of theirs, that they do without acknowledgements for now.
pub(super) const BEGIN: &str =
    "<iq type='get' from='b.example' to='a.example' id='begin'><ping xmlns='urn:xmpp:ping'/></iq>";

/// Both servers call each other at the same time, and the other one's stream takes stanzas both ways (XEP-0288): what has gone by
/// that one does not go by ours as well.
#[tokio::test]
async fn two_servers_that_call_each_other_at_once_get_everything_once() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    romeo.say("<message to='x@b.example' type='headline'><body>news</body></message>").await;
    // Our stream comes as far as our certificate.
    let mut ours = field.honest.accept_secured(&field.honest.identity).await;
    ours.hear("<stream:stream").await;
    ours.hear(">").await;
    ours.say(&response("b.example", "a.example", "second")).await;
    ours.say(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>\
         </stream:features>",
    )
    .await;
    ours.hear("</auth>").await;
    // Meanwhile the other server's is there.
    let (mut theirs, _) = field.secured("b.example", "a.example", Some(&field.honest.identity)).await;
    theirs.say("<bidi xmlns='urn:xmpp:bidi'/>").await;
    theirs.say(&auth("=")).await;
    theirs.hear("<success").await;
    theirs.say(&header("b.example", "a.example")).await;
    theirs.say(BEGIN).await;
    theirs.hear("<body>news</body>").await;
    // Nothing is confirmed yet when ours is ready.
    ours.say(SUCCESS).await;
    ours.hear("<stream:stream").await;
    ours.say(&response("b.example", "a.example", "third")).await;
    ours.say("<stream:features/>").await;
    let heard = ours.hear("</").await;
    assert!(!heard.contains("news"), "{heard}");
    ours.say("</stream:stream>").await;
    // The other one goes on.
    romeo.say("<message to='x@b.example' type='headline'><body>more</body></message>").await;
    let heard = theirs.hear("<body>more</body>").await;
    assert!(!heard.contains("news"), "{heard}");
    field.served.stop().await;
}

/// XEP-0478: who is told that a stanza was too large for one stream does not find that it has gone by the next.
#[tokio::test]
async fn what_was_sent_back_as_too_large_does_not_go_by_the_next_stream() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    for (id, body) in [("small", "x".to_owned()), ("large", "x".repeat(20_000)), ("last", "x".to_owned())] {
        romeo.say(&format!("<message to='x@b.example' id='{id}'><body>{body}</body></message>")).await;
    }
    let limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>";
    let mut first = field.honest.accept_open_with(limits).await;
    first.hear("id='last'").await;
    let told = romeo.hear("</error>").await;
    assert!(told.contains("id='large'") && told.contains("<policy-violation"), "{told}");
    // Nothing was confirmed, so all that was written goes out again.
    drop(first);
    let heard = field.honest.accept_open().await.hear("id='last'").await;
    assert!(heard.contains("id='small'") && !heard.contains("id='large'"), "{heard}");
    field.served.stop().await;
}

/// A domain of ours that others cannot verify (it is in no DNS, say) keeps nobody from reaching them.
#[tokio::test]
async fn who_refuses_one_of_our_domains_is_called_for_the_others() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    let mut tybalt = field.served.login("tybalt@z.example", "street").await;
    for n in 0..3 {
        tybalt.say(&format!("<message to='x@d.example' id='{n}'><body>peace</body></message>")).await;
        let mut talk = field.shabby.accept_dialback().await;
        talk.say("<db:result from='d.example' to='z.example' type='invalid'/>").await;
        let told = tybalt.hear("</error>").await;
        assert!(told.contains("our dialback key is wrong"), "{told}");
    }
    romeo.say("<message to='x@d.example'><body>love</body></message>").await;
    let mut talk = field.shabby.accept_dialback().await;
    talk.say("<db:result from='d.example' to='a.example' type='valid'/>").await;
    talk.hear("<body>love</body>").await;
    field.served.stop().await;
}

/// security.md B9: a stanza that the other server ends its streams over goes back, and the others do not wait for it.
#[tokio::test]
async fn b9_what_the_other_server_dies_of_does_not_block_the_rest() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    for body in ["poison", "bread"] {
        romeo.say(&format!("<message to='x@b.example' id='{body}'><body>{body}</body></message>")).await;
    }
    let mut streams = 0;
    loop {
        let mut talk = field.honest.accept_open().await;
        streams += 1;
        let heard = talk.hear("</body>").await;
        if !heard.contains("poison") {
            assert!(heard.contains("<body>bread"), "{heard}");
            break;
        }
        assert!(streams < 6, "{heard}");
        talk.say(
            "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
        )
        .await;
        talk.hear_out().await;
    }
    let told = romeo.hear("</error>").await;
    assert!(told.contains("id='poison'") && told.contains("ends its streams"), "{told}");
    field.served.stop().await;
}

/// security.md B9: nor does a server that just drops the connection over something get it for ever.
#[tokio::test]
async fn b9_what_the_other_server_drops_the_connection_over_does_not_block_the_rest() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    for body in ["poison", "bread"] {
        romeo.say(&format!("<message to='x@b.example' id='{body}'><body>{body}</body></message>")).await;
    }
    let mut connections = 0;
    loop {
        let mut talk = field.honest.accept_open().await;
        let heard = talk.hear("</body>").await;
        if !heard.contains("poison") {
            assert!(heard.contains("<body>bread"), "{heard}");
            break;
        }
        connections += 1;
    }
    assert_eq!(connections, 3);
    let told = romeo.hear("</error>").await;
    assert!(told.contains("id='poison'") && told.contains("drops the connection when it is sent this"), "{told}");
    assert!(told.contains("It is not known whether this has arrived."), "{told}");
    field.served.stop().await;
}

/// The same of one that goes on with its stream each time.
#[tokio::test]
async fn b9_what_the_other_server_drops_each_resumption_over_does_not_block_the_rest() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    for body in ["poison", "bread"] {
        romeo.say(&format!("<message to='x@b.example' id='{body}'><body>{body}</body></message>")).await;
    }
    let mut talk = field.honest.accept_open_with(SM).await;
    talk.hear("<enable xmlns='urn:xmpp:sm:3'").await;
    talk.say("<enabled xmlns='urn:xmpp:sm:3' id='some' resume='true'/>").await;
    talk.hear("<body>poison</body>").await;
    let mut resumptions = 0;
    loop {
        drop(talk);
        talk = field.honest.accept_open_with(SM).await;
        let resume = talk.hear("/>").await;
        assert!(resume.contains("<resume xmlns='urn:xmpp:sm:3' previd='some'"), "{resume}");
        resumptions += 1;
        talk.say("<resumed xmlns='urn:xmpp:sm:3' previd='some' h='0'/>").await;
        let heard = talk.hear("</body>").await;
        if !heard.contains("poison") {
            assert!(heard.contains("<body>bread"), "{heard}");
            break;
        }
    }
    assert_eq!(resumptions, 3);
    let told = romeo.hear("</error>").await;
    assert!(told.contains("id='poison'") && told.contains("drops the connection when it is sent this"), "{told}");
    talk.say("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    romeo.say("<message to='x@b.example' id='more'><body>more</body></message>").await;
    let heard = talk.hear("<body>more</body>").await;
    assert!(!heard.contains("poison") && !heard.contains("bread"), "{heard}");
    field.served.stop().await;
}

/// A stream that ends in the same breath in which stanzas may flow has carried what waits, and leaves it to the next.
#[tokio::test]
async fn a_stream_that_ends_as_soon_as_stanzas_may_flow_does_not_keep_what_waits() {
    let enabled = "<enabled xmlns='urn:xmpp:sm:3' id='some' resume='true'/>";
    let error = "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let mut cases = JoinSet::new();
    for end in [
        "</stream:stream>".to_owned(),
        format!("{error}</stream:stream>"),
        // More is acknowledged than was sent.
        "<a xmlns='urn:xmpp:sm:3' h='9'/>".to_owned(),
        // Not a stanza, nor anything else.
        "<nonsense xmlns='urn:nobody'/>".to_owned(),
    ] {
        cases.spawn(async move {
            let field = Field::new().await;
            let mut romeo = field.romeo().await;
            romeo.say("<message to='x@b.example'><body>patience</body></message>").await;
            let mut talk = field.honest.accept_open_with(SM).await;
            talk.hear("<enable ").await;
            talk.say(&format!("{enabled}{end}")).await;
            drop(talk);
            let mut talk = field.honest.accept_open().await;
            talk.hear("<body>patience</body>").await;
            drop(talk);
            field.served.stop().await;
        });
    }
    cases.join_all().await;
    // The same with what had been written by an earlier connection.
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    romeo.say("<message to='x@b.example'><body>patience</body></message>").await;
    let mut talk = field.honest.accept_open_with(SM).await;
    talk.hear("<enable ").await;
    talk.say(enabled).await;
    talk.hear("<body>patience</body>").await;
    drop(talk);
    let mut talk = field.honest.accept_open_with(SM).await;
    talk.hear("<resume ").await;
    talk.say("<resumed xmlns='urn:xmpp:sm:3' previd='some' h='0'/></stream:stream>").await;
    drop(talk);
    let mut talk = field.honest.accept_open().await;
    talk.hear("<body>patience</body>").await;
    drop(talk);
    field.served.stop().await;
    // And where there are no acknowledgements.
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    romeo.say("<message to='x@d.example'><body>patience</body></message>").await;
    let mut talk = field.shabby.accept_dialback().await;
    talk.say("<db:result from='d.example' to='a.example' type='valid'/></stream:stream>").await;
    drop(talk);
    let mut talk = field.shabby.accept_dialback().await;
    talk.say("<db:result from='d.example' to='a.example' type='valid'/>").await;
    talk.hear("<body>patience</body>").await;
    drop(talk);
    field.served.stop().await;
}

/// A stream of ours that carries both ways and counts; the other server has sent something by it that is not on disk, and the
/// connection is lost. Romeo's message is not acknowledged.
async fn cut_off_before_it_was_stored(field: &Field, romeo: &mut Talk) {
    romeo.say("<message to='x@b.example'><body>patience</body></message>").await;
    let mut talk = field.honest.accept_open_with_all(BIDI, SM).await;
    talk.hear("<enable ").await;
    talk.say("<enabled xmlns='urn:xmpp:sm:3' id='some' resume='true'/>").await;
    talk.hear("<body>patience</body>").await;
    field.served.store.pause_commits();
    talk.say("<message from='x@b.example' to='romeo@a.example' type='chat'><body>news</body></message>").await;
    field.served.store.commits_held(1).await;
}

/// XEP-0198 §5: what the other server is told of its stanzas when we go on with a stream is the whole count. One that reached the
/// disk afterwards would be counted a second time when it is sent again.
#[tokio::test]
async fn a_stream_is_gone_on_with_when_what_came_by_it_is_on_disk() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    cut_off_before_it_was_stored(&field, &mut romeo).await;
    let early = tokio::time::timeout(Duration::from_secs(1), field.honest.listener.accept()).await;
    assert!(early.is_err(), "the count is not known yet");
    field.served.store.resume_commits();
    let mut talk = field.honest.accept_open_with_all(BIDI, SM).await;
    let resume = talk.hear("/>").await;
    assert!(resume.contains("<resume ") && resume.contains("h='1'"), "{resume}");
    talk.say("<resumed xmlns='urn:xmpp:sm:3' previd='some' h='0'/>").await;
    talk.hear("<body>patience</body>").await;
    talk.say("<message from='x@b.example' to='romeo@a.example' type='chat'><body>more</body></message>").await;
    let heard = romeo.hear("<body>more</body>").await;
    assert_eq!(heard.matches("<body>news</body>").count(), 1, "{heard}");
    drop(talk);
    field.served.stop().await;
}

/// The same with a database that takes too long for that: the stream is not gone on with, and what it carried goes by a new one.
#[tokio::test]
async fn a_stream_is_begun_anew_when_the_database_is_too_slow_to_go_on_with_it() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    cut_off_before_it_was_stored(&field, &mut romeo).await;
    let mut talk = field.honest.accept_open_with_all(BIDI, SM).await;
    let enable = talk.hear("/>").await;
    assert!(enable.contains("<enable "), "{enable}");
    talk.say("<enabled xmlns='urn:xmpp:sm:3' id='other' resume='true'/>").await;
    talk.hear("<body>patience</body>").await;
    field.served.store.resume_commits();
    drop(talk);
    field.served.stop().await;
}
