//! Limits of accounts and sessions: attempts, resources, rates, outboxes, what waits for the absent.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::arena::{Arena, FLAT, Outcome, Trouble, ending, ping};
use super::elements::stranger;
use crate::client::{Connection, Resumption, Target, Transport};
use crate::server::{DOMAIN, PASSWORD, users};
use crate::sm::NS as SM;
use crate::{Failure, process, within, xml};

/// What the conf of this rig says.
const OFFLINE: usize = 500;
const ROSTER: usize = 50;
const WRITE_STALL: Duration = Duration::from_secs(4);
const RESUME: Duration = Duration::from_secs(3);

/// Tries them.
pub(super) async fn try_all(arena: &mut Arena) -> Result<(), Trouble> {
    arena.check("5 failed authentications", FLAT, failed_authentications).await?;
    arena.check("11 resources", FLAT, resources).await?;
    arena.check("7 MiB at once: back-pressure", FLAT, rate).await?;
    // The first time, the database's caches fill as well.
    arena.check("a client that reads nothing, sent 9 MiB", FLAT + (32 << 20), reads_nothing).await?;
    arena.check("a client that reads nothing, sent 9 MiB, again", FLAT, reads_nothing).await?;
    let outboxes = 100 * (256 << 10);
    arena.check("100 clients that read nothing, each sent 4 MiB", FLAT + (32 << 20) + outboxes, read_nothing).await?;
    arena.check("a client that asks and never reads the answers", FLAT, reads_no_answers).await?;
    arena.check("offline messages", FLAT, offline).await?;
    arena.check("roster items", FLAT, roster).await?;
    arena.check("resumption after its time", FLAT, late_resumption).await?;
    arena.check("resumption by another user", FLAT, foreign_resumption).await?;
    arena.check("resumption that acknowledges what was not sent", FLAT, bold_resumption).await?;
    arena.check("an acknowledgement of what was not sent", FLAT, handled_too_many).await?;
    for h in ["-1", "", "x", "4294967296"] {
        arena.check(&format!("an acknowledgement with h='{h}'"), FLAT, async |arena| odd_count(arena, h).await).await?;
    }
    Ok(())
}

async fn failed_authentications(arena: &Arena) -> Result<Outcome, Failure> {
    let mut connection = stranger(arena, Transport::Plain).await?;
    for attempt in 1..=10 {
        match connection.try_password("mallory", "wrong").await {
            Err(Failure::Sasl(_)) => {}
            Err(Failure::Stream(condition)) => return Ok(fifth(attempt, &condition)),
            Err(_) => return Ok(fifth(attempt, "closed")),
            Ok(()) => return Ok(Err("let in".into())),
        }
        if attempt == 5 {
            let end = ending(&mut connection, Duration::from_secs(2)).await;
            if end.closed {
                return Ok(Ok(format!("after 5: {end}")));
            }
        }
    }
    Ok(Err("10 attempts were allowed".into()))
}

fn fifth(attempt: usize, how: &str) -> Outcome {
    let shown = format!("attempt {attempt}: {how}");
    if attempt == 6 { Ok(shown) } else { Err(shown) }
}

async fn resources(arena: &Arena) -> Result<Outcome, Failure> {
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(arena.log_in("carol").await?);
    }
    let outcome = match arena.log_in("carol").await {
        Ok(_) => Err("the 11th is let in".into()),
        Err(Failure::Protocol(condition)) if condition == "resource-constraint" => Ok(condition),
        Err(other) => Err(other.to_string()),
    };
    for mut session in sessions {
        ping(&mut session).await?;
        session.close().await?;
    }
    Ok(outcome)
}

async fn rate(arena: &Arena) -> Result<Outcome, Failure> {
    let mut connection = arena.log_in("mallory").await?;
    let start = Instant::now();
    // Headlines to somebody who is not there are dropped (RFC 6121 §8.5.2.2).
    let stanza = format!("<message type='headline' to='dave@{DOMAIN}'><body>{}</body></message>", "b".repeat(10 << 10));
    (0..700).for_each(|_| connection.queue(stanza.as_bytes()));
    within(Duration::from_secs(60), ping(&mut connection)).await?;
    let took = start.elapsed();
    let shown = format!("taken in within {took:.1?}");
    Ok(if took > Duration::from_secs(5) { Ok(shown) } else { Err(shown) })
}

/// Nobody's message is lost, the sender is not held up, the server keeps at most its outbox.
async fn reads_nothing(arena: &Arena) -> Result<Outcome, Failure> {
    const COUNT: usize = 450;
    let target = Target { receive_buffer: Some(4 << 10), ..arena.target(Transport::Plain) };
    let mut deaf = Connection::log_in(&target, "alice", PASSWORD).await?;
    deaf.bind(None).await?;
    deaf.queue(b"<presence/>");
    ping(&mut deaf).await?;
    let mut sender = arena.log_in("bob").await?;
    let body = "b".repeat(20 << 10);
    let memory = process::rss(arena.server.pid());
    let start = Instant::now();
    for number in 0..COUNT {
        sender.queue(
            format!("<message type='chat' to='alice@{DOMAIN}' id='d{number}'><body>{body}</body></message>").as_bytes(),
        );
    }
    within(Duration::from_secs(60), ping(&mut sender)).await?;
    let sent = start.elapsed();
    let held = process::rss(arena.server.pid()).saturating_sub(memory) >> 10;
    sleep(WRITE_STALL + Duration::from_secs(3)).await;
    // By now the server has given up on the connection; what the kernel holds for it can still be read.
    let end = ending(&mut deaf, Duration::from_secs(5)).await;
    let numbers = |stanzas: &[Vec<u8>]| {
        let number = |stanza: &Vec<u8>| xml::attribute(stanza, "id")?.strip_prefix('d')?.parse::<usize>().ok();
        stanzas.iter().filter_map(number).collect::<Vec<_>>()
    };
    let before = numbers(&end.other);
    let mut back = arena.log_in("alice").await?;
    back.queue(b"<presence/>");
    let after = numbers(&ending(&mut back, Duration::from_secs(5)).await.other);
    let missing = (0..COUNT).filter(|number| !before.contains(number) && !after.contains(number)).count();
    let shown = format!(
        "{} read by the first connection ({}), {} by the next, {missing} missing; sent in {sent:.1?}, memory then +{held} KiB",
        before.len(),
        if end.closed { "closed" } else { "open" },
        after.len()
    );
    back.close().await?;
    Ok(if end.closed && missing == 0 { Ok(shown) } else { Err(shown) })
}

/// Ten accounts with ten resources each, and one for each account that writes to it.
async fn read_nothing(arena: &Arena) -> Result<Outcome, Failure> {
    let (senders, accounts) = (users("s", 10), users("deaf", 10));
    arena.server.add_accounts(&[senders.clone(), accounts.clone()].concat())?;
    let mut deaf = Vec::new();
    for account in &accounts {
        for _ in 0..10 {
            let target = Target { receive_buffer: Some(4 << 10), ..arena.target(Transport::Plain) };
            let mut connection = Connection::log_in(&target, account, PASSWORD).await?;
            connection.bind(None).await?;
            connection.queue(b"<presence/>");
            ping(&mut connection).await?;
            deaf.push(connection);
        }
    }
    let mut talking = Vec::new();
    for (sender, account) in senders.iter().zip(&accounts) {
        let mut sender = arena.log_in(sender).await?;
        let body = "b".repeat(20 << 10);
        let stanza = format!("<message type='chat' to='{account}@{DOMAIN}'><body>{body}</body></message>");
        talking.push(tokio::spawn(async move {
            (0..200).for_each(|_| sender.queue(stanza.as_bytes()));
            within(Duration::from_secs(60), ping(&mut sender)).await
        }));
    }
    let start = Instant::now();
    for sender in talking {
        sender.await.map_err(|error| Failure::Protocol(error.to_string()))??;
    }
    let sent = start.elapsed();
    sleep(WRITE_STALL + Duration::from_secs(3)).await;
    let mut closed = 0;
    for connection in &mut deaf {
        closed += usize::from(ending(connection, Duration::from_secs(3)).await.closed);
    }
    let shown = format!("{closed} closed; 40 MiB sent in {sent:.1?}");
    Ok(if closed == deaf.len() { Ok(shown) } else { Err(shown) })
}

async fn reads_no_answers(arena: &Arena) -> Result<Outcome, Failure> {
    let mut deaf = arena.log_in("mallory").await?;
    let ask =
        format!("<iq type='get' id='q' to='{DOMAIN}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    let asks = ask.repeat(200);
    let start = Instant::now();
    let mut written = 0;
    while start.elapsed() < WRITE_STALL * 3 {
        deaf.queue(asks.as_bytes());
        match within(Duration::from_secs(1), deaf.flush()).await {
            Ok(()) => written += asks.len(),
            Err(Failure::Timeout(_)) => {}
            Err(_) => {
                return Ok(Ok(format!("closed after {:.1?}, {} KiB of questions", start.elapsed(), written >> 10)));
            }
        }
        // Nothing more than what was asked already may wait here.
        deaf.out().clear();
    }
    Ok(Ok(format!("held up, {} KiB of questions", written >> 10)))
}

async fn offline(arena: &Arena) -> Result<Outcome, Failure> {
    let mut sender = arena.log_in("bob").await?;
    let surplus = 20;
    for number in 0..OFFLINE + surplus {
        sender.queue(
            format!("<message type='chat' to='dave@{DOMAIN}' id='o{number}'><body>{number}</body></message>")
                .as_bytes(),
        );
    }
    let errors = ending(&mut sender, Duration::from_secs(5)).await.other;
    let mut dave = arena.log_in("dave").await?;
    dave.queue(b"<presence/>");
    let stored = ending(&mut dave, Duration::from_secs(4)).await.other;
    let stored = stored.iter().filter(|stanza| stanza.starts_with(b"<message")).count();
    dave.close().await?;
    let conditions: Vec<String> =
        errors.iter().filter_map(|stanza| Some(xml::condition(xml::child(stanza, "error")?))).collect();
    let shown =
        format!("{stored} kept, {} answered {}", conditions.len(), conditions.first().cloned().unwrap_or_default());
    let right =
        conditions.iter().all(|condition| matches!(condition.as_str(), "service-unavailable" | "resource-constraint"));
    Ok(if right && stored == OFFLINE && conditions.len() == surplus { Ok(shown) } else { Err(shown) })
}

async fn roster(arena: &Arena) -> Result<Outcome, Failure> {
    let mut connection = arena.log_in("carol").await?;
    for number in 0..=ROSTER {
        let item = format!("<item jid='contact{number}@{DOMAIN}'/>");
        connection.queue(
            format!("<iq type='set' id='r{number}'><query xmlns='jabber:iq:roster'>{item}</query></iq>").as_bytes(),
        );
    }
    let answers = ending(&mut connection, Duration::from_secs(3)).await.other;
    let error = answers
        .iter()
        .find_map(|iq| Some((xml::attribute(iq, "id")?.into_owned(), xml::condition(xml::child(iq, "error")?))));
    Ok(match error {
        Some((id, condition)) if id == format!("r{ROSTER}") => Ok(format!("item {}: {condition}", ROSTER + 1)),
        Some((id, condition)) => Err(format!("{id}: {condition}")),
        None => Err("no error".into()),
    })
}

/// A session of alice that may be resumed; it has lost its connection, and a message waits in it.
async fn detached(arena: &Arena) -> Result<String, Failure> {
    let mut connection = arena.log_in("alice").await?;
    let enabled = connection.enable(true).await?;
    connection.queue(b"<presence/>");
    ping(&mut connection).await?;
    connection.reset();
    let mut sender = arena.log_in("bob").await?;
    sender.queue(format!("<message type='chat' to='alice@{DOMAIN}' id='late'><body>x</body></message>").as_bytes());
    ping(&mut sender).await?;
    enabled.id.ok_or_else(|| Failure::Protocol("not resumable".into()))
}

/// Whether the message of [`detached`] comes to a new session of alice.
async fn finds_message(mut connection: Connection) -> Result<bool, Failure> {
    connection.bind(None).await?;
    connection.queue(b"<presence/>");
    let waiting = ending(&mut connection, Duration::from_secs(2)).await.other;
    connection.close().await?;
    Ok(waiting.iter().any(|stanza| xml::attribute(stanza, "id").as_deref() == Some("late")))
}

/// The id is nobody else's, and what somebody else tries changes nothing.
async fn foreign_resumption(arena: &Arena) -> Result<Outcome, Failure> {
    let id = detached(arena).await?;
    let mut mallory = Connection::log_in(&arena.target(Transport::Plain), "mallory", PASSWORD).await?;
    let theirs = mallory.resume(&id, 0).await?;
    let mut alice = Connection::log_in(&arena.target(Transport::Plain), "alice", PASSWORD).await?;
    let own = alice.resume(&id, 0).await?;
    let waiting = ending(&mut alice, Duration::from_secs(1)).await.other;
    alice.close().await?;
    let found = waiting.iter().any(|stanza| xml::attribute(stanza, "id").as_deref() == Some("late"));
    let shown = format!("{theirs:?} for the other, {own:?} for its owner");
    let right = matches!(theirs, Resumption::Failed(ref condition, None) if condition == "item-not-found");
    Ok(if right && found && matches!(own, Resumption::Resumed(_)) { Ok(shown) } else { Err(shown) })
}

/// Refused, and the session ends in its time all the same, its messages kept.
async fn bold_resumption(arena: &Arena) -> Result<Outcome, Failure> {
    let id = detached(arena).await?;
    let mut bold = Connection::log_in(&arena.target(Transport::Plain), "alice", PASSWORD).await?;
    let answer = bold.resume(&id, 4_000_000_000).await;
    sleep(RESUME + Duration::from_secs(2)).await;
    let mut late = Connection::log_in(&arena.target(Transport::Plain), "alice", PASSWORD).await?;
    let later = late.resume(&id, 0).await?;
    let found = finds_message(late).await?;
    let shown = format!("{answer:?}; later {later:?}; its message {}", if found { "is kept" } else { "is lost" });
    let refused = !matches!(answer, Ok(Resumption::Resumed(_)));
    Ok(if refused && found && matches!(later, Resumption::Failed(..)) { Ok(shown) } else { Err(shown) })
}

async fn late_resumption(arena: &Arena) -> Result<Outcome, Failure> {
    let id = detached(arena).await?;
    sleep(RESUME + Duration::from_secs(2)).await;
    let mut connection = Connection::log_in(&arena.target(Transport::Plain), "alice", PASSWORD).await?;
    let condition = match connection.resume(&id, 0).await? {
        Resumption::Failed(condition, _) => condition,
        Resumption::Resumed(_) => return Ok(Err("resumed".into())),
    };
    let found = finds_message(connection).await?;
    let shown = format!("{condition}; its message {}", if found { "comes with the next session" } else { "is lost" });
    Ok(if found && condition == "item-not-found" { Ok(shown) } else { Err(shown) })
}

async fn handled_too_many(arena: &Arena) -> Result<Outcome, Failure> {
    let mut connection = arena.log_in("mallory").await?;
    connection.enable(false).await?;
    connection.queue(format!("<a xmlns='{SM}' h='1000'/>").as_bytes());
    let end = ending(&mut connection, Duration::from_secs(5)).await;
    Ok(if end.to_string() == "undefined-condition handled-count-too-high" {
        Ok(end.to_string())
    } else {
        Err(end.to_string())
    })
}

/// Nothing says what happens to these; the stream ends with some error, or goes on.
async fn odd_count(arena: &Arena, h: &str) -> Result<Outcome, Failure> {
    let mut connection = arena.log_in("mallory").await?;
    connection.enable(false).await?;
    connection.queue(
        format!("<a xmlns='{SM}' h='{h}'/><iq type='get' id='after'><ping xmlns='urn:xmpp:ping'/></iq>").as_bytes(),
    );
    let end = ending(&mut connection, Duration::from_secs(2)).await;
    let goes_on = end.other.iter().any(|iq| xml::holds(iq, "after"));
    Ok(match (&end.error, goes_on) {
        (Some(error), _) if end.closed => Ok(error.clone()),
        (None, true) => Ok("ignored".into()),
        _ => Err(end.to_string()),
    })
}
