//! Servers that lie to us when we call: nothing that waits for them is told to whoever is not them.

use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::authority::{common_name, names};

/// Sends what must not arrive, and returns once it has come back.
async fn sent_in_vain(romeo: &mut Talk, to: &str) -> String {
    romeo.say(&format!("<message to='x@{to}' type='chat'><body>secret</body></message>")).await;
    let heard = romeo.hear("</message>").await;
    assert!(heard.contains("type='error'") && heard.contains("<remote-server-"), "{heard}");
    heard
}

/// security.md D9, A10: a server whose certificate is not the domain's is told nothing, however we came to it.
#[tokio::test]
async fn d9_a_server_without_the_right_certificate_is_told_nothing() {
    let mut past = names(&["b.example"]);
    (past.not_before, past.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let mut named = names(&[]);
    named.distinguished_name = common_name("b.example");
    type Wrong = Box<dyn Fn(&Authority) -> Identity + Send>;
    let wrong: [Wrong; 6] = [
        Box::new(|authority| authority.issue(&["evil.example"])),
        Box::new(|authority| authority.issue(&["x.b.example"])),
        Box::new(move |authority| authority.sign(past.clone())),
        Box::new(move |authority| authority.sign(named.clone())),
        Box::new(|_| self_signed(&["b.example"])),
        Box::new(|_| Authority::new("an authority").issue(&["b.example"])),
    ];
    let mut cases = JoinSet::new();
    for wrong in wrong {
        cases.spawn(async move {
            let field = Field::new().await;
            let mut romeo = field.romeo().await;
            let identity = wrong(&field.authority);
            let answering = async {
                let mut talk = field.honest.accept_secured(&identity).await;
                talk.say(&response("b.example", "a.example", "second")).await;
                talk.say("<stream:features/>").await;
                talk.hear_out().await
            };
            let (_, heard) = tokio::join!(sent_in_vain(&mut romeo, "b.example"), answering);
            assert_told_nothing(&heard);
            field.served.stop().await;
        });
    }
    cases.join_all().await;
}

fn assert_told_nothing(heard: &str) {
    for something in ["secret", "<auth", "<db:result"] {
        assert!(!heard.contains(something), "{heard}");
    }
}

/// security.md D9, A17: without TLS nothing is said, and nothing that comes before TLS counts after it.
#[tokio::test]
async fn a17_nothing_is_said_to_a_server_that_does_not_encrypt() {
    let features = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
                    </mechanisms><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
    let starttls = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
    let proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    let mut cases = JoinSet::new();
    for said in [
        features.to_owned(),
        "<stream:features/>".to_owned(),
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned(),
        "<db:result from='b.example' to='a.example' type='valid'/>".to_owned(),
        format!("{starttls}<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        format!("{starttls}{proceed}{}{features}", response("b.example", "a.example", "second")),
        format!("{starttls}{proceed}<db:result from='b.example' to='a.example' type='valid'/>"),
    ] {
        cases.spawn(async move {
            let field = Field::new().await;
            let mut romeo = field.romeo().await;
            let answering = async {
                let (mut talk, _) = field.honest.accept().await;
                talk.say(&format!("{}{said}", response("b.example", "a.example", "first"))).await;
                talk.hear_out().await
            };
            let (_, heard) = tokio::join!(sent_in_vain(&mut romeo, "b.example"), answering);
            assert_told_nothing(&heard);
            field.served.stop().await;
        });
    }
    cases.join_all().await;
}

/// security.md D4: a server that sends us somewhere else is not followed, in the clear or inside TLS.
#[tokio::test]
async fn d4_see_other_host_is_not_followed() {
    for secured in [false, true] {
        let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = format!(
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{}</see-other-host></stream:error>\
             </stream:stream>",
            trap.local_addr().unwrap()
        );
        let field = Field::new().await;
        let mut romeo = field.romeo().await;
        let answering = async {
            let mut talk = match secured {
                true => {
                    let mut talk = field.honest.accept_secured(&field.honest.identity).await;
                    talk.hear("<stream:stream").await;
                    talk
                }
                false => field.honest.accept().await.0,
            };
            talk.say(&format!("{}{elsewhere}", response("b.example", "a.example", "last"))).await;
            talk.hear_out().await
        };
        let (_, heard) = tokio::join!(sent_in_vain(&mut romeo, "b.example"), answering);
        assert_told_nothing(&heard);
        // Whoever is called has been called by now.
        let caught = tokio::time::timeout(Duration::from_millis(1), trap.accept()).await;
        assert!(caught.is_err(), "{caught:?}");
        field.served.stop().await;
    }
}

/// security.md B14, B5: a server that answers slowly, endlessly or not at all is given up in time, and the others do not wait
/// for it.
#[tokio::test]
async fn b14_a_server_that_holds_us_up_holds_up_nobody_else() {
    let header = response("evil.example", "a.example", "endless");
    let mut cases = JoinSet::new();
    for said in [
        // Nothing; half a header; features without end; depth without end; a name without end.
        String::new(),
        header[..header.len() / 2].to_owned(),
        format!("{header}<stream:features>{}", "<x xmlns='y'/>".repeat(200_000)),
        format!("{header}<stream:features>{}", "<x>".repeat(100_000)),
        format!("{header}<{}", "x".repeat(1_000_000)),
    ] {
        cases.spawn(async move {
            let field = Field::new().await;
            let mut romeo = field.romeo().await;
            let bad = async {
                let mut talk = Talk::over(field.lair.listener.accept().await.unwrap().0);
                let _ = talk.try_say(said.as_bytes()).await;
                talk.hear_out().await
            };
            let good = async {
                romeo.say("<message to='x@evil.example' id='bad'><body>secret</body></message>").await;
                romeo.say("<message to='x@b.example' id='good'><body>the truth</body></message>").await;
                let mut talk = field.honest.accept_open().await;
                talk.hear("<body>the truth</body>").await;
                let heard = romeo.hear("</message>").await;
                assert!(heard.contains("id='bad'") && heard.contains("<remote-server-timeout "), "{heard}");
            };
            let (heard, ()) = tokio::join!(bad, good);
            assert_told_nothing(&heard);
            field.served.stop().await;
        });
    }
    cases.join_all().await;
}

/// A certificate that has expired is renewed, mostly: what is sent meanwhile waits as long as the conf says, and no longer.
#[tokio::test]
async fn what_is_sent_to_a_server_with_an_expired_certificate_waits_for_a_new_one() {
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    let mut past = names(&["b.example"]);
    (past.not_before, past.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let expired = field.authority.sign(past);
    romeo.say("<message to='x@b.example' id='early'><body>patience</body></message>").await;
    drop(field.honest.accept_secured(&expired).await);
    let mut talk = field.honest.accept_open().await;
    talk.hear("<body>patience</body>").await;
    let answered = romeo.synced("a.example").await;
    assert!(!answered.contains("<error"), "{answered}");
    drop(talk);
    field.served.stop().await;
    // Nobody renews it: then the sender is told why.
    let field = Field::new().await;
    let mut romeo = field.romeo().await;
    let showing = async {
        loop {
            field.honest.accept_secured(&expired).await.hear_out().await;
        }
    };
    let told = tokio::select! {
        told = sent_in_vain(&mut romeo, "b.example") => told,
        () = showing => unreachable!(),
    };
    assert!(told.contains("the certificate of b.example has expired: it was valid until 2021-01-01"), "{told}");
    field.served.stop().await;
}
