//! A storm of logins: those who are there are served before those who are coming.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::manual_async_fn, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use rookery_core::config::TlsMode;
use rookery_net::server::{Connection, Service};
use rookery_net::transport::Read;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Says what it hears.
struct Echo;

impl Service for Echo {
    fn serve(&self, mut connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        async move {
            while connection.transport.readable().await.is_ok() {
                let mut heard = Vec::new();
                match connection.transport.read(usize::MAX, |bytes| heard.extend_from_slice(bytes)) {
                    Ok(Read::Ended | Read::Cut) | Err(_) => return,
                    Ok(_) => connection.transport.write(&heard).expect("written"),
                }
            }
        }
    }
}

/// One thread, so that all that is asked at once is done in an order: whoever spoke last would be answered last.
#[tokio::test]
async fn who_is_there_is_answered_before_a_hundred_who_are_coming() {
    const COMING: usize = 100;
    let dir = Scratch::new("storm");
    let tls = tls(&dir);
    let config = client_config(&dir);
    let (direct, coming_at, admission) = server(tls.clone(), TlsMode::Direct, unlimited());
    let (plain, there_at, _) = server(tls, TlsMode::Plain, unlimited());
    tokio::spawn(direct.run(Arc::new(Echo), std::future::pending(), Duration::ZERO));
    tokio::spawn(plain.run(Arc::new(Echo), std::future::pending(), Duration::ZERO));

    let mut there = TcpStream::connect(there_at).await.expect("connected");
    there.write_all(b"a").await.expect("written");
    assert_eq!(there.read_u8().await.expect("read"), b'a');
    let mut coming = Vec::new();
    for _ in 0..COMING {
        let tcp = TcpStream::connect(coming_at).await.expect("connected");
        let name = ServerName::try_from(HOST).expect("a name");
        let mut hello = Vec::new();
        let mut client = ClientConnection::new(config.clone(), name).expect("a client");
        client.write_tls(&mut hello).expect("a hello");
        coming.push((tcp, hello, client));
    }
    // All of them are waited for by the server before anybody says anything.
    while admission.unauthenticated() < COMING {
        tokio::task::yield_now().await;
    }
    for (tcp, hello, _) in &coming {
        assert_eq!(tcp.try_write(hello).expect("written"), hello.len());
    }
    assert_eq!(there.try_write(b"b").expect("written"), 1);
    assert_eq!(there.read_u8().await.expect("read"), b'b');
    let greeted = |tcp: &TcpStream| socket2::SockRef::from(tcp).peek(&mut [std::mem::MaybeUninit::uninit()]).is_ok();
    let before = coming.iter().filter(|(tcp, ..)| greeted(tcp)).count();
    assert!(before < COMING / 4, "{before} handshakes came before a message");

    // And all of those are served.
    for (mut tcp, ..) in coming {
        assert_eq!(tcp.read_u8().await.expect("greeted"), 22);
    }
}
