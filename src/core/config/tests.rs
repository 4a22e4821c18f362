//! Conf texts and the messages they give.

use std::time::Duration;

use serde::Deserialize;

use super::*;

const FILE: &str = "conf/rookery.toml";

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Example {
    period: Period<60, 3600>,
    size: Size<1024, 4096>,
    count: Count<1, 10>,
    name: String,
    token: Secret,
}

impl Default for Example {
    fn default() -> Self {
        Self {
            period: Period::minutes(10),
            size: Size::kib(2),
            count: Count::new(3),
            name: "rook".to_owned(),
            token: Secret::default(),
        }
    }
}

fn parse(text: &str) -> Conf {
    Conf::parse(text, FILE).unwrap_or_else(|error| panic!("{error}"))
}

/// Each text, and what is said about it after the file's name.
fn refused(pairs: &[(&str, &str)]) {
    for (text, expected) in pairs {
        let said = match Conf::parse(text, FILE) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said.trim_start_matches(FILE), *expected, "for {text:?}");
    }
}

/// As `refused`, for the section of a module `example` on `localhost`.
fn refused_example(pairs: &[(&str, &str)]) {
    for (text, expected) in pairs {
        let said = match parse(text).module::<Example>("localhost", "example", true) {
            Ok(read) => format!("{read:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(said.trim_start_matches(FILE), *expected, "for {text:?}");
    }
}

#[test]
fn an_empty_conf_is_the_defaults() {
    let conf = parse("");
    assert_eq!(conf.server(), &ServerConf::default());
    assert_eq!(conf.limits(), &Limits::default());
    assert_eq!(conf.store().path, Path::new("data/rookery.sqlite"));
    let listeners: Vec<_> = conf.listeners().iter().map(|l| (l.kind, l.address.to_string(), l.tls)).collect();
    let expected = [
        (ListenerKind::C2s, "[::]:5222".to_owned(), TlsMode::Starttls),
        (ListenerKind::C2s, "[::]:5223".to_owned(), TlsMode::Direct),
        (ListenerKind::S2s, "[::]:5269".to_owned(), TlsMode::Starttls),
        (ListenerKind::S2s, "[::]:5270".to_owned(), TlsMode::Direct),
    ];
    assert_eq!(listeners, expected);
    assert_eq!(conf.hosts().len(), 1);
    assert!(conf.is_host("localhost"));
}

#[test]
fn every_section_is_read() {
    let conf = parse(
        r#"
        [server]
        data = "/var/lib/rookery"
        [log]
        level = "debug"
        format = "json"
        [store]
        backend = "postgres"
        url = "postgres://rookery:hunter2@db/rookery"
        durability = "relaxed"
        [limits]
        stanza = "1 MiB"
        resume = "5m"
        exempt = ["10.0.0.0/8", "2001:db8::1"]
        [[listen]]
        address = "127.0.0.1:5222"
        tls = "plain"
        allow_plain_passwords = true
        [host."EXAMPLE.org"]
        certificate = "a.crt"
        key = "a.key"
        [host."localhost"]
        "#,
    );
    assert_eq!(conf.log(), &LogConf { level: LogLevel::Debug, format: LogFormat::Json });
    assert_eq!(conf.store().path, Path::new("/var/lib/rookery/rookery.sqlite"));
    assert_eq!(conf.store().url.expose(), "postgres://rookery:hunter2@db/rookery");
    assert_eq!(conf.limits().stanza.get(), 1 << 20);
    assert_eq!(conf.limits().resume.get(), Duration::from_secs(300));
    assert!(conf.limits().is_exempt("::ffff:10.1.2.3".parse().unwrap()));
    assert!(conf.limits().is_exempt("2001:db8::1".parse().unwrap()));
    assert!(!conf.limits().is_exempt("127.0.0.1".parse().unwrap()));
    assert!(conf.listeners()[0].allow_plain_passwords);
    let hosts: Vec<_> = conf.hosts().iter().map(|host| host.domain.as_str()).collect();
    assert_eq!(hosts, ["example.org", "localhost"]);
    assert_eq!(conf.hosts()[0].certificate.as_deref(), Some(Path::new("a.crt")));
}

#[test]
fn unknown_options_name_the_nearest() {
    refused(&[
        (
            "[[listen]]\naddress = \"[::]:5222\"\n  tsl = \"direct\"\n",
            ":3:3: unknown option \"tsl\" in [[listen]]; did you mean \"tls\"?",
        ),
        ("[limts]\n", ":1:2: unknown section \"limts\"; did you mean \"limits\"?"),
        (
            "colour = 1\n",
            ":1:1: unknown section \"colour\"; the sections are component, host, limits, listen, log, modules, s2s, server, store",
        ),
        ("[log]\nlvel = \"info\"", ":2:1: unknown option \"lvel\" in [log]; did you mean \"level\"?"),
        ("[log]\ncolour = true", ":2:1: unknown option \"colour\" in [log]; the options are format, level"),
        (
            "[host.\"example.org\"]\ncert = \"x\"",
            ":2:1: unknown option \"cert\" in [host.\"example.org\"]; the options are certificate, key, modules",
        ),
    ]);
}

#[test]
fn wrong_values_say_what_to_write() {
    refused(&[
        (
            "[[listen]]\naddress = \"[::]:5222\"\ntls = \"startls\"",
            ":3:7: \"tls\" in [[listen]] takes \"starttls\", \"direct\" or \"plain\", not \"startls\"; did you mean \"starttls\"?",
        ),
        (
            "[[listen]]\naddress = 5222",
            ":2:11: \"address\" in [[listen]] takes an address with a port such as \"[::]:5222\" or \"192.0.2.1:5222\", \
             not 5222",
        ),
        (
            "[[listen]]\naddress = \"5222\"",
            ":2:11: \"address\" in [[listen]] takes an address with a port such as \"[::]:5222\" or \"192.0.2.1:5222\", \
             not what stands there",
        ),
        (
            "[log]\nlevel = 3",
            ":2:9: \"level\" in [log] takes \"error\", \"warn\", \"info\", \"debug\" or \"trace\", not a number",
        ),
        ("[store]\nconnections = 0", ":2:15: \"connections\" in [store] takes a whole number from 1 to 1000, not 0"),
        (
            "[store]\nconnections = \"8\"",
            ":2:15: \"connections\" in [store] takes a whole number from 1 to 1000, not a string",
        ),
        (
            "[limits]\nstanza = 262144",
            ":2:10: \"stanza\" in [limits] takes a size such as \"256 KiB\" (from 10000 B to 64 MiB), not 262144",
        ),
        (
            "[limits]\nstanza = \"1 KiB\"",
            ":2:10: \"stanza\" in [limits] takes a size such as \"256 KiB\" (from 10000 B to 64 MiB), not 1 KiB",
        ),
        (
            "[limits]\nwrite_stall = \"2 days\"",
            ":2:15: \"write_stall\" in [limits] takes a period such as \"10 minutes\" (from 1s to 1h), not 2days",
        ),
        (
            "[limits]\nexempt = [\"127.0.0.1\", \"lan\"]",
            ":2:24: \"exempt\" in [limits] takes address ranges such as \"192.0.2.0/24\" or \"2001:db8::/32\", \
             not what stands there",
        ),
        (
            "[server]\ndata = \"\"",
            ":2:8: \"data\" in [server] takes the name of a file or folder, not what stands there",
        ),
        ("[limits]\nexempt = \"lan\"", ":2:10: \"exempt\" in [limits] takes a list, not a string"),
    ]);
}

#[test]
fn sections_of_the_wrong_shape_are_refused() {
    refused(&[
        ("log = \"info\"", ":1:1: \"log\" is a section: write [log] on a line of its own, and its options below"),
        (
            "[listen]\ntls = \"plain\"",
            ":1:2: \"listen\" is a list of sections: write [[listen]] on a line of its own, and its options below",
        ),
        (
            "[modules]\nroster = true",
            ":2:1: \"roster\" is a section: write [modules.roster] on a line of its own, and its options below",
        ),
        (
            "[host]\nlocalhost = 1",
            ":2:1: a host is a section: write [host.\"localhost\"] on a line of its own, and its options below",
        ),
        ("[host.\"a@b\"]", ":1:7: [host.\"a@b\"]: this is no domain; write one such as [host.\"example.org\"]"),
        ("[host.\"a.org\"]\n[host.\"A.org\"]", ":2:7: [host.\"A.org\"]: this is the same domain as another section's"),
        (
            "[host.\"a.org\"]\nkey = \"a.key\"",
            ":1:7: [host.\"a.org\"]: \"certificate\" and \"key\" go together; name both files or none",
        ),
        ("[log\nlevel = 1", ":1:5: this is not TOML: unclosed table, expected `]`"),
        ("[log]\nlevel = \"info\"\nlevel = \"warn\"", ":3:1: this is not TOML: duplicate key"),
    ]);
}

#[test]
fn plain_listeners_stay_private() {
    let public = "\"address\" in [[listen]]: a listener without TLS is for the own machine or a private network: \
                  name such an address (\"127.0.0.1:5222\"), or set tls to \"starttls\" or \"direct\"";
    for address in ["[::]:1", "0.0.0.0:1", "192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:8.8.8.8]:1", "100.128.0.1:1"] {
        let text = format!("[[listen]]\naddress = \"{address}\"\ntls = \"plain\"");
        assert_eq!(Conf::parse(&text, FILE).unwrap_err().why, public, "{address}");
    }
    for address in
        ["127.0.0.1:1", "[::1]:1", "10.0.0.1:1", "192.168.1.1:1", "[fd00::1]:1", "[::ffff:127.0.0.1]:1", "100.64.0.1:1"]
    {
        parse(&format!("[[listen]]\naddress = \"{address}\"\ntls = \"plain\""));
    }
    refused(&[
        (
            "[[listen]]\naddress = \"127.0.0.1:5222\"\nallow_plain_passwords = true",
            ":3:25: \"allow_plain_passwords\" in [[listen]]: this is for tls = \"plain\" alone; inside TLS it needs no leave",
        ),
        (
            "[[listen]]\ntls = \"direct\"",
            ":1:1: the option \"address\" is missing in [[listen]]: write address and port such as \"[::]:5222\"",
        ),
        (
            "[[listen]]\naddress = \"[::]:5222\"\n[[listen]]\naddress = \"[::]:5222\"",
            ":4:11: \"address\" in [[listen]]: another [[listen]] has this address already",
        ),
    ]);
}

#[test]
fn a21_no_message_repeats_a_secret() {
    let canary = "canary-7Qx";
    for text in [
        format!("[store]\nbackend = \"postgres\"\nurl = \"mysql://rookery:{canary}@db\""),
        format!("[store]\nurl = [\"postgres://rookery:{canary}@db\"]"),
        format!("[store]\nurl = \"postgres://rookery:{canary}@db"),
        format!("[store]\nurl = postgres://rookery:{canary}@db"),
        format!("[store]\nconnections = \"{canary}\""),
        format!("[limits]\nexempt = [\"{canary} {canary}\"]"),
        format!("[limits]\nresume = \"{canary}\"\n"),
        format!("[limits]\nstanza = \"{canary}\"\n"),
    ] {
        let error = Conf::parse(&text, FILE).unwrap_err();
        assert!(!error.to_string().contains(canary), "{error}");
        assert!(!format!("{error:?}").contains(canary), "{error:?}");
    }
    let conf = parse(&format!("[store]\nbackend = \"postgres\"\nurl = \"postgres://rookery:{canary}@db\""));
    assert!(!format!("{:?}", conf.store()).contains(canary));
    let shown = format!("{:?}", Secret::new(canary));
    assert!(!shown.contains(canary));
    refused_example(&[("[modules.example]\ntoken = 7", ":2:9: \"token\" in [modules.example] takes a string, not 7")]);
}

#[test]
fn a_host_lays_its_options_over_the_common_ones() {
    let conf = parse(
        r#"
        [modules.example]
        count = 5
        name = "all"
        [host."a.org"]
        [host."a.org".modules.example]
        name = "a"
        [host."b.org".modules.example]
        enabled = false
        "#,
    );
    let read = |host| conf.module::<Example>(host, "example", true).unwrap();
    assert_eq!(read("a.org"), Some(Example { count: Count::new(5), name: "a".to_owned(), ..Example::default() }));
    assert_eq!(read("b.org"), None);
    assert_eq!(read("localhost"), Some(Example { count: Count::new(5), name: "all".to_owned(), ..Example::default() }));
    assert_eq!(conf.module::<Example>("a.org", "other", true).unwrap(), Some(Example::default()));
    assert_eq!(conf.module::<Example>("a.org", "other", false).unwrap(), None);
}

#[test]
fn a_section_alone_does_not_switch_a_module_on() {
    let conf = parse("[modules.example]\ncount = 5\n[host.\"a.org\".modules.example]\nenabled = true");
    assert_eq!(conf.module::<Example>("localhost", "example", false).unwrap(), None);
    assert_eq!(conf.module::<Example>("a.org", "example", false).unwrap().unwrap().count.get(), 5);
}

#[test]
fn module_errors_name_the_section_that_is_wrong() {
    refused_example(&[
        ("[modules.example]\ncont = 5", ":2:1: unknown option \"cont\" in [modules.example]; did you mean \"count\"?"),
        (
            "[modules.example]\ncount = 5\n[host.\"localhost\".modules.example]\nenabled = false\ncount = 50",
            ":5:9: \"count\" in [host.\"localhost\".modules.example] takes a whole number from 1 to 10, not 50",
        ),
        (
            "[modules.example]\nsize = \"1 TB\"\n[host.\"localhost\".modules.example]\nname = \"x\"",
            ":2:8: \"size\" in [modules.example] takes a size such as \"256 KiB\" (from 1 KiB to 4 KiB), not what stands there",
        ),
        (
            "[modules.example]\nenabled = \"yes\"",
            ":2:11: \"enabled\" in [modules.example] takes true or false, not a string",
        ),
    ]);
    let conf = parse("[modules.ping]\ninterval = 1");
    let error = conf.module::<()>("localhost", "ping", true).unwrap_err();
    assert_eq!(error.why, "unknown option \"interval\" in [modules.ping]: it has no options of its own");
    assert_eq!(error.option, "modules.ping.interval");
    parse("[modules.ping]\nenabled = true").module::<()>("localhost", "ping", false).unwrap().unwrap();
}

#[test]
fn unknown_modules_name_the_nearest() {
    let known = ["ping", "roster", "version"];
    let said = |text| parse(text).check_modules(&known).map_err(|error| error.to_string());
    assert_eq!(said("[modules.ping]\n[host.\"localhost\".modules.roster]"), Ok(()));
    assert_eq!(
        said("[modules.rooster]"),
        Err(format!("{FILE}:1:10: unknown module \"rooster\" in [modules.rooster]; did you mean \"roster\"?"))
    );
    assert_eq!(
        said("[host.\"localhost\".modules.muc]"),
        Err(format!(
            "{FILE}:1:27: unknown module \"muc\" in [host.\"localhost\".modules.muc]; the modules are ping, roster, version"
        ))
    );
}

#[test]
fn a_module_places_its_own_faults() {
    let conf = parse("[modules.example]\nname = \"x\"\n[host.\"a.org\".modules.example]\ncount = 1");
    let fault = |host, option| conf.fault(host, "example", option, "this will not do").to_string();
    assert_eq!(
        fault("a.org", "count"),
        format!("{FILE}:4:9: \"count\" in [host.\"a.org\".modules.example]: this will not do")
    );
    assert_eq!(fault("a.org", "name"), format!("{FILE}:2:8: \"name\" in [modules.example]: this will not do"));
    assert_eq!(fault("localhost", "size"), format!("{FILE}:1:10: \"size\" in [modules.example]: this will not do"));
    let other = conf.fault("localhost", "other", "x", "this will not do").to_string();
    assert_eq!(other, format!("{FILE}: \"x\" in [modules.other]: this will not do"));
}

#[test]
fn a_reload_says_what_needs_a_restart() {
    let old = parse("");
    assert!(old.needs_restart(&parse("[limits]\ndepth = 32\n[log]\nlevel = \"warn\"")).is_empty());
    let new = parse("[server]\ndata = \"/srv\"\n[log]\nformat = \"json\"\n[[listen]]\naddress = \"[::]:5222\"");
    assert_eq!(old.needs_restart(&new), ["server.data", "store", "log.format", "listen"]);
    let alone = parse("[s2s]\nenabled = false");
    assert_eq!(alone.needs_restart(&old), ["s2s.enabled"]);
    assert!(old.needs_restart(&alone).is_empty());
}

#[test]
fn sizes_and_periods_are_read_and_shown() {
    for (text, bytes, shown) in
        [("256 KiB", 262_144, "256 KiB"), ("1kb", 1000, "1000 B"), ("3 MiB", 3 << 20, "3 MiB"), ("17 B", 17, "17 B")]
    {
        let conf = parse(&format!("[limits]\noffline_size = \"{text}\""));
        assert_eq!(conf.limits().offline_size.get(), bytes);
        assert_eq!(conf.limits().offline_size.to_string(), shown);
    }
    for text in ["", "KiB", "1", "-1 B", "1 XB", "99999999999999999999 B", "18446744073709551615 GiB", "1 K\u{212a}"] {
        let conf = Conf::parse(&format!("[limits]\noffline_size = \"{text}\""), FILE);
        assert!(conf.is_err(), "{text}");
    }
    assert_eq!(Period::<0, 9>::seconds(9).to_string(), "9s");
}

/// The conf as shipped, with every option that stands behind a `#` in force.
fn shipped_in_force() -> String {
    let shipped = include_str!("../../../conf/rookery.toml");
    let is_option = |line: &str| {
        line.starts_with('[')
            || line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = shipped.lines().map(|line| line.strip_prefix('#').filter(|rest| is_option(rest)).unwrap_or(line));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_conf_as_shipped_is_the_defaults() {
    let shipped = Conf::parse(include_str!("../../../conf/rookery.toml"), FILE).unwrap();
    let in_force = parse(&shipped_in_force());
    let defaults = parse("");
    assert_eq!(shipped.hosts(), defaults.hosts());
    assert_eq!(shipped.components(), defaults.components());
    let [component] = in_force.components() else { panic!("one component: {:?}", in_force.components()) };
    let wait = parse("[component.\"a.example\"]\nsecret = \"s\"").components()[0].wait;
    assert_eq!(component.wait, wait);
    for conf in [&shipped, &in_force] {
        assert_eq!(conf.server(), defaults.server());
        assert_eq!(conf.log(), defaults.log());
        assert_eq!(conf.limits(), defaults.limits());
        assert_eq!(conf.listeners(), defaults.listeners());
        let s2s = S2sConf { authorities: None, trust_anchor: None, ..conf.s2s().clone() };
        assert_eq!(&s2s, defaults.s2s());
        assert_eq!(
            conf.remote("partner.example"),
            RemoteConf { certificates: conf.remote("partner.example").certificates, ..RemoteConf::default() }
        );
        assert_eq!(conf.certificates("partner.example"), defaults.certificates("partner.example"));
        let store = StoreConf { url: defaults.store().url.clone(), ..conf.store().clone() };
        assert_eq!(&store, defaults.store());
    }
}

#[test]
fn the_conf_as_shipped_names_every_option() {
    let text = shipped_in_force();
    for (section, ending) in [
        ("[server]", "zzzz = 1"),
        ("[log]", "zzzz = 1"),
        ("[store]", "zzzz = 1"),
        ("[limits]", "zzzz = 1"),
        ("[[listen]]", "zzzz = 1"),
        ("[s2s]", "zzzz = 1"),
        ("[s2s.domain.\"partner.example\"]", "zzzz = 1"),
        ("[component.\"irc.example.org\"]", "zzzz = 1"),
        ("[host.\"localhost\"]", "zzzz = 1"),
    ] {
        let why = Conf::parse(&format!("{section}\n{ending}"), FILE).unwrap_err().why;
        let (_, options) = why.split_once("the options are ").unwrap();
        let after = text.split_once(&format!("\n{section}\n")).unwrap().1;
        let inside = after.split("\n[").next().unwrap();
        for option in options.split(", ").filter(|option| !["modules", "domain"].contains(option)) {
            assert!(inside.lines().any(|line| line.starts_with(&format!("{option} = "))), "{option} in {section}");
        }
    }
}

#[test]
fn other_servers_and_components_have_sections() {
    let conf = parse(
        "[s2s]\ncertificates = \"dialback\"\nallow = [\"*.example.org\", \"Bücher.example\"]\ndeny = [\"bad.example.org\"]\n\
         [s2s.domain.\"Partner.example.org\"]\ncertificates = \"plain\"\naddresses = [\"192.0.2.1:5269\"]\ntls = \"direct\"\n\
         [s2s.domain.\"x.example.org\"]\ncertificates = \"refuse\"\n\
         [component.\"IRC.localhost\"]\nsecret = \"s\"\nwait = \"5 minutes\"",
    );
    assert_eq!(conf.certificates("other.example"), Certificates::Dialback);
    assert_eq!(conf.certificates("partner.example.org"), Certificates::Plain);
    assert_eq!(conf.remote("partner.example.org").addresses, ["192.0.2.1:5269".parse().unwrap()]);
    assert_eq!(conf.remote("other.example"), RemoteConf::default());
    for (domain, expected) in [
        ("a.example.org", true),
        ("a.b.example.org", true),
        ("example.org", false),
        ("xexample.org", false),
        ("bad.example.org", false),
        ("very.bad.example.org", true),
        ("x.example.org", false),
        ("bücher.example", true),
        ("other.example", false),
    ] {
        assert_eq!(conf.may_federate(domain), expected, "{domain}");
    }
    assert!(!parse("[s2s]\nenabled = false").may_federate("a.example"));
    assert!(parse("").may_federate("a.example"));
    assert_eq!(conf.component("irc.localhost").unwrap().secret.expose(), "s");
    assert_eq!(conf.component("irc.localhost").unwrap().wait.get().as_secs(), 300);
    assert!(conf.component("localhost").is_none());
    let pin = format!("[s2s.domain.\"a.example\"]\npin = [\"{}\"]", "0aF".repeat(21) + "1");
    assert_eq!(parse(&pin).remote("a.example").pin[0].0[..3], [0x0a, 0xf0, 0xaf]);
}

#[test]
fn what_is_wrong_with_other_servers_is_said() {
    for (text, expected) in [
        ("[s2s]\ncertificates = \"plain\"", "\"certificates\" in [s2s] takes \"valid\" or \"dialback\""),
        ("[s2s]\nallow = [\"a b\"]", "a domain such as \"example.org\""),
        ("[s2s]\nwait = \"1 second\"", "from 5s to"),
        ("[s2s.domain.\"a@b\"]", "this is no domain"),
        ("[s2s.domain.\"a.example\"]\n[s2s.domain.\"A.example\"]", "the same domain as another section's"),
        ("[s2s.domain.\"a.example\"]\ntls = \"plain\"", "takes \"starttls\" or \"direct\""),
        ("[s2s.domain.\"a.example\"]\npin = [\"ab\"]", "64 hexadecimal digits"),
        ("[s2s.domain.\"a.example\"]\ncertificate = \"valid\"", "did you mean \"certificates\"?"),
        ("[component.\"a.example\"]", "the option \"secret\" is missing"),
        ("[component.localhost]\nsecret = \"s\"", "this domain is one of the hosts"),
        ("[[listen]]\nkind = \"s2s\"\naddress = \"127.0.0.1:1\"\ntls = \"plain\"", "other servers connect with TLS"),
        ("[[listen]]\nkind = \"component\"\naddress = \"[::]:1\"", "components send their handshake in the clear"),
        ("[[listen]]\nkind = \"component\"\naddress = \"[::1]:1\"\ntls = \"starttls\"", "components know no STARTTLS"),
        (
            "[[listen]]\nkind = \"s2s\"\naddress = \"[::1]:1\"\nallow_plain_passwords = true",
            "of the kind \"c2s\" alone",
        ),
    ] {
        let why = Conf::parse(text, FILE).unwrap_err().why;
        assert!(why.contains(expected), "{text}: {why}");
    }
    let listeners = parse("[[listen]]\nkind = \"component\"\naddress = \"127.0.0.1:5347\"");
    assert_eq!(listeners.listeners()[0].tls, TlsMode::Plain);
}
