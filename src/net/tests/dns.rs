//! Finding servers, against a nameserver of the tests' own.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_net::dns::{DnsConf, LookupError, Override, Resolver, Source, Target, TlsMode};
use rookery_rigs::dns::{Server, Trouble};

/// A nameserver with these zones.
async fn nameserver(zones: &str) -> Server {
    Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), zones).await.expect("a nameserver")
}

fn conf(server: &Server) -> DnsConf {
    DnsConf { nameservers: vec![server.address()], private_addresses: true, ..DnsConf::default() }
}

fn resolver(server: &Server) -> Resolver {
    Resolver::new(&conf(server)).expect("a resolver")
}

/// A nameserver and a resolver that asks it and nobody else.
async fn pair(zones: &str) -> (Server, Resolver) {
    let server = nameserver(zones).await;
    let resolver = resolver(&server);
    (server, resolver)
}

/// One that trusts the nameserver's root key.
async fn signed_pair(zones: &str) -> (Server, Resolver) {
    let server = nameserver(zones).await;
    let file = std::env::temp_dir().join(format!("rookery-anchor-{}-{}", std::process::id(), server.address().port()));
    std::fs::write(&file, server.trust_anchor()).expect("a file");
    let conf = DnsConf { trust_anchor: Some(file.clone()), ..conf(&server) };
    let resolver = Resolver::new(&conf).expect("a resolver");
    std::fs::remove_file(file).expect("the file");
    (server, resolver)
}

fn short(targets: &[Target]) -> Vec<String> {
    (targets.iter())
        .map(|target| {
            let addresses: Vec<_> = target.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}:{} {}", target.tls, target.host, target.port, addresses.join(","))
        })
        .collect()
}

async fn found(resolver: &Resolver, domain: &str) -> Vec<String> {
    short(&resolver.find_servers(domain).await.expect("servers"))
}

async fn why(resolver: &Resolver, domain: &str) -> LookupError {
    resolver.find_servers(domain).await.expect_err("no servers")
}

#[tokio::test]
async fn both_services_are_one_set_in_the_order_of_priority() {
    let (_server, resolver) = pair(
        "$ORIGIN a.test.
         _xmpp-server._tcp SRV 10 0 5269 one
         _xmpp-server._tcp SRV 30 0 5269 three
         _xmpps-server._tcp SRV 20 0 5270 two
         _xmpps-server._tcp SRV 5 0 443 one
         one A 127.0.0.1
         one AAAA ::1
         two A 127.0.0.2
         three CNAME elsewhere.b.test.
         $ORIGIN b.test.
         elsewhere CNAME there
         there A 127.0.0.3",
    )
    .await;
    let finding = resolver.find("a.test").await.unwrap();
    assert_eq!(finding.source, Source::Srv);
    assert_eq!(finding.records.len(), 4);
    assert_eq!(
        short(&finding.targets),
        [
            "direct one.a.test:443 ::1,127.0.0.1",
            "starttls one.a.test:5269 ::1,127.0.0.1",
            "direct two.a.test:5270 127.0.0.2",
            "starttls three.a.test:5269 127.0.0.3",
        ]
    );
    assert!(finding.targets.iter().all(|target| !target.secure && target.tlsa.is_empty()));
}

#[tokio::test]
async fn weights_are_drawn_anew_from_what_is_remembered() {
    let (server, resolver) = pair(
        "$ORIGIN a.test.
         _xmpp-server._tcp SRV 1 30 5269 often
         _xmpps-server._tcp SRV 1 10 5270 rarely
         often A 127.0.0.1
         rarely A 127.0.0.2",
    )
    .await;
    let mut often = 0;
    for _ in 0..2000 {
        often += usize::from(resolver.find_servers("a.test").await.unwrap()[0].host == "often.a.test");
    }
    // 31 of 41 chances, since the draw includes both ends (RFC 2782).
    assert!((1400..1625).contains(&often), "{often}");
    let asked = server.asked().iter().filter(|question| question.contains("SRV")).count();
    assert_eq!(asked, 2, "{:?}", server.asked());
}

#[tokio::test]
async fn a_domain_without_srv_is_its_own_server() {
    let (_server, resolver) = pair("$ORIGIN a.test.\n@ A 127.0.0.1\n@ AAAA ::1").await;
    let finding = resolver.find("a.test").await.unwrap();
    assert_eq!(finding.source, Source::Domain);
    assert_eq!(short(&finding.targets), ["starttls a.test:5269 ::1,127.0.0.1"]);
}

#[tokio::test]
async fn the_own_addresses_do_not_count_when_there_is_srv() {
    let zones = "$ORIGIN a.test.\n@ A 127.0.0.1\n_xmpp-server._tcp SRV 0 0 5269 gone";
    let (_server, resolver) = pair(zones).await;
    let error = why(&resolver, "a.test").await;
    assert!(matches!(error, LookupError::NoSuchDomain(_)) && error.is_definite(), "{error}");
    assert_eq!(error.to_string(), "its SRV records lead nowhere: they name gone.a.test:5269 (no such host)");
}

#[tokio::test]
async fn a_dot_means_that_the_service_is_not_offered() {
    let (_server, resolver) = pair(
        "$ORIGIN none.test.
         @ A 127.0.0.1
         _xmpp-server._tcp SRV 0 0 0 .
         $ORIGIN zero.test.
         @ A 127.0.0.1
         _xmpp-server._tcp SRV 0 0 0 @
         $ORIGIN notls.test.
         _xmpps-server._tcp SRV 0 0 0 .
         _xmpp-server._tcp SRV 0 0 5269 @
         @ A 127.0.0.1",
    )
    .await;
    assert_eq!(why(&resolver, "none.test").await, LookupError::NotOffered);
    let error = why(&resolver, "zero.test").await;
    assert_eq!(error.to_string(), "an SRV record names port 0 of zero.test, where nobody can listen");
    assert_eq!(found(&resolver, "notls.test").await, ["starttls notls.test:5269 127.0.0.1"]);
}

#[tokio::test]
async fn who_does_not_exist_is_told_from_who_has_no_server() {
    let (_server, resolver) = pair("$ORIGIN a.test.\n@ TXT hello").await;
    let texts = [why(&resolver, "a.test").await.to_string(), why(&resolver, "b.test").await.to_string()];
    assert_eq!(
        texts,
        ["a.test has no SRV record for XMPP servers, and no address", "the domain b.test does not exist in DNS"]
    );
    let long = format!("{}.test", ["x"; 130].join("."));
    for name in ["", ".", long.as_str(), "a b.test", &"x".repeat(64)] {
        assert!(why(&resolver, name).await.is_definite(), "{name}");
    }
}

#[tokio::test]
async fn failing_nameservers_are_no_verdict_on_the_domain() {
    let zones = "$ORIGIN a.test.\n_xmpp-server._tcp SRV 0 0 5269 @\n@ A 127.0.0.1";
    let (server, _) = pair(zones).await;
    let conf = DnsConf { timeout: Duration::from_millis(1500), ..conf(&server) };
    for trouble in [Trouble::ServFail, Trouble::Refused, Trouble::Drop, Trouble::Garbage, Trouble::Elsewhere] {
        server.calm();
        server.trouble("_tcp.a.test.", trouble);
        let begun = Instant::now();
        let error = why(&Resolver::new(&conf).unwrap(), "a.test").await;
        assert!(matches!(error, LookupError::Failing(_)) && !error.is_definite(), "{trouble:?}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{trouble:?} took {:?}", begun.elapsed());
    }
    // One of the two services that fails does not hide the other.
    server.calm();
    server.trouble("_xmpps-server._tcp.a.test.", Trouble::ServFail);
    let finding = Resolver::new(&conf).unwrap().find("a.test").await.unwrap();
    assert_eq!(short(&finding.targets), ["starttls a.test:5269 127.0.0.1"]);
    assert_eq!(finding.notes, ["the nameserver answers SERVFAIL for _xmpps-server._tcp.a.test SRV"]);
}

#[tokio::test]
async fn what_failed_is_asked_again_soon_and_what_is_absent_is_not() {
    let (server, resolver) = pair("$ORIGIN a.test.\n@ A 127.0.0.1\n$SERVFAIL @").await;
    assert!(matches!(why(&resolver, "a.test").await, LookupError::Failing(_)));
    server.calm();
    let again = async {
        while resolver.find_servers("a.test").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("it is asked again");

    assert!(why(&resolver, "b.test").await.is_definite());
    let questions = server.asked().len();
    server.set("$ORIGIN b.test.\n@ A 127.0.0.1").unwrap();
    assert!(why(&resolver, "b.test").await.is_definite());
    assert_eq!(server.asked().len(), questions);
    // The conf read again forgets what was remembered.
    resolver.reload(&conf(&server)).unwrap();
    assert_eq!(found(&resolver, "b.test").await, ["starttls b.test:5269 127.0.0.1"]);
}

#[tokio::test]
async fn answers_that_do_not_fit_come_over_tcp() {
    let records: String =
        (0..60).map(|i| format!("_xmpp-server._tcp SRV {i} 0 5269 host{i}\nhost{i} A 127.0.0.{}\n", i + 1)).collect();
    let (server, resolver) =
        pair(&format!("$ORIGIN a.test.\n{records}\n$ORIGIN b.test.\n@ A 127.0.0.1\n$TRUNCATE @")).await;
    let finding = resolver.find("a.test").await.unwrap();
    assert_eq!(finding.targets.len(), 16, "bounded");
    assert_eq!(finding.targets[15].host, "host15.a.test", "those of the best priorities");
    assert_eq!(finding.notes, ["there are 60 SRV records; the first 16 are used"]);
    assert!(
        server.asked().iter().any(|question| question == "_xmpp-server._tcp.a.test. SRV tcp"),
        "{:?}",
        server.asked()
    );
    assert_eq!(found(&resolver, "b.test").await, ["starttls b.test:5269 127.0.0.1"]);
}

#[tokio::test]
async fn aliases_lead_on_but_not_for_ever() {
    let chain: String = (0..200).map(|i| format!("c{i} CNAME c{}\n", i + 1)).collect();
    let (server, resolver) = pair(&format!(
        "$ORIGIN a.test.\n_xmpp-server._tcp CNAME srv.b.test.\n$ORIGIN b.test.\nsrv SRV 0 0 5269 @\n@ A 127.0.0.1
         $ORIGIN loop.test.\n@ CNAME other.loop.test.\nother CNAME loop.test.
         $ORIGIN round.test.\n_xmpp-server._tcp CNAME a\na CNAME _xmpp-server._tcp
         $ORIGIN long.test.\n{chain}c200 A 127.0.0.1\n_xmpp-server._tcp SRV 0 0 5269 c0"
    ))
    .await;
    assert_eq!(found(&resolver, "a.test").await, ["starttls b.test:5269 127.0.0.1"]);
    let begun = Instant::now();
    for domain in ["loop.test", "round.test", "long.test"] {
        assert!(resolver.find_servers(domain).await.is_err(), "{domain}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(server.asked().len() < 400, "{}", server.asked().len());
}

#[tokio::test]
async fn many_addresses_are_bounded() {
    let addresses: String = (1..=100).map(|i| format!("@ A 127.0.1.{i}\n@ AAAA fd00::{i}\n")).collect();
    let (_server, resolver) = pair(&format!("$ORIGIN a.test.\n{addresses}")).await;
    let targets = resolver.find_servers("a.test").await.unwrap();
    assert_eq!(targets[0].addresses.len(), 8);
    assert!(targets[0].addresses.iter().step_by(2).all(|address| address.is_ipv6()));
}

#[tokio::test]
async fn names_beyond_ascii_are_asked_for_as_a_labels() {
    let (_server, resolver) =
        pair("$ORIGIN xn--bcher-kva.test.\n_xmpp-server._tcp SRV 0 0 5269 @\n@ A 127.0.0.1").await;
    let same = ["starttls xn--bcher-kva.test:5269 127.0.0.1"];
    assert_eq!(found(&resolver, "bücher.test").await, same);
    assert_eq!(found(&resolver, "BÜCHER.test").await, same);
    assert_eq!(found(&resolver, "xn--bcher-kva.test.").await, same);
}

#[tokio::test]
async fn d4_names_do_not_lead_to_private_addresses() {
    let zones = "$ORIGIN a.test.\n_xmpp-server._tcp SRV 0 0 5269 in\n_xmpp-server._tcp SRV 1 0 5269 out\n_xmpp-server._tcp SRV 2 0 22 db
         in A 127.0.0.1\nin AAAA ::ffff:10.0.0.1\nout A 192.0.2.1\nout A 192.168.0.1\ndb A 169.254.169.254
         $ORIGIN b.test.\n@ A 10.0.0.1\n@ AAAA fe80::1";
    let server = nameserver(zones).await;
    let resolver = Resolver::new(&DnsConf { private_addresses: false, ..conf(&server) }).unwrap();
    let targets = resolver.find_servers("a.test").await.unwrap();
    assert_eq!(
        short(&targets),
        ["starttls in.a.test:5269 ", "starttls out.a.test:5269 192.0.2.1", "starttls db.a.test:22 "]
    );
    assert_eq!(targets[0].refused.len(), 2);
    assert_eq!(
        why(&resolver, "b.test").await.to_string(),
        "its server would be b.test:5269 (its address fe80::1, 10.0.0.1 is not public (s2s.private_addresses = true allows it))"
    );
    for literal in ["127.0.0.1", "[::1]", "10.1.1.1"] {
        assert!(why(&resolver, literal).await.is_definite(), "{literal}");
    }
    assert_eq!(found(&resolver, "[2001:db8::1]").await, ["starttls 2001:db8::1:5269 2001:db8::1"]);
}

#[tokio::test]
async fn the_conf_has_the_last_word_on_a_domain() {
    let server =
        nameserver("$ORIGIN xn--bcher-kva.test.\n@ A 127.0.0.7\n$ORIGIN a.test.\n_xmpp-server._tcp SRV 0 0 0 .").await;
    let addresses = ["127.0.0.9:15269", "[2001:db8::1]:443"].map(|address| address.parse().expect("an address"));
    let named = Override { addresses: addresses.to_vec(), tls: TlsMode::Direct };
    let overrides = HashMap::from([("bücher.test".to_owned(), named)]);
    let resolver = Resolver::new(&DnsConf { overrides, private_addresses: false, ..conf(&server) }).unwrap();
    let finding = resolver.find("bücher.test").await.unwrap();
    assert_eq!(finding.source, Source::Conf);
    assert_eq!(short(&finding.targets), ["direct 127.0.0.9:15269 127.0.0.9", "direct 2001:db8::1:443 2001:db8::1"]);
    assert!(server.asked().is_empty());
    assert_eq!(why(&resolver, "a.test").await, LookupError::NotOffered);
}

#[tokio::test]
async fn a_crowd_that_asks_at_once_costs_one_search() {
    let (server, resolver) =
        pair("$ORIGIN a.test.\n_xmpp-server._tcp SRV 0 0 5269 @\n@ A 127.0.0.1\n$DELAY @ 200").await;
    let resolver = Arc::new(resolver);
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let resolver = resolver.clone();
        crowd.spawn(async move { found(&resolver, "a.test").await });
    }
    for targets in crowd.join_all().await {
        assert_eq!(targets, ["starttls a.test:5269 127.0.0.1"]);
    }
    let asked = |kind: &str| server.asked().iter().filter(|question| *question == kind).count();
    assert_eq!((asked("_xmpp-server._tcp.a.test. SRV"), asked("a.test. A")), (1, 1));
}

#[tokio::test]
async fn a_search_of_many_slow_questions_ends_in_time() {
    let (server, _) = pair("$ORIGIN a.test.\n_xmpp-server._tcp SRV 0 0 5269 @\n@ A 127.0.0.1\n$DELAY @ 400").await;
    let conf = DnsConf { timeout: Duration::from_millis(300), ..conf(&server) };
    let begun = Instant::now();
    let error = why(&Resolver::new(&conf).unwrap(), "a.test").await;
    assert!(matches!(error, LookupError::Failing(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

const SIGNED: &str = "$ORIGIN a.test.
    $SIGN
    _xmpp-server._tcp SRV 0 0 5269 xmpp
    xmpp A 127.0.0.1
    _5269._tcp.xmpp TLSA 3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    $ORIGIN own.test.
    $SIGN
    @ A 127.0.0.2
    $ORIGIN plain.test.
    _xmpp-server._tcp SRV 0 0 5269 xmpp
    xmpp A 127.0.0.3
    _5269._tcp.xmpp TLSA 3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    $ORIGIN mixed.test.
    $SIGN
    _xmpp-server._tcp SRV 0 0 5269 xmpp.plain.test.
    $ORIGIN none.test.
    $SIGN
    @ TXT nothing
    $ORIGIN dot.test.
    $SIGN
    _xmpp-server._tcp SRV 0 0 0 .
    $ORIGIN alias.test.
    $SIGN
    _xmpp-server._tcp CNAME _xmpp-server._tcp.a.test.
    $ORIGIN unsure.test.
    _xmpp-server._tcp CNAME _xmpp-server._tcp.a.test.
    ";

#[tokio::test]
async fn signed_answers_are_known_and_their_keys_taken() {
    let (_server, resolver) = signed_pair(SIGNED).await;
    let targets = resolver.find_servers("a.test").await.unwrap();
    assert_eq!(short(&targets), ["starttls xmpp.a.test:5269 127.0.0.1"]);
    assert!(targets[0].secure && targets[0].has_dane(), "{targets:?}");
    assert!(targets[0].tlsa[0].to_string().starts_with("3 1 1 e3b0c442"), "{targets:?}");

    // An alias is signed if each step of it is.
    assert!(resolver.find_servers("alias.test").await.unwrap()[0].has_dane());
    assert!(!resolver.find_servers("unsure.test").await.unwrap()[0].secure);

    let own = resolver.find_servers("own.test").await.unwrap();
    assert!(own[0].secure && own[0].tlsa.is_empty(), "{own:?}");
}

#[tokio::test]
async fn unsigned_zones_below_a_signed_root_are_just_unsigned() {
    let (_server, resolver) = signed_pair(SIGNED).await;
    for domain in ["plain.test", "mixed.test"] {
        let targets = resolver.find_servers(domain).await.unwrap();
        assert_eq!(short(&targets), ["starttls xmpp.plain.test:5269 127.0.0.3"], "{domain}");
        assert!(!targets[0].secure && targets[0].tlsa.is_empty(), "{targets:?}");
    }
}

#[tokio::test]
async fn absence_is_signed_too() {
    let (_server, resolver) = signed_pair(SIGNED).await;
    let text = |error: LookupError| (error.is_definite(), error.to_string());
    assert_eq!(
        text(why(&resolver, "none.test").await),
        (true, "none.test has no SRV record for XMPP servers, and no address".to_owned())
    );
    assert_eq!(
        text(why(&resolver, "gone.test").await),
        (true, "the domain gone.test does not exist in DNS".to_owned())
    );
    assert_eq!(why(&resolver, "dot.test").await, LookupError::NotOffered);
}

#[tokio::test]
async fn spoiled_signatures_are_bogus() {
    for trouble in [Trouble::Bogus, Trouble::Expired, Trouble::Strip] {
        for place in ["_xmpp-server._tcp.a.test.", "xmpp.a.test.", "a.test."] {
            let (server, resolver) = signed_pair(SIGNED).await;
            server.trouble(place, trouble);
            let error = why(&resolver, "a.test").await;
            assert!(matches!(error, LookupError::Bogus(_)) && !error.is_definite(), "{place} {trouble:?}: {error}");
            assert!(error.to_string().contains("DNSSEC"), "{error}");
            // Others are not concerned.
            assert!(resolver.find_servers("own.test").await.unwrap()[0].secure);
        }
    }
}

#[tokio::test]
async fn a_host_whose_keys_are_kept_from_us_is_not_used() {
    let (server, resolver) = signed_pair(SIGNED).await;
    server.trouble("_tcp.xmpp.a.test.", Trouble::ServFail);
    let error = why(&resolver, "a.test").await;
    assert!(matches!(error, LookupError::Failing(_)), "{error}");
    let (server, resolver) = signed_pair(SIGNED).await;
    server.trouble("_tcp.xmpp.a.test.", Trouble::Strip);
    assert!(matches!(why(&resolver, "a.test").await, LookupError::Bogus(_)));
}

#[tokio::test]
async fn another_root_key_makes_all_bogus() {
    let other = nameserver("").await;
    let server = nameserver(SIGNED).await;
    let file = std::env::temp_dir().join(format!("rookery-other-anchor-{}", std::process::id()));
    std::fs::write(&file, other.trust_anchor()).unwrap();
    let resolver = Resolver::new(&DnsConf { trust_anchor: Some(file.clone()), ..conf(&server) }).unwrap();
    std::fs::remove_file(file).unwrap();
    assert!(matches!(why(&resolver, "a.test").await, LookupError::Bogus(_)));
    // And so does the true root, which has not signed this one.
    assert!(matches!(why(&crate::resolver(&server), "a.test").await, LookupError::Bogus(_)));
    // Unless nobody looks.
    let resolver = Resolver::new(&DnsConf { dnssec: false, ..conf(&server) }).unwrap();
    let targets = resolver.find_servers("a.test").await.unwrap();
    assert!(!targets[0].secure && targets[0].tlsa.is_empty());
}

#[tokio::test]
async fn a_nameserver_that_validates_says_why_it_refuses() {
    let (server, resolver) =
        pair("$ORIGIN a.test.\n_xmpp-server._tcp SRV 0 0 5269 @\n@ A 127.0.0.1\n$UNCHECKED @").await;
    let error = why(&resolver, "a.test").await;
    assert!(matches!(error, LookupError::Bogus(_)), "{error}");
    assert!(error.to_string().contains("since its DNSSEC signatures are not valid"), "{error}");
    assert!(server.asked().len() < 40);
}

#[tokio::test]
async fn trust_anchors_that_are_none_are_refused() {
    let file = std::env::temp_dir().join(format!("rookery-no-anchor-{}", std::process::id()));
    let make = || Resolver::new(&DnsConf { trust_anchor: Some(file.clone()), ..DnsConf::default() });
    assert!(make().is_err());
    for text in ["", "nonsense\n", ". 60 IN A 127.0.0.1\n"] {
        std::fs::write(&file, text).unwrap();
        let error = make().expect_err("no anchor").to_string();
        assert!(error.contains("rookery-no-anchor"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn two_nameservers_are_one_when_the_first_is_gone() {
    let server = nameserver("$ORIGIN a.test.\n@ A 127.0.0.1").await;
    let gone = nameserver("").await.address();
    let resolver = Resolver::new(&DnsConf { nameservers: vec![gone, server.address()], ..conf(&server) }).unwrap();
    assert_eq!(found(&resolver, "a.test").await, ["starttls a.test:5269 127.0.0.1"]);
}
