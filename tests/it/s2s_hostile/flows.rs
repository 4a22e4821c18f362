//! Servers that read slowly, acknowledge late or not at all, or say very much on streams that we have opened.

use std::time::{Duration, Instant};

use socket2::SockRef;

use super::twice::{BEGIN, SM};
use super::*;
use crate::served::seconds_pass;

async fn say(romeo: &mut Talk, to: &str, body: &str) {
    romeo.say(&format!("<message type='chat' to='{to}'><body>{body}</body></message>")).await;
}

/// A stream of the other server's by which stanzas go both ways, proved, and nothing said on it yet.
async fn both_ways(field: &Field) -> Talk {
    let (mut theirs, features) = field.secured("b.example", "a.example", Some(&field.honest.identity)).await;
    assert!(features.contains("<bidi "), "{features}");
    theirs.say("<bidi xmlns='urn:xmpp:bidi'/>").await;
    theirs.say(&auth("=")).await;
    theirs.hear("<success").await;
    theirs.say(&header("b.example", "a.example")).await;
    theirs.hear("</stream:features>").await;
    theirs
}

/// One that knows no acknowledgements and answers no pings is believed to have what it was sent some time ago. What the socket
/// has not taken it cannot have: that goes out by the next stream.
#[tokio::test]
async fn what_waits_for_the_socket_does_not_count_as_delivered() {
    let field = Field::tuned("limits.write_stall = '1 hour'\n", "", "").await;
    let mut romeo = field.romeo().await;
    // The kernel holds little that has not been read.
    SockRef::from(&field.honest.listener).set_recv_buffer_size(16 * 1024).unwrap();
    let long = "x".repeat(20_000);
    say(&mut romeo, "x@b.example", &format!("0 {long}")).await;
    let theirs = field.honest.accept_open().await;
    for n in 1..30 {
        say(&mut romeo, "x@b.example", &format!("{n} {long}")).await;
    }
    romeo.synced("a.example").await;
    seconds_pass(40, || {}).await;
    drop(theirs);
    let mut again = field.honest.accept_open().await;
    let heard = again.hear("</body>").await;
    assert!(heard.contains("<body>0 "), "{}", &heard[..200]);
    drop(again);
    field.served.stop().await;
}

/// security.md B14: a stranger can have us call a server. What that says is read no faster than what others say.
#[tokio::test]
async fn b14_a_server_that_we_have_called_is_read_at_its_rate_too() {
    let field = Field::tuned("", "rate = '100 kB'\nburst = '10 kB'\n", "").await;
    let (mut romeo, mut honest) = (field.romeo().await, field.honest().await);
    say(&mut romeo, "x@evil.example", "one").await;
    let mut theirs = field.lair.accept_open().await;
    theirs.hear("<body>one</body>").await;
    let question = |id: &str| format!("<db:verify from='evil.example' to='a.example' id='{id}'>key</db:verify>");
    let many = question("some").repeat(2500);
    let begun = Instant::now();
    theirs.say(&many).await;
    theirs.say(&question("last")).await;
    theirs.hear("id='last'").await;
    // The burst and one read are not paid for.
    let least = Duration::from_millis((many.len() as u64 - 10_000 - 65_536) / 100);
    assert!(begun.elapsed() >= least, "{:?} in place of {least:?}", begun.elapsed());
    field.is_untouched(&mut romeo, &mut honest).await;
    drop((theirs, honest));
    field.served.stop().await;
}

/// The acknowledgement that the other server owes us may stand behind much else of what it has said, which we take our time to
/// read.
#[tokio::test]
async fn while_we_do_not_read_no_acknowledgement_is_missed() {
    let field = Field::tuned("", "rate = '10 kB'\nburst = '10 kB'\n", "").await;
    let mut romeo = field.romeo().await;
    say(&mut romeo, "x@b.example", "one").await;
    let mut theirs = field.honest.accept_open_with("<sm xmlns='urn:xmpp:sm:3'/>").await;
    theirs.hear("<enable xmlns='urn:xmpp:sm:3'").await;
    theirs.say("<enabled xmlns='urn:xmpp:sm:3'/>").await;
    theirs.hear("<body>one</body>").await;
    theirs.hear("<r xmlns='urn:xmpp:sm:3'/>").await;
    // More than it waits for an acknowledgement, and less than what was sent may take.
    theirs.say(&" ".repeat(540_000)).await;
    theirs.say("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    seconds_pass(60, || {}).await;
    say(&mut romeo, "x@b.example", "two").await;
    let heard = theirs.hear("<body>").await;
    theirs.hear("two</body>").await;
    assert!(!heard.contains("</stream:stream>"), "{heard}");
    drop(theirs);
    field.served.stop().await;
}

/// What goes out by a stream of theirs before they ask for acknowledgements would be in no count: it would have to go out again if the
/// connection were lost then, and could arrive twice, or after its sender was told that it had not.
#[tokio::test]
async fn nothing_goes_out_before_they_have_asked_for_acknowledgements_or_done_without() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    say(&mut romeo, "x@b.example", "one").await;
    // Ours comes to nothing.
    let _calling = field.honest.accept().await;
    let mut theirs = both_ways(&field).await;
    theirs.say("<enable xmlns='urn:xmpp:sm:3'/>").await;
    let heard = theirs.hear("<enabled ").await;
    assert!(!heard.contains("<body>"), "{heard}");
    theirs.hear("<body>one</body>").await;
    theirs.say("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    field.served.stop().await;
}

/// What went out by a stream of theirs before they ask for acknowledgements is in no count. When they have acknowledged anything
/// they have read it, and it does not go out again.
#[tokio::test]
async fn what_went_out_before_acknowledgements_were_agreed_upon_goes_out_once() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    let mut theirs = both_ways(&field).await;
    theirs.say(BEGIN).await;
    let ping = theirs.hear("<ping xmlns='urn:xmpp:ping'/></iq>").await;
    assert!(ping.contains("id='begin'"), "{ping}");
    // These have no ping behind them: the first one is not answered yet.
    for body in ["one", "two"] {
        say(&mut romeo, "x@b.example", body).await;
        theirs.hear(&format!("<body>{body}</body>")).await;
    }
    theirs.say("<enable xmlns='urn:xmpp:sm:3'/>").await;
    theirs.hear("<enabled ").await;
    theirs.hear("<r xmlns='urn:xmpp:sm:3'/>").await;
    theirs.say("<a xmlns='urn:xmpp:sm:3' h='0'/></stream:stream>").await;
    theirs.hear_out().await;
    say(&mut romeo, "x@b.example", "three").await;
    let heard = field.honest.accept_open().await.hear("</body>").await;
    assert!(heard.contains("<body>three</body>"), "{heard}");
    field.served.stop().await;
}

/// The same with a stream of theirs that goes on with one by which nothing of ours went.
#[tokio::test]
async fn what_went_out_before_a_resumption_goes_out_once() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    // Ours go by a stream of ours at first.
    say(&mut romeo, "x@b.example", "zero").await;
    let mut ours = field.honest.accept_open_with(SM).await;
    ours.hear("<enable ").await;
    ours.say("<enabled xmlns='urn:xmpp:sm:3'/>").await;
    ours.hear("<body>zero</body>").await;
    let mut theirs = both_ways(&field).await;
    theirs.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    let enabled = theirs.hear("<enabled ").await + &theirs.hear("/>").await;
    let id = enabled.split("id='").nth(1).and_then(|rest| rest.split('\'').next()).unwrap().to_owned();
    drop(theirs);
    ours.say("<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>").await;
    ours.hear_out().await;
    say(&mut romeo, "x@b.example", "one").await;
    let calling = field.honest.accept().await;
    let mut theirs = both_ways(&field).await;
    theirs.say(BEGIN).await;
    theirs.hear("<body>one</body>").await;
    theirs.say(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    theirs.hear("<resumed ").await;
    say(&mut romeo, "x@b.example", "two").await;
    let heard = theirs.hear("<body>two</body>").await;
    assert!(!heard.contains("<body>one</body>"), "{heard}");
    drop(calling);
    field.served.stop().await;
}
