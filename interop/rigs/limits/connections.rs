//! Connections: how many from one address and how fast, and thousands that say nothing.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::arena::{Arena, FLAT, Outcome, Trouble, ping};
use crate::client::{Connection, Target, Transport};
use crate::{Failure, process, server};

/// What a connection that says nothing may cost the server, in bytes: plain, and where TLS is awaited.
const PLAIN: u64 = 4 << 10;
const TLS: u64 = 8 << 10;
/// What a stream over TLS may cost before authentication.
const STREAM: u64 = 25 << 10;

/// How many from one address, how fast.
pub(super) async fn try_rates(arena: &mut Arena) -> Result<(), Trouble> {
    arena.check("120 connections of one address at once", FLAT, at_once).await?;
    arena.check("10,000 connections that are aborted", FLAT, aborted).await
}

/// What takes the time of the limits as shipped.
pub(super) async fn try_thousands(arena: &mut Arena, count: usize) -> Result<(), Trouble> {
    arena.check("unauthenticated connections of one address", FLAT, unauthenticated).await?;
    // Ours and the server's descriptors are bounded alike.
    let count = count.min(server::raise_descriptors().saturating_sub(500));
    let name = format!("{count} connections that say nothing");
    arena.check(&name, FLAT + PLAIN * count as u64, async |arena| silence(arena, count, Transport::Plain).await).await
}

/// The same where TLS is awaited.
pub(super) async fn try_thousands_with_tls(arena: &mut Arena, count: usize) -> Result<(), Trouble> {
    let name = "1,000 streams over TLS without authentication";
    arena.check(name, FLAT + (1000 * STREAM), strangers).await?;
    let name = format!("{count} connections that say nothing, TLS");
    arena.check(&name, FLAT + TLS * count as u64, async |arena| silence(arena, count, Transport::Direct).await).await
}

/// A listener's address, spoken to without TLS whatever it awaits.
fn mute(target: Target) -> Target {
    Target { transport: Transport::Plain, ..target }
}

async fn greeted(target: &Target) -> Result<Connection, Failure> {
    crate::within(Duration::from_secs(2), async {
        let mut connection = Connection::open(target).await?;
        connection.open_stream().await?;
        Ok(connection)
    })
    .await
}

/// A burst of 50, and 20 more each second.
async fn at_once(arena: &Arena) -> Result<Outcome, Failure> {
    let target = arena.target(Transport::Plain);
    let start = Instant::now();
    let attempts: Vec<_> = (0..120)
        .map(|_| {
            let target = target.clone();
            tokio::spawn(async move { greeted(&target).await })
        })
        .collect();
    let mut held = Vec::new();
    for attempt in attempts {
        held.extend(attempt.await.map_err(|error| Failure::Protocol(error.to_string()))?);
    }
    let most = 50 + (start.elapsed().as_secs_f64() * 20.0) as usize + 1;
    let shown = format!("{} served in {:.1?}", held.len(), start.elapsed());
    Ok(if (40..=most).contains(&held.len()) { Ok(shown) } else { Err(shown) })
}

async fn unauthenticated(arena: &Arena) -> Result<Outcome, Failure> {
    let target = arena.target(Transport::Plain);
    let mut held = Vec::new();
    let start = Instant::now();
    for attempt in 0..260 {
        if attempt > 45 {
            sleep(Duration::from_millis(55)).await;
        }
        held.extend(greeted(&target).await);
    }
    let mut alive = 0;
    for connection in &mut held {
        let silent = timeout(Duration::from_millis(1), connection.fill()).await.is_err();
        alive += usize::from(silent);
    }
    // The first of them are still within the time to authenticate.
    let shown = format!("{alive} of 260 held after {:.1?}", start.elapsed());
    Ok(if (150..=200).contains(&alive) { Ok(shown) } else { Err(shown) })
}

/// How many descriptors the server has when it closes no more of what there was before.
async fn settled(pid: u32) -> usize {
    let mut count = process::descriptors(pid);
    for _ in 0..50 {
        sleep(Duration::from_millis(200)).await;
        let before = std::mem::replace(&mut count, process::descriptors(pid));
        if before == count {
            break;
        }
    }
    count
}

async fn silence(arena: &Arena, count: usize, transport: Transport) -> Result<Outcome, Failure> {
    let base = settled(arena.server.pid()).await;
    let memory = process::rss(arena.server.pid());
    let mut held = Vec::with_capacity(count);
    let start = Instant::now();
    let mut refused = 0;
    while held.len() + refused < count {
        let target = mute(arena.target(transport));
        let here = 50.min(count - held.len() - refused);
        for _ in 0..here {
            match timeout(Duration::from_secs(5), Connection::open(&target)).await {
                Ok(Ok(connection)) => held.push(connection),
                _ => refused += 1,
            }
        }
    }
    let connected = start.elapsed();
    // The kernel has them before the server does.
    let taken = Instant::now() + Duration::from_secs(2);
    let mut most = process::descriptors(arena.server.pid()).saturating_sub(base);
    while most < count * 9 / 10 && Instant::now() < taken {
        sleep(Duration::from_millis(20)).await;
        most = process::descriptors(arena.server.pid()).saturating_sub(base);
    }
    let each = process::rss(arena.server.pid()).saturating_sub(memory) as f64 / 1024.0 / most.max(1) as f64;
    let newcomer = Instant::now();
    let mut honest = arena.log_in("alice").await?;
    ping(&mut honest).await?;
    let newcomer = newcomer.elapsed();
    // Ten seconds for a header or a handshake, and some for so many to be closed.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut left = usize::MAX;
    while left > 50 && Instant::now() < deadline {
        sleep(Duration::from_millis(200)).await;
        left = process::descriptors(arena.server.pid()).saturating_sub(base);
    }
    let shown = format!(
        "{most} held at once after {connected:.1?}, {each:.1} KiB each; a login meanwhile {newcomer:.1?}; {left} left after {:.1?}",
        start.elapsed()
    );
    let right = most >= count * 9 / 10 && left <= 50 && newcomer < Duration::from_secs(2);
    Ok(if right { Ok(shown) } else { Err(shown) })
}

/// They say no more after the stream's header.
async fn strangers(arena: &Arena) -> Result<Outcome, Failure> {
    let memory = process::rss(arena.server.pid());
    let mut held = Vec::new();
    for _ in 0..25 {
        let target = arena.target(Transport::Direct);
        for _ in 0..40 {
            held.extend(greeted(&target).await);
        }
    }
    sleep(Duration::from_secs(2)).await;
    let each = process::rss(arena.server.pid()).saturating_sub(memory) as f64 / 1024.0 / held.len() as f64;
    let shown = format!("{} held, {each:.1} KiB each", held.len());
    Ok(if held.len() == 1000 { Ok(shown) } else { Err(shown) })
}

/// Each from one of many addresses, reset as soon as it stands.
async fn aborted(arena: &Arena) -> Result<Outcome, Failure> {
    let base = process::descriptors(arena.server.pid());
    for _ in 0..200 {
        let target = arena.target(Transport::Plain);
        for number in 0..50 {
            let Ok(mut connection) = Connection::open(&target).await else { continue };
            if number % 2 == 0 {
                connection.queue(b"<stream:stream to='localhost' xmlns='jabber:client' version='1.0'");
                let _ = connection.flush().await;
            }
            connection.reset();
        }
    }
    sleep(Duration::from_secs(1)).await;
    let left = process::descriptors(arena.server.pid()).saturating_sub(base);
    let shown = format!("{left} left");
    Ok(if left < 10 { Ok(shown) } else { Err(shown) })
}
