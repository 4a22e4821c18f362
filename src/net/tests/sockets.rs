//! The byte layer over true sockets: STARTTLS and direct TLS, deadlines, limits, back-pressure, the end.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use rookery_core::config::TlsMode;
use rookery_net::limits::ConnectionLimits;
use rookery_net::server::{Connection, Server, Service};
use rookery_net::transport::{Read, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Says everything back, and how each connection ended. `<starttls/>` on a plain one begins TLS.
struct Echo {
    ends: mpsc::UnboundedSender<String>,
}

impl Service for Echo {
    fn serve(&self, mut connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        let ends = self.ends.clone();
        async move {
            let end = echo(&mut connection).await.unwrap_or_else(|error| error.to_string());
            let _ = ends.send(end);
            connection.transport.close(Duration::from_secs(1)).await;
        }
    }
}

async fn echo(connection: &mut Connection) -> io::Result<String> {
    const STARTTLS: &[u8] = b"<starttls/>";
    let mut heard = Vec::new();
    loop {
        let mut ending = connection.ending.clone();
        tokio::select! {
            ready = connection.transport.readable() => ready?,
            () = ending.begun() => return Ok("server ends".to_owned()),
        }
        match connection.transport.read(usize::MAX, |bytes| heard.extend_from_slice(bytes))? {
            Read::Ended => return Ok("ended".to_owned()),
            Read::Cut => return Ok("cut".to_owned()),
            Read::Bytes(_) | Read::Blocked | Read::Secured => {}
        }
        if connection.transport.tls().is_none() && heard.len() >= STARTTLS.len() && heard.starts_with(STARTTLS) {
            connection.transport.write(b"<proceed/>")?;
            connection.start_tls(HOST, &heard[STARTTLS.len()..]).await?;
            heard.clear();
        }
        connection.transport.write_with(|out| out.append(&mut heard))?;
        connection.transport.flush().await?;
    }
}

struct Running {
    ends: mpsc::UnboundedReceiver<String>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(server: Server) -> Self {
        let (sender, ends) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let end = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(server.run(Arc::new(Echo { ends: sender }), end, Duration::from_secs(5)));
        Self { ends, stop: Some(stop), task }
    }

    async fn end_of_one(&mut self) -> String {
        self.ends.recv().await.expect("an end")
    }
}

#[tokio::test]
async fn direct_tls_carries_bytes_and_tells_a_clean_end_from_a_cut() {
    let dir = Scratch::new("direct");
    let tls = tls(&dir);
    let config = client_config(&dir);
    let (server, address, _) = server(tls, TlsMode::Direct, unlimited());
    let mut running = Running::start(server);

    let mut client = Client::connect(address, &config).await.expect("secured");
    let long: Vec<u8> = (0..300_000_u32).map(|n| (n % 253) as u8).collect();
    for piece in long.chunks(10_000) {
        client.say(piece).await.expect("said");
        assert_eq!(client.hear(piece.len()).await.expect("heard"), piece);
    }
    client.tls.send_close_notify();
    client.flush().await.expect("flushed");
    assert_eq!(running.end_of_one().await, "ended");
    // The server says close_notify as well.
    assert_eq!(client.hear(1).await.expect("a clean end"), b"");

    let mut client = Client::connect(address, &config).await.expect("secured");
    client.say(b"<presence/>").await.expect("said");
    client.hear(11).await.expect("heard");
    drop(client);
    assert_eq!(running.end_of_one().await, "cut");
}

#[tokio::test]
async fn starttls_upgrades_the_connection() {
    let dir = Scratch::new("starttls");
    let tls = tls(&dir);
    let config = client_config(&dir);
    let (server, address, _) = server(tls, TlsMode::Starttls, unlimited());
    let _running = Running::start(server);
    let mut tcp = TcpStream::connect(address).await.expect("connected");
    tcp.write_all(b"<starttls/>").await.expect("written");
    let mut answer = [0; 10];
    tcp.read_exact(&mut answer).await.expect("read");
    assert_eq!(&answer, b"<proceed/>");
    let mut client = Client::over(tcp, &config).await.expect("secured");
    client.say(b"<stream>").await.expect("said");
    assert_eq!(client.hear(8).await.expect("heard"), b"<stream>");
}

#[tokio::test]
async fn a17_plaintext_behind_starttls_ends_the_connection() {
    let dir = Scratch::new("pipelined");
    let tls = tls(&dir);
    let config = client_config(&dir);
    let (server, address, admission) = server(tls, TlsMode::Starttls, unlimited());
    let mut running = Running::start(server);
    let mut tcp = TcpStream::connect(address).await.expect("connected");
    tcp.write_all(b"<starttls/><message>smuggled</message>").await.expect("written");
    assert_eq!(running.end_of_one().await, "plaintext was sent where TLS had to begin");
    let mut rest = Vec::new();
    tcp.read_to_end(&mut rest).await.expect("read");
    assert_eq!(rest, b"<proceed/>");
    assert_eq!(admission.counters().tls_failed.load(Ordering::Relaxed), 1);

    // Sent a moment later it reaches TLS, which does not take it for a handshake.
    let mut tcp = TcpStream::connect(address).await.expect("connected");
    tcp.write_all(b"<starttls/>").await.expect("written");
    tcp.read_exact(&mut [0; 10]).await.expect("proceed");
    tcp.write_all(b"<message>smuggled</message>").await.expect("written");
    assert!(Client::over(tcp, &config).await.is_err());
    assert!(running.end_of_one().await.contains("corrupt"), "rustls refuses it");
}

#[tokio::test(start_paused = true)]
async fn b14_a_handshake_that_stalls_ends_at_its_deadline() {
    let dir = Scratch::new("stall");
    let tls = tls(&dir);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut silent = TcpStream::connect(address).await.expect("connected");
    let (tcp, _) = listener.accept().await.expect("accepted");
    let mut transport = Transport::direct_tls(tcp, &tls).expect("a transport");
    let start = Instant::now();
    let error = transport.secure(Duration::from_secs(10)).await.expect_err("nothing came");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 10);
    drop(transport);
    assert_eq!(silent.read(&mut [0; 8]).await.expect("read"), 0);

    // The deadline is absolute: a byte now and then does not move it.
    let mut slow = TcpStream::connect(address).await.expect("connected");
    let (tcp, _) = listener.accept().await.expect("accepted");
    let mut transport = Transport::direct_tls(tcp, &tls).expect("a transport");
    let trickle = tokio::spawn(async move {
        for byte in [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] {
            tokio::time::sleep(Duration::from_secs(2)).await;
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    let error = transport.secure(Duration::from_secs(10)).await.expect_err("too slow");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), 10);
    trickle.abort();
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_waited_for_and_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
    let (tcp, _) = listener.accept().await.expect("accepted");
    let mut transport = Transport::plain(tcp).expect("a transport");
    let piece: Vec<u8> = (0..100_000_u32).map(|n| (n % 241) as u8).collect();
    let mut sent = 0;
    while transport.is_flushed() {
        transport.write(&piece).expect("written");
        sent += piece.len();
        assert!(sent < 100 << 20, "the kernel takes no end of it");
    }
    transport.write(&piece).expect("kept");
    sent += piece.len();
    let stuck = (transport.unwritten(), transport.written());
    assert!(stuck.0 >= piece.len());
    assert_eq!(stuck.0 as u64 + stuck.1, sent as u64);
    assert!(tokio::time::timeout(Duration::from_millis(20), transport.flush()).await.is_err());
    assert_eq!((transport.unwritten(), transport.written()), stuck, "no progress to be seen");
    let reader = tokio::spawn(async move {
        let mut all = vec![0; sent];
        client.read_exact(&mut all).await.expect("all of it");
        all
    });
    transport.flush().await.expect("flushed");
    let all = reader.await.expect("read");
    assert!(all.chunks(piece.len()).all(|chunk| chunk == piece));
    assert_eq!(transport.unwritten(), 0);
}

#[tokio::test]
async fn an_address_that_connects_too_fast_is_reset() {
    let dir = Scratch::new("rate");
    let (server, address, admission) =
        server(tls(&dir), TlsMode::Plain, ConnectionLimits { per_second: 1, burst: 5, ..ConnectionLimits::default() });
    let _running = Running::start(server);
    let mut alive = Vec::new();
    let mut reset = 0;
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(address).await.expect("connected");
        // The reset may come before or after the byte is sent.
        let sent = tcp.write_all(b"x").await;
        match (sent, tcp.read(&mut [0; 1]).await) {
            (Ok(()), Ok(1)) => alive.push(tcp),
            _ => reset += 1,
        }
    }
    assert!((5..=6).contains(&alive.len()), "{} alive", alive.len());
    assert_eq!(reset + alive.len(), 20);
    assert_eq!(admission.counters().refused_rate.load(Ordering::Relaxed), reset as u64);
    assert_eq!(admission.unauthenticated(), alive.len());
}

#[tokio::test]
async fn the_end_closes_the_ports_and_waits_for_the_connections() {
    let dir = Scratch::new("end");
    let (server, address, admission) = server(tls(&dir), TlsMode::Plain, unlimited());
    let mut running = Running::start(server);
    let mut tcp = TcpStream::connect(address).await.expect("connected");
    tcp.write_all(b"x").await.expect("written");
    tcp.read_exact(&mut [0; 1]).await.expect("read");
    running.stop.take().expect("once").send(()).expect("running");
    assert_eq!(running.end_of_one().await, "server ends");
    assert_eq!(tcp.read(&mut [0; 1]).await.expect("read"), 0);
    drop(tcp);
    running.task.await.expect("ended");
    assert!(TcpStream::connect(address).await.is_err());
    assert_eq!(admission.unauthenticated(), 0);
}

#[tokio::test]
async fn the_any_address_of_ipv6_takes_ipv4_too() {
    let listener = rookery_net::listen::bind("[::]:0".parse().expect("an address")).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let error = rookery_net::listen::bind(listener.local_addr().expect("an address")).expect_err("taken");
    assert!(error.to_string().contains("another program has the port"), "{error}");
}

/// Runs itself once more with few file descriptors: the limit is the process's.
#[test]
fn a_server_out_of_file_descriptors_pauses_and_goes_on() {
    const CHILD: &str = "ROOKERY_TEST_FEW_FILES";
    if std::env::var_os(CHILD).is_none() {
        let test = std::env::current_exe().expect("this program");
        let done = std::process::Command::new("sh")
            .arg("-c")
            .arg("ulimit -n 40; exec \"$0\" --exact a_server_out_of_file_descriptors_pauses_and_goes_on --nocapture")
            .arg(test)
            .env(CHILD, "1")
            .output()
            .expect("sh runs");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let dir = Scratch::new("few-files");
        let (server, address, admission) = server(tls(&dir), TlsMode::Plain, unlimited());
        let _running = Running::start(server);
        // Both ends are this process's. The backlog takes what cannot be accepted.
        let mut clients = Vec::new();
        while let Ok(tcp) = TcpStream::connect(address).await {
            clients.push(tcp);
            tokio::task::yield_now().await;
        }
        assert!(clients.len() > 10);
        let errors = || admission.counters().accept_errors.load(Ordering::Relaxed);
        let start = std::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!((1..=20).contains(&errors()), "{} errors in half a second is spinning", errors());
        let last = clients.pop().expect("a client");
        clients.drain(..10);
        let mut served = last;
        served.write_all(b"x").await.expect("written");
        served.read_exact(&mut [0; 1]).await.expect("served in the end");
        assert!(start.elapsed() < Duration::from_secs(10));
    });
}
