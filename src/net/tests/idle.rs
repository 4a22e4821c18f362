//! What idle connections cost: a binary of its own, so that the resident memory is theirs.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::manual_async_fn, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use rookery_core::config::TlsMode;
use rookery_net::server::{Connection, Service};
use rookery_net::transport::Read;
use tokio::net::TcpStream;

/// Answers, and waits for the end.
struct Idle;

impl Service for Idle {
    fn serve(&self, mut connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        async move {
            loop {
                if connection.transport.readable().await.is_err() {
                    return;
                }
                let mut heard = Vec::new();
                match connection.transport.read(usize::MAX, |bytes| heard.extend_from_slice(bytes)) {
                    Ok(Read::Ended | Read::Cut) | Err(_) => return,
                    Ok(_) => {}
                }
                if connection.transport.write(&heard).is_err() {
                    return;
                }
            }
        }
    }
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    pages.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") * 4096
}

/// Keeps each client's socket and nothing else of it.
async fn connect(
    address: std::net::SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    tls: bool,
    count: usize,
) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        if tls {
            let mut client = Client::connect(address, config).await.expect("secured");
            client.say(b"<presence/>").await.expect("said");
            assert_eq!(client.hear(11).await.expect("heard"), b"<presence/>");
            sockets.push(client.tcp);
        } else {
            sockets.push(TcpStream::connect(address).await.expect("connected"));
        }
    }
    sockets
}

#[tokio::test]
async fn an_idle_connection_owns_no_buffer() {
    let dir = Scratch::new("idle");
    let tls = tls(&dir);
    let config = client_config(&dir);
    let (direct, tls_address, admission) = server(tls.clone(), TlsMode::Direct, unlimited());
    let (plain, plain_address, _) = server(tls, TlsMode::Plain, unlimited());
    tokio::spawn(direct.run(Arc::new(Idle), std::future::pending(), Duration::ZERO));
    tokio::spawn(plain.run(Arc::new(Idle), std::future::pending(), Duration::ZERO));

    const COUNT: usize = 200;
    let mut figures = Vec::new();
    // Kept until the end: what a dropped one leaves would be taken by the next and not be seen.
    let mut kept = Vec::new();
    for (name, address, secured) in [("plain", plain_address, false), ("tls", tls_address, true)] {
        let warm = connect(address, &config, secured, 20).await;
        let before = resident();
        let sockets = connect(address, &config, secured, COUNT).await;
        let each = resident().saturating_sub(before) / COUNT;
        println!("{name}: {each} bytes per idle connection, the client's socket in tokio included");
        figures.push(each);
        kept.push((warm, sockets));
    }
    assert!(figures[0] < 3 * 1024, "plain: {}", figures[0]);
    assert!(figures[1] < 8 * 1024, "tls: {}", figures[1]);

    // Handshakes that are given up half-way, and whole ones, leave nothing.
    for _ in 0..200 {
        half_a_handshake(tls_address).await;
    }
    let before = resident();
    for _ in 0..2000 {
        half_a_handshake(tls_address).await;
    }
    for _ in 0..200 {
        drop(connect(tls_address, &config, true, 1).await);
    }
    let grown = resident().saturating_sub(before);
    println!("after 2000 handshakes given up: {grown} bytes");
    assert!(grown < 1 << 20, "grew by {grown}");
    while admission.unauthenticated() > 0 {
        tokio::task::yield_now().await;
    }
}

async fn half_a_handshake(address: std::net::SocketAddr) {
    let tcp = TcpStream::connect(address).await.expect("connected");
    tcp.writable().await.expect("writable");
    tcp.try_write(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).expect("written");
    tokio::task::yield_now().await;
}
