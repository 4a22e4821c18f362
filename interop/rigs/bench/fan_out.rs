//! What a delivery in a room costs at the least: the bare relay writes each message to each socket of a room, in a write of its
//! own. It must come to each of them once and in order. Servers have `rooms`, which enters rooms and leaves them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::{Figure, Sampling, start};
use crate::client::{Connection, Transport};
use crate::server::PASSWORD;
use crate::{Failure, xml};

/// Messages of a room on their way at once.
const IN_FLIGHT: u64 = 20;

/// Bytes of a message's body.
const BODY: usize = 100;

/// Measures so many rooms with so many sockets each.
pub(super) async fn measure(
    bench: &super::Options,
    (rooms, occupants): (usize, usize),
    figures: &mut Vec<Figure>,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = start(bench)?;
    let target = server.target(Transport::Plain);
    let (delivered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for room in 0..rooms {
        let name = format!("room{room}");
        let mut talker = Connection::log_in(&target, &name, PASSWORD).await?;
        let (said, last) = watch::channel(None);
        for _ in 1..occupants {
            let listener = Connection::log_in(&target, &name, PASSWORD).await?;
            tasks.push(tokio::spawn(listen(listener, last.clone(), Arc::clone(&delivered))));
        }
        let (delivered, stop) = (Arc::clone(&delivered), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let (mut next, mut expected) = (0, 0);
            while expected < next || !stop.load(Ordering::Relaxed) {
                while next < expected + IN_FLIGHT && !stop.load(Ordering::Relaxed) {
                    let body = "b".repeat(BODY);
                    talker.queue(format!("<message id='{next}'><body>{body}</body></message>").as_bytes());
                    next += 1;
                }
                expected = heard(&mut talker, expected, &delivered).await?;
            }
            said.send_replace(Some(expected));
            Ok(())
        }));
    }
    let sampling = Sampling { server: server.pid(), runs: bench.runs, seconds: 5 };
    let sample = sampling.take(|| delivered.load(Ordering::Relaxed)).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(30), task).await???;
    }
    Figure {
        what: format!("  a delivery, {rooms} x {occupants}, {IN_FLIGHT} in flight"),
        values: sample.cpu,
        unit: "us CPU",
        note: format!("body {BODY} B, {:.0}/s, ours {:.1} us", sample.rate, sample.ours),
    }
    .done(figures);
    Ok(())
}

/// Reads until the last message has come, whose number becomes known in the end.
async fn listen(
    mut listener: Connection,
    mut last: watch::Receiver<Option<u64>>,
    delivered: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let mut expected = 0;
    loop {
        tokio::select! {
            so_far = heard(&mut listener, expected, &delivered) => expected = so_far?,
            _ = last.changed() => {}
        }
        if *last.borrow() == Some(expected) {
            return Ok(());
        }
    }
}

/// Reads once what is there; the next message's number.
async fn heard(listener: &mut Connection, mut expected: u64, delivered: &AtomicU64) -> Result<u64, Failure> {
    listener.fill().await?;
    let before = expected;
    while let Some(token) = listener.scan()? {
        let bytes = listener.bytes(token);
        if xml::attribute(bytes, "id").and_then(|id| id.parse().ok()) != Some(expected) {
            let text = String::from_utf8_lossy(bytes);
            return Err(Failure::Protocol(format!("void: message {expected} was expected, got {text}")));
        }
        expected += 1;
    }
    delivered.fetch_add(expected - before, Ordering::Relaxed);
    Ok(expected)
}
