//! Components that read slowly, answer nothing, or say very much.

use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::served::seconds_pass;

/// One for whom the kernel holds little that it has not read.
async fn narrow(served: &Served) -> Component {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let tcp = socket.connect(served.port(ListenerKind::Component, TlsMode::Plain)).await.unwrap();
    let (mut talk, id) = Component::begin_over(Talk::over(tcp), "irc.localhost").await;
    talk.say(&handshake(&id, "open sesame")).await;
    talk.hear("<handshake/>").await;
    Component { talk, domain: "irc.localhost".to_owned() }
}

/// One that answers no pings is believed to have what it was sent some time ago. What the socket has not taken it cannot have:
/// that goes to its next connection.
#[tokio::test]
async fn what_waits_for_the_socket_does_not_count_as_delivered() {
    let conf = format!("limits.write_stall = '1 hour'\n{CONF}");
    let served = Served::new(&conf, &[], &[ROMEO]).await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let irc = narrow(&served).await;
    let long = "x".repeat(20_000);
    for n in 0..30 {
        romeo.say(&format!("<message to='a@irc.localhost' id='{n}'><body>{n} {long}</body></message>")).await;
    }
    romeo.synced("localhost").await;
    seconds_pass(40, || {}).await;
    romeo.synced("localhost").await;
    drop(irc);
    let mut irc = Component::irc(&served).await;
    for n in 0..30 {
        let heard = irc.hear("</body>").await;
        assert!(heard.contains(&format!("<body>{n} ")), "in place of {n}: {}", &heard[..200]);
    }
    served.stop().await;
}

/// What means nothing to anybody.
const CHATTER: &str = "<presence type='error' from='irc.localhost' to='localhost'/>";

#[tokio::test]
async fn a_component_that_is_busy_is_told_of_the_end_of_the_server() {
    let served = served().await;
    let irc = Component::irc(&served).await;
    let mut irc = Chatterbox { tcp: irc.talk.into_tcp(), said: 0, heard: 0 };
    // The server has begun with what it has been told, and has much of it left.
    irc.chat();
    for _ in 0..4 {
        tokio::task::yield_now().await;
        irc.chat();
    }
    let mut talk = Talk::over(irc.tcp);
    let heard = tokio::join!(served.stop(), talk.hear_out()).1;
    assert!(heard.contains("<system-shutdown ") && heard.ends_with("</stream:stream>"), "{heard}");
}

/// A component that says as much as the server takes, and reads all the while.
struct Chatterbox {
    tcp: TcpStream,
    /// How much of [`CHATTER`] has been said last.
    said: usize,
    heard: usize,
}

impl Chatterbox {
    /// Says all that the sockets hold, and reads a part of what they hold.
    fn chat(&mut self) {
        let chatter = CHATTER.repeat(100);
        while let Ok(count) = self.tcp.try_write(&chatter.as_bytes()[self.said..]) {
            self.said = (self.said + count) % CHATTER.len();
        }
        let mut piece = [0; 32 * 1024];
        self.heard += self.tcp.try_read(&mut piece).unwrap_or_default();
    }
}

/// A peer that never ceases to talk is written to all the same.
#[tokio::test]
async fn a_component_that_reads_while_it_talks_is_not_cut_off() {
    let limits = "limits.connection_burst = '16 MiB'\nlimits.account_burst = '16 MiB'\n";
    let served = Served::new(&format!("{limits}{CONF}"), &[], &[ROMEO]).await;
    let mut romeo = served.login(ROMEO, "orchard").await;
    let irc = narrow(&served).await;
    let long = "x".repeat(30_000);
    for n in 0..100 {
        romeo.say(&format!("<message to='a@irc.localhost' id='{n}'><body>{long}</body></message>")).await;
    }
    romeo.synced("localhost").await;
    let mut irc = Chatterbox { tcp: irc.talk.into_tcp(), said: 0, heard: 0 };
    // Longer than the socket may take nothing.
    seconds_pass(45, || irc.chat()).await;
    let before = irc.heard;
    seconds_pass(10, || irc.chat()).await;
    assert!(irc.heard > before && irc.heard < 3_000_000, "{before}, {}", irc.heard);
    served.stop().await;
}
