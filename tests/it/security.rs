//! Known weaknesses of other servers, tried on this one as a whole: those that no module's own tests hold
//! (`tests/security.md` is the list).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rookery_core::module::{Nonza, NonzaOutcome};
use rookery_core::store::{AccountStore, TailStore};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::parser::{Parsed, parse};
use rookery_xmpp::sasl::Credentials;

use crate::tables;
use crate::world::{Client, World, jid};

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";

#[test]
fn every_row_has_its_tests_and_every_test_named_after_a_row_is_in_the_table() {
    let named = tables::check("tests/security.md");
    assert!(named > 100, "{named}");
    let table = tables::read("tests/security.md");
    let mut missing = BTreeSet::new();
    for folder in ["src", "modules", "tests"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut |source, file| {
            for (_, rest) in source.match_indices("fn ").map(|(at, word)| source.split_at(at + word.len())) {
                let name = rest.split(['(', '<', ' ']).next().unwrap_or_default();
                let test = format!("{file}::{name}");
                if is_row(name.split('_').next().unwrap_or_default()) && !table.contains(&test) {
                    missing.insert(test);
                }
            }
        });
    }
    assert!(missing.is_empty(), "not in the table: {missing:#?}");
}

/// `a1`, `b14`, `c8`.
fn is_row(word: &str) -> bool {
    let mut rest = word.chars();
    matches!(rest.next(), Some('a'..='c')) && !rest.as_str().is_empty() && rest.all(|digit| digit.is_ascii_digit())
}

fn collect(folder: &Path, look: &mut impl FnMut(&str, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap();
            look(&std::fs::read_to_string(&path).unwrap(), file);
        }
    }
}

#[test]
fn a7_random_bytes_come_from_the_system_alone() {
    let mut found = Vec::new();
    for folder in ["src", "modules"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut |source, file| {
            let is_test = file.contains("/tests") || file.contains("/examples/") || file.ends_with("testing.rs");
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            let others = ["rand::", "fastrand", "thread_rng", "SmallRng", "RandomState::new().build_hasher"];
            found.extend(others.iter().filter(|other| !is_test && code.contains(**other)).map(|_| file.to_owned()));
        });
    }
    assert_eq!(found, [""; 0]);
}

#[tokio::test]
async fn a7_ids_that_nobody_may_guess_are_long_and_never_the_same() {
    let world = World::new(&[ROMEO]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let stream = rookery_core::session::StreamInfo { id: 1, peer: [127, 0, 0, 1].into(), secured: true };
        let session = world.server.bind(&jid(ROMEO), None, stream).await.unwrap();
        let romeo = Client::over(&world, session.clone());
        romeo.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
        for id in [session.jid.resource().to_owned(), romeo.session.resumption_id().expect("enabled").into()] {
            // 128 bits in base64.
            assert!(id.len() >= 22, "{id}");
            assert!(seen.insert(id));
        }
        world.server.end_session(&session).await;
    }
}

async fn accept(client: &Client, xml: &str) -> Result<(), StreamError> {
    let stanza = match parse(Bytes::copy_from_slice(xml.as_bytes()), &Namespaces::content_only("jabber:client")) {
        Ok(Parsed::Stanza(stanza)) => stanza,
        other => panic!("{other:?} for {xml}"),
    };
    client.server.accept(&client.session, stanza, None).await
}

#[tokio::test]
async fn a13_nobody_speaks_in_the_name_of_another() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    world.login(ROMEO, "phone").await;
    let juliet = world.login(JULIET, "balcony").await;
    for stanza in [
        "<message FROM type='chat' to='juliet@localhost'><body>hi</body></message>",
        "<iq FROM type='set' id='1' to='juliet@localhost/balcony'><query xmlns='jabber:iq:roster'/></iq>",
        "<presence FROM to='juliet@localhost' type='subscribe'/>",
    ] {
        for from in ["juliet@localhost", "localhost", "romeo@localhost/phone", "romeo@localhost.example", "x@y.example"]
        {
            let forged = stanza.replace("FROM", &format!("from='{from}'"));
            let refused = accept(&romeo, &forged).await.expect_err(&forged);
            assert_eq!(refused.condition, StreamCondition::InvalidFrom);
        }
    }
    assert_eq!(juliet.read(), "");
    for from in ["", "from='romeo@localhost'", "from='Romeo@LOCALHOST'", "from='romeo@localhost/orchard'"] {
        accept(&romeo, &format!("<message {from} type='chat' to='{JULIET}'><body>hi</body></message>")).await.unwrap();
        let got = juliet.read();
        assert!(got.contains("from='romeo@localhost/orchard'"), "{got}");
    }
}

/// Asks to resume on a stream of this user, as its first words or, with a session, too late.
async fn resume(world: &World, user: &str, session: Option<&Client>, id: &str, h: u32) -> Result<String, StreamError> {
    let (user, host) = (jid(user), world.server.host("localhost").unwrap());
    let session = session.map(|client| &client.session);
    let mut nonza = Nonza { user: &user, session, reply: Vec::new(), wait: None };
    let resume: Element = format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>").parse().unwrap();
    world.server.nonza(&host, &mut nonza, &resume).expect("known").expect("no stream error yet");
    let NonzaOutcome { resume, reply } = match nonza.wait.take() {
        Some(wait) => wait.await?,
        None => NonzaOutcome::default(),
    };
    nonza.reply.extend(reply);
    Ok(match resume {
        Some(_) => "resumed".to_owned(),
        None => nonza.reply.iter().map(Element::to_xml).collect(),
    })
}

#[tokio::test(start_paused = true)]
async fn a14_a_session_is_resumed_by_its_user_alone_and_a_bad_count_does_not_keep_it_alive() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let juliet = world.login(JULIET, "balcony").await;
    let id: String = romeo.session.resumption_id().expect("enabled").into();
    for session in [None, Some(&juliet)] {
        let condition = if session.is_some() { "<unexpected-request" } else { "<item-not-found" };
        let refused = resume(&world, JULIET, session, &id, 0).await.unwrap();
        assert!(refused.starts_with("<failed") && refused.contains(condition), "{refused}");
        assert!(!refused.contains(" h="), "whether there is such a session is not told: {refused}");
    }
    let other = world.login(ROMEO, "phone").await;
    assert!(resume(&world, ROMEO, Some(&other), &id, 0).await.unwrap().contains("<unexpected-request"));
    romeo.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    assert!(romeo.read().contains("id='p'"), "it is as it was");

    let start = tokio::time::Instant::now();
    romeo.cut().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let error = resume(&world, ROMEO, None, &id, 1000).await.expect_err("more than was sent");
    assert!(error.app.is_some_and(|app| app.name() == "handled-count-too-high"));
    while !romeo.session.is_closed() {
        assert!(start.elapsed() <= Duration::from_secs(601), "it lives on");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(resume(&world, ROMEO, None, &id, 0).await.unwrap().contains("<item-not-found"));
}

#[tokio::test]
async fn c1_what_only_a_server_wraps_is_taken_out() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let juliet = world.login(JULIET, "balcony").await;
    let forged = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='nurse@localhost'>\
                  <body>forged</body></message></forwarded>";
    for wrapper in [
        format!("<received xmlns='urn:xmpp:carbons:2'>{forged}</received>"),
        format!("<sent xmlns='urn:xmpp:carbons:2'>{forged}</sent><sent xmlns='urn:xmpp:carbons:2'>{forged}</sent>"),
        format!("<c:received xmlns:c='urn:xmpp:carbons:2'>{forged}</c:received>"),
        format!("<result xmlns='urn:xmpp:mam:2' id='1'>{forged}</result>"),
    ] {
        for (kind, to) in [("chat", JULIET), ("normal", "juliet@localhost/balcony"), ("headline", JULIET)] {
            romeo.send(&format!("<message type='{kind}' to='{to}'><body>true</body>{wrapper}</message>")).await;
            let got = juliet.read();
            assert!(got.contains("<body>true</body>") && !got.contains("forged"), "{got}");
        }
    }
}

#[tokio::test]
async fn c9_what_cannot_be_delivered_is_told_once_and_never_for_an_error() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    for to in ["nobody@localhost", "juliet@localhost/gone", "localhost", "localhost/x", "x@far.example", "far.example"]
    {
        for (kind, errors) in [("get", 1), ("set", 1), ("result", 0), ("error", 0)] {
            romeo.send(&format!("<iq type='{kind}' id='i' to='{to}'><x xmlns='urn:x'/></iq>")).await;
            assert_eq!(romeo.read().matches("<error ").count(), errors, "iq {kind} to {to}");
        }
        for (kind, errors) in [("normal", 1), ("groupchat", 1), ("error", 0)] {
            romeo.send(&format!("<message type='{kind}' to='{to}'><body>x</body></message>")).await;
            assert_eq!(romeo.read().matches("<error ").count(), errors, "message {kind} to {to}");
        }
    }
}

#[tokio::test]
async fn c10_the_delay_of_the_server_is_its_own_and_comes_last() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let forged = "<delay xmlns='urn:xmpp:delay' from='localhost' stamp='9999-12-31T23:59:59Z'/>";
    romeo.send(&format!("<message type='chat' to='{JULIET}'>{forged}<body>late</body></message>")).await;
    world.settle().await;
    let juliet = world.bind(JULIET, "balcony").await;
    juliet.send("<presence/>").await;
    let mut got = juliet.read();
    while !got.contains("<body>late</body>") {
        tokio::task::yield_now().await;
        got += &juliet.read();
    }
    let last = got.rsplit("<delay ").next().unwrap();
    assert!(last.contains("from='localhost'") && !last.contains("9999"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn c8_what_waited_for_a_deleted_account_is_not_for_the_next_of_that_name() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login_resumable(ROMEO, "orchard").await;
    let phone = world.login(JULIET, "phone").await;
    romeo.send(&format!("<message type='chat' to='{JULIET}'><body>private</body></message>")).await;
    // The clock stands still, so the message is not on disk yet.
    assert!(world.server.delete_account(&jid(JULIET)).await.unwrap());
    world.server.end_session(&phone.session).await;
    let credentials = Credentials::from_password("another", 10_000).unwrap();
    assert!(world.store.create_account(&jid(JULIET), &credentials).await.unwrap());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.store.tail(&jid(JULIET), 0, u64::MAX, 10).await.unwrap().len(), 0);
    let next = world.login(JULIET, "balcony").await;
    world.settle().await;
    assert!(!next.read().contains("private"));
}
