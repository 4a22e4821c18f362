//! RFC 6121 §8: what the server does with a stanza, by whom it is for; and §5 where it binds a server.

use rookery_xmpp::error::StreamCondition;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{Parsed, parse};

use crate::world::{Client, World, bodies};

const JULIET: &str = "juliet@localhost";
const ROMEO: &str = "romeo@localhost";

/// §8.5.4, in its letters. S: ignored or an error. E: an error. O: kept for later, or an error. D: delivered.
/// M: delivered to the most available resource or to all that are not negative. A: to all that are not negative.
const TABLE: &str = "
condition                          | normal | chat | groupchat | headline
account does not exist
  bare                             | S      | S    | E         | S
  full                             | S      | S    | S         | S
account exists, but no active resources
  bare                             | O      | O    | E         | S
  full, no match                   | S      | O    | S         | S
1+ negative resources but zero non-negative resources
  bare                             | O      | O    | E         | S
  full, match                      | D      | D    | D         | D
  full, no match                   | S      | O    | S         | S
1 non-negative resource
  bare                             | D      | D    | E         | D
  full, match                      | D      | D    | D         | D
  full, no match                   | S      | D    | S         | S
1+ non-negative resources
  bare                             | M      | M    | E         | A
  full, match                      | D      | D    | D         | D
  full, no match                   | S      | M    | S         | S
";

/// What has become of a message.
struct Fate {
    /// How many of the resources with a priority of zero or more have got it.
    reachable: usize,
    /// The resource with a negative priority has got it.
    negative: bool,
    /// It waits for the next login.
    kept: bool,
    /// The error that the sender was sent.
    error: Option<String>,
}

async fn fate(condition: &str, address: &str, kind: &str) -> Fate {
    let exists = !condition.starts_with("account does not");
    let world = World::new(if exists { &[ROMEO, JULIET] } else { &[ROMEO] }).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let priorities: &[i8] = match condition {
        "1+ negative resources but zero non-negative resources" => &[-1],
        "1 non-negative resource" => &[0],
        "1+ non-negative resources" => &[0, 5, -1],
        _ => &[],
    };
    let mut resources = Vec::new();
    for (number, priority) in priorities.iter().enumerate() {
        let client = world.bind(JULIET, &number.to_string()).await;
        client.send(&format!("<presence><priority>{priority}</priority></presence>")).await;
        resources.push((*priority, client));
    }
    resources.iter().for_each(|(_, client)| drop(client.read()));
    let to = match address {
        "bare" => JULIET.to_owned(),
        "full, match" => "juliet@localhost/0".to_owned(),
        _ => "juliet@localhost/gone".to_owned(),
    };
    romeo.send(&format!("<message type='{kind}' to='{to}' id='m'><body>hark</body></message>")).await;
    let got: Vec<(i8, bool)> =
        resources.iter().map(|(priority, client)| (*priority, !client.bodies().is_empty())).collect();
    let mut kept = false;
    if exists {
        for (_, client) in &resources {
            client.leave().await;
        }
        let later = world.bind(JULIET, "later").await;
        later.send("<presence/>").await;
        world.settle().await;
        kept = later.bodies() == ["hark"];
    }
    let errors = romeo.told();
    assert!(errors.len() <= 1 && errors.iter().all(|line| line.starts_with("error")), "{errors:?}");
    Fate {
        reachable: got.iter().filter(|(priority, got)| *priority >= 0 && *got).count(),
        negative: got.contains(&(-1, true)),
        kept,
        error: errors.into_iter().next(),
    }
}

#[tokio::test]
async fn messages_go_where_the_table_of_8_5_4_says() {
    let mut condition = "";
    let mut cells = 0;
    for row in TABLE.lines().filter(|row| !row.is_empty() && !row.starts_with("condition")) {
        let Some(address) = row.strip_prefix("  ") else {
            condition = row;
            continue;
        };
        let columns: Vec<&str> = address.split('|').map(str::trim).collect();
        let reachable = if condition == "1+ non-negative resources" { 2 } else { 1 };
        for (kind, letter) in ["normal", "chat", "groupchat", "headline"].iter().zip(&columns[1..]) {
            let fate = fate(condition, columns[0], kind).await;
            let unavailable = fate.error.as_ref().is_some_and(|error| error.ends_with("service-unavailable"));
            let nobody = fate.reachable == 0 && !fate.negative;
            let right = match *letter {
                "S" => nobody && !fate.kept && (fate.error.is_none() || unavailable),
                "E" => nobody && !fate.kept && unavailable,
                "O" => nobody && fate.kept && fate.error.is_none(),
                "D" if condition.starts_with("1+ negative") => fate.negative && fate.error.is_none(),
                "D" => fate.reachable == 1 && !fate.negative && fate.error.is_none(),
                "M" | "A" => fate.reachable == reachable && !fate.negative && fate.error.is_none(),
                other => panic!("{other}"),
            };
            assert!(right, "{condition}, {}, {kind}: {letter}; error: {:?}", columns[0], fate.error);
            cells += 1;
        }
    }
    assert_eq!(cells, 13 * 4);
}

#[tokio::test]
async fn an_error_is_delivered_where_it_is_for_and_otherwise_ignored() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    let error = |to: &str| {
        format!(
            "<message type='error' to='{to}'><body>x</body><error type='cancel'><gone xmlns='{}'/></error></message>",
            ns::STANZAS
        )
    };
    romeo.send(&error("juliet@localhost/balcony")).await;
    assert_eq!(juliet.told(), ["error romeo@localhost/orchard gone"]);
    for to in
        [JULIET, "juliet@localhost/gone", "nobody@localhost", "nobody@localhost/x", "localhost", "romeo@remote.example"]
    {
        assert!(romeo.says(&error(to)).await.is_empty(), "{to}");
        assert!(juliet.told().is_empty(), "{to}");
    }
}

#[tokio::test]
async fn what_has_no_to_is_for_the_own_account() {
    let world = World::new(&[JULIET]).await;
    let (balcony, chamber) = (world.login(JULIET, "balcony").await, world.login(JULIET, "chamber").await);
    balcony.read();
    balcony.send("<message><body>note</body></message>").await;
    for client in [&balcony, &chamber] {
        let got = client.read();
        assert_eq!(bodies(&got), ["note"]);
        assert!(got.contains("to='juliet@localhost'"), "{got}");
    }
    assert_eq!(balcony.says("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>").await, ["roster"]);
    assert_eq!(
        balcony.says("<iq type='get' id='2'><query xmlns='urn:unheard-of'/></iq>").await,
        ["error 2 service-unavailable"]
    );
    assert!(chamber.told().is_empty());
}

#[tokio::test]
async fn an_iq_to_a_bare_jid_is_answered_by_the_server_and_never_delivered() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    for to in [JULIET, ROMEO, "nobody@localhost"] {
        for kind in ["get", "set"] {
            let told =
                romeo.says(&format!("<iq type='{kind}' id='1' to='{to}'><query xmlns='urn:unheard-of'/></iq>")).await;
            assert_eq!(told, ["error 1 service-unavailable"], "{to}");
        }
        for kind in ["result", "error"] {
            assert!(romeo.says(&format!("<iq type='{kind}' id='1' to='{to}'/>")).await.is_empty(), "{to}");
        }
    }
    assert!(juliet.told().is_empty());
}

#[tokio::test]
async fn an_iq_to_a_full_jid_is_delivered_or_refused() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    // Connected is enough (§8.5.3.1).
    let juliet = world.bind(JULIET, "balcony").await;
    romeo.send("<iq type='get' id='q' to='juliet@localhost/balcony'><query xmlns='urn:unheard-of'/></iq>").await;
    let got = juliet.read();
    assert!(got.contains("from='romeo@localhost/orchard'") && got.contains("urn:unheard-of"), "{got}");
    assert_eq!(juliet.says("<iq type='result' id='q' to='romeo@localhost/orchard'/>").await, Vec::<String>::new());
    assert_eq!(romeo.told(), ["result q"]);
    for to in ["juliet@localhost/gone", "nobody@localhost/x", "localhost/x"] {
        let told = romeo.says(&format!("<iq type='get' id='1' to='{to}'><query xmlns='urn:unheard-of'/></iq>")).await;
        assert_eq!(told, ["error 1 service-unavailable"], "{to}");
    }
}

#[tokio::test]
async fn the_domain_answers_for_itself_and_has_no_mailbox() {
    let world = World::new(&[ROMEO]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    assert_eq!(
        romeo.says("<iq type='get' id='1' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").await,
        ["result 1"]
    );
    assert_eq!(
        romeo.says("<iq type='get' id='2' to='localhost'><query xmlns='urn:unheard-of'/></iq>").await,
        ["error 2 service-unavailable"]
    );
    assert_eq!(
        romeo.says("<message to='localhost'><body>x</body></message>").await,
        ["error localhost service-unavailable"]
    );
    assert!(romeo.says("<presence to='localhost'/>").await.is_empty());
}

#[tokio::test]
async fn what_is_for_a_domain_that_cannot_be_reached_comes_back() {
    let world = World::new(&[ROMEO]).await;
    let romeo = world.login(ROMEO, "orchard").await;
    let error = "remote-server-not-found";
    assert_eq!(
        romeo.says("<message to='j@remote.example'><body>x</body></message>").await,
        [format!("error j@remote.example {error}")]
    );
    assert_eq!(
        romeo.says("<iq type='get' id='1' to='j@remote.example'><query xmlns='urn:x'/></iq>").await,
        [format!("error 1 {error}")]
    );
    assert_eq!(romeo.says("<presence to='j@remote.example'/>").await, [format!("error j@remote.example {error}")]);
}

#[tokio::test]
async fn the_sender_is_stamped_and_cannot_be_forged() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    for from in ["", "from='romeo@localhost'", "from='romeo@localhost/orchard'"] {
        romeo.send(&format!("<message {from} to='juliet@localhost/balcony'><body>x</body></message>")).await;
        assert!(juliet.read().contains("from='romeo@localhost/orchard'"), "{from}");
    }
    for from in [JULIET, "romeo@localhost/other", "localhost"] {
        assert_eq!(
            refused(&romeo, &format!("<message from='{from}' to='juliet@localhost'/>")).await,
            StreamCondition::InvalidFrom
        );
    }
    assert!(juliet.read().is_empty());
}

async fn refused(client: &Client, xml: &str) -> StreamCondition {
    let bytes = bytes::Bytes::copy_from_slice(xml.as_bytes());
    let Parsed::Stanza(stanza) = parse(bytes, &Namespaces::content_only("jabber:client")).unwrap() else {
        panic!("{xml}")
    };
    client.server.accept(&client.session, stanza, None).await.unwrap_err().condition
}

#[tokio::test]
async fn a_message_is_delivered_as_it_was_written() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    let inner = "<subject>I</subject><subject xml:lang='cs'>II</subject><body>a &amp; b</body><body xml:lang='cs'>c</body>\
                 <thread parent='e0ff'>0e3141cd</thread><x xmlns='urn:unheard-of'><y z='1'/></x>";
    romeo
        .send(&format!("<message type='chat' id='i' xml:lang='en' to='juliet@localhost/balcony'>{inner}</message>"))
        .await;
    let got = juliet.read();
    assert!(got.contains(inner), "{got}");
    assert!(got.contains("id='i'") && got.contains("xml:lang='en'") && got.contains("type='chat'"), "{got}");
    assert!(got.contains("to='juliet@localhost/balcony'"), "{got}");
}

#[tokio::test]
async fn a_message_of_a_type_that_nobody_knows_is_a_normal_one() {
    let world = World::new(&[ROMEO, JULIET]).await;
    let (romeo, juliet) = (world.login(ROMEO, "orchard").await, world.login(JULIET, "balcony").await);
    for kind in ["", "type='normal'", "type='telegram'"] {
        romeo.send(&format!("<message {kind} to='juliet@localhost'><body>x</body></message>")).await;
        let got = juliet.read();
        assert!(got.starts_with("<message") && !got.contains("telegram") && !got.contains("error"), "{got}");
    }
}
