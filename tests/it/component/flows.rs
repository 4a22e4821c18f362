//! Components that read slowly, answer nothing, or say very much.

use tokio::net::TcpSocket;

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
