//! Deadlines before authentication. They are absolute: a byte now and then moves none of them.

use std::time::Duration;

use tokio::time::sleep;

use super::arena::{Arena, FLAT, Outcome, Trouble, ending};
use super::elements::stranger;
use crate::Failure;
use crate::client::{Connection, Target, Transport};
use crate::sasl::{Exchange, Mechanism};
use crate::server::{DOMAIN, PASSWORD};

/// What the conf of this rig says.
const HEADER: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(3);
const AUTHENTICATION: Duration = Duration::from_secs(5);

/// Tries them, all at the same time.
pub(super) async fn try_all(arena: &mut Arena) -> Result<(), Trouble> {
    let mut tasks = Vec::new();
    for (at, transport, deadline) in [
        ("plain", Transport::Plain, HEADER),
        ("STARTTLS", Transport::Starttls, HEADER),
        ("TLS", Transport::Direct, HANDSHAKE),
    ] {
        // Whatever the listener speaks: the rig itself says nothing.
        let target = Target { transport: Transport::Plain, ..arena.target(transport) };
        let task = tokio::spawn(stalls(target.clone(), b"", deadline));
        tasks.push((format!("{at}: silence after connecting"), task));
        if transport == Transport::Direct {
            let task = tokio::spawn(stalls(target, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", deadline));
            tasks.push((format!("{at}: handshake begun, not continued"), task));
        } else {
            let task = tokio::spawn(trickles(target, HEADER));
            tasks.push((format!("{at}: header, a byte each 100 ms"), task));
        }
    }
    let target = arena.target(Transport::Direct);
    tasks.push(("TLS: silence after the handshake".into(), tokio::spawn(stalls(target, b"", HEADER))));
    let mut connection = stranger(arena, Transport::Starttls).await?;
    connection.queue(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    connection.expect("proceed").await?;
    tasks.push(("STARTTLS: silence after proceed".into(), tokio::spawn(closes(connection, HANDSHAKE))));
    let connection = stranger(arena, Transport::Plain).await?;
    tasks.push(("plain: silence after the header".into(), tokio::spawn(closes(connection, AUTHENTICATION))));
    let connection = stranger(arena, Transport::Plain).await?;
    tasks.push(("plain: whitespace after the header".into(), tokio::spawn(babbles(connection))));
    let connection = stranger(arena, Transport::Plain).await?;
    tasks.push(("plain: silence within SASL".into(), tokio::spawn(challenged(connection))));
    for (name, task) in tasks {
        arena.check(&name, FLAT, async |_| task.await.map_err(|error| Failure::Protocol(error.to_string()))?).await?;
    }
    Ok(())
}

async fn stalls(target: Target, bytes: &[u8], deadline: Duration) -> Result<Outcome, Failure> {
    let mut connection = Connection::open(&target).await?;
    connection.queue(bytes);
    closes(connection, deadline).await
}

async fn trickles(target: Target, deadline: Duration) -> Result<Outcome, Failure> {
    let mut connection = Connection::open(&target).await?;
    let start = tokio::time::Instant::now();
    let header = format!("<stream:stream xmlns='jabber:client' to='{DOMAIN}' {}", " ".repeat(1000));
    for byte in header.bytes() {
        connection.queue(&[byte]);
        let end = ending(&mut connection, Duration::from_millis(100)).await;
        if end.closed {
            return Ok(on_time(start.elapsed(), deadline, &end.to_string()));
        }
        if start.elapsed() > 3 * deadline {
            break;
        }
    }
    Ok(Err("still open".into()))
}

async fn babbles(mut connection: Connection) -> Result<Outcome, Failure> {
    let start = tokio::time::Instant::now();
    while start.elapsed() < 3 * AUTHENTICATION {
        connection.queue(b" ");
        let end = ending(&mut connection, Duration::from_millis(200)).await;
        if end.closed {
            return Ok(on_time(start.elapsed(), AUTHENTICATION, &end.to_string()));
        }
    }
    Ok(Err("still open".into()))
}

async fn challenged(mut connection: Connection) -> Result<Outcome, Failure> {
    sleep(Duration::from_millis(500)).await;
    let exchange = Exchange::new(Mechanism::Sha256, "mallory", PASSWORD);
    let initial = exchange.initial();
    connection.queue(
        format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>{initial}</auth>").as_bytes(),
    );
    connection.expect("challenge").await?;
    closes(connection, AUTHENTICATION - Duration::from_millis(500)).await
}

async fn closes(mut connection: Connection, deadline: Duration) -> Result<Outcome, Failure> {
    let end = ending(&mut connection, 3 * deadline).await;
    Ok(if end.closed { on_time(end.after, deadline, &end.to_string()) } else { Err(end.to_string()) })
}

fn on_time(after: Duration, deadline: Duration, what: &str) -> Outcome {
    let shown = format!("{what} after {after:.1?}");
    let slack = Duration::from_secs(2);
    if after + Duration::from_millis(500) > deadline && after < deadline + slack { Ok(shown) } else { Err(shown) }
}
