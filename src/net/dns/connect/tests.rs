#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;
use std::sync::Mutex;

use super::*;
use crate::dns::target::TlsMode;

const PATIENCE: Duration = Duration::from_secs(20);

fn target(host: &str, priority: u16, addresses: &[&str]) -> Target {
    Target {
        host: host.to_owned(),
        port: 5269,
        tls: TlsMode::Starttls,
        priority,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        refused: Vec::new(),
        secure: false,
        tlsa: Vec::new(),
        notes: Vec::new(),
    }
}

/// What an address does when somebody connects.
#[derive(Clone, Copy)]
enum Fate {
    Connects(u64),
    Refuses(u64),
    Silent,
}

/// Races against addresses that do as they are told; the outcome, how long it took, and when each attempt began (in
/// milliseconds).
async fn raced(
    targets: &[Target],
    fates: &[(&str, Fate)],
) -> (Result<(IpAddr, usize), Vec<ConnectError>>, u64, Vec<(String, u64)>) {
    let (begun, log) = (Instant::now(), Mutex::new(Vec::new()));
    let outcome = race(targets, PATIENCE, |address| {
        let ip = address.ip();
        log.lock().unwrap().push((ip.to_string(), begun.elapsed().as_millis() as u64));
        let fate = fates.iter().find(|(at, _)| at.parse() == Ok(ip)).unwrap().1;
        async move {
            match fate {
                Fate::Connects(after) => {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    Ok(ip)
                }
                Fate::Refuses(after) => {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
                Fate::Silent => std::future::pending().await,
            }
        }
    });
    let outcome = outcome.await.map(|(ip, index, _)| (ip, index));
    (outcome, begun.elapsed().as_millis() as u64, log.into_inner().unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_first_address_wins_when_it_answers() {
    let targets = [target("a", 0, &["2001:db8::1", "192.0.2.1"])];
    let fates = [("2001:db8::1", Fate::Connects(200)), ("192.0.2.1", Fate::Connects(1))];
    let (outcome, took, log) = raced(&targets, &fates).await;
    assert_eq!(outcome.unwrap(), ("2001:db8::1".parse().unwrap(), 0));
    assert_eq!((took, log.len()), (200, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_address_has_company_after_a_quarter_of_a_second() {
    let targets = [target("a", 0, &["2001:db8::1", "192.0.2.1", "2001:db8::2"])];
    let fates = [("2001:db8::1", Fate::Silent), ("192.0.2.1", Fate::Connects(100)), ("2001:db8::2", Fate::Silent)];
    let (outcome, took, log) = raced(&targets, &fates).await;
    assert_eq!(outcome.unwrap().0, "192.0.2.1".parse::<IpAddr>().unwrap());
    assert_eq!(took, 350);
    assert_eq!(log, [("2001:db8::1".to_owned(), 0), ("192.0.2.1".to_owned(), 250)]);
}

#[tokio::test(start_paused = true)]
async fn the_slow_first_still_wins_when_the_next_is_slower() {
    let targets = [target("a", 0, &["2001:db8::1", "192.0.2.1"])];
    let fates = [("2001:db8::1", Fate::Connects(400)), ("192.0.2.1", Fate::Connects(400))];
    let (outcome, took, _) = raced(&targets, &fates).await;
    assert_eq!((outcome.unwrap().0, took), ("2001:db8::1".parse().unwrap(), 400));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_lets_the_next_begin_at_once() {
    let targets = [target("a", 0, &["2001:db8::1", "192.0.2.1"]), target("b", 1, &["192.0.2.2"])];
    let fates =
        [("2001:db8::1", Fate::Refuses(10)), ("192.0.2.1", Fate::Refuses(10)), ("192.0.2.2", Fate::Connects(10))];
    let (outcome, took, _) = raced(&targets, &fates).await;
    assert_eq!(outcome.unwrap(), ("192.0.2.2".parse().unwrap(), 1));
    assert_eq!(took, 30);
}

#[tokio::test(start_paused = true)]
async fn another_priority_has_to_wait_longer() {
    let targets = [target("a", 0, &["192.0.2.1"]), target("b", 0, &["192.0.2.2"]), target("c", 9, &["192.0.2.3"])];
    let fates = [("192.0.2.1", Fate::Silent), ("192.0.2.2", Fate::Silent), ("192.0.2.3", Fate::Connects(0))];
    let (outcome, took, log) = raced(&targets, &fates).await;
    assert_eq!(outcome.unwrap().1, 2);
    assert_eq!(took, 2250);
    assert_eq!(log.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 250, 2250]);
}

#[tokio::test(start_paused = true)]
async fn all_that_failed_is_told() {
    let mut nowhere = target("b", 1, &[]);
    nowhere.notes.push("no such host".to_owned());
    let targets = [target("a", 0, &["192.0.2.1", "192.0.2.2"]), nowhere];
    let fates = [("192.0.2.1", Fate::Silent), ("192.0.2.2", Fate::Refuses(50))];
    let (outcome, took, _) = raced(&targets, &fates).await;
    let errors: Vec<_> = outcome.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "b:5269: no such host",
            "a:5269 (192.0.2.2): connection refused (nobody listens on this port)",
            "a:5269 (192.0.2.1): no answer within 20.0 seconds (a firewall that drops packets?)",
        ]
    );
    assert_eq!(took, 20_000);
    assert_eq!(raced(&[], &[]).await.0.unwrap_err(), []);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_none_is_made_twice() {
    let many: Vec<String> = (0..30).map(|i| format!("192.0.2.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let direct = Target { tls: TlsMode::Direct, ..target("a", 0, &many) };
    let attempts = plan(&[target("a", 0, &many), target("same", 1, &many), direct]);
    assert_eq!(attempts.len(), MAX_ATTEMPTS);
    assert!(attempts[..30].iter().all(|attempt| attempt.target == 0));
    // Another kind of TLS on the same port is another attempt.
    assert!(attempts[30..].iter().all(|attempt| attempt.target == 2));
}

#[tokio::test]
async fn true_sockets_connect_and_losers_are_dropped() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Nobody listens on the same port of another address.
    let targets = [Target { port, ..target("a", 0, &["127.0.0.77", "127.0.0.1"]) }];
    let (stream, index, address) = connect(&targets, PATIENCE).await.unwrap();
    assert_eq!((index, address), (0, SocketAddr::from(([127, 0, 0, 1], port))));
    assert!(stream.nodelay().unwrap());
    let (accepted, _) = listener.accept().await.unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), stream.local_addr().unwrap());
    drop(listener);
    let errors = connect(&targets, PATIENCE).await.unwrap_err();
    assert!(errors.iter().all(|error| error.fault == ConnectFault::Refused), "{errors:?}");
    assert_eq!(errors.len(), 2);
}
