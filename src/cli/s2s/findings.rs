//! What a check has seen, step by step, a line each.

use std::time::SystemTime;

use rookery_core::config::Certificates;
use rookery_net::dns::{Finding as Found, Source, SrvRecord, Target, TlsMode};
use rookery_net::s2s::check::{Attempt, Greeting, Lookup, Problem, Report, Starttls, Verdict};
use rookery_net::s2s::identity::Verdict as Judgement;
use serde::Serialize;

use super::words::{one_line, place, second, words};

/// A step.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// What was looked at: `conf`, `own`, `dns`, `connect`, `stream`, `tls`, `certificate`, `features`.
    pub(super) about: &'static str,
    pub(super) level: Level,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Error,
}

/// All steps, in their order.
pub(super) fn findings(report: &Report, verdict: &Verdict) -> Vec<Finding> {
    let mut findings = Findings { report, list: Vec::new() };
    findings.conf();
    findings.own();
    findings.dns();
    for attempt in &report.attempts {
        findings.attempt(attempt, verdict);
    }
    findings.list
}

struct Findings<'a> {
    report: &'a Report,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, about: &'static str, level: Level, text: impl Into<String>) {
        self.list.push(Finding { about, level, text: text.into() });
    }

    fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(about, Level::Ok, text);
    }

    fn conf(&mut self) {
        let Report { local, remote, .. } = self.report;
        if !self.report.enabled || self.report.denial.is_some() {
            return self.add("conf", Level::Error, format!("the conf keeps this server from {remote}"));
        }
        if self.report.is_own() {
            return self.ok("conf", format!("{remote} is a domain of this server, looked at as others look at it"));
        }
        let asks = match self.report.certificates {
            _ if self.report.has_pins => "has to show one of the keys that the conf names",
            Certificates::Valid => "has to show a valid certificate",
            Certificates::Dialback => "may show any certificate, and dialback decides",
            Certificates::Plain => "need not encrypt, and dialback decides",
            Certificates::Refuse => "is refused",
        };
        self.ok("conf", format!("{local} may talk to {remote}, which {asks}"));
    }

    fn own(&mut self) {
        let local = &self.report.local;
        if let Some(trouble) = &self.report.own_trouble {
            return self.add("own", Level::Warning, format!("our own certificate cannot be looked at: {trouble}"));
        }
        match &self.report.own {
            None => {
                self.add("own", Level::Warning, format!("{local} has no certificate yet: others get dialback alone"))
            }
            Some(own) => match &own.judgement {
                Judgement::Valid(_) => {
                    self.ok(
                        "own",
                        format!("our certificate for {local} is one that others accept, until {}", second(own.ends)),
                    );
                }
                Judgement::Invalid(faults) => {
                    let problem = Problem::OwnCertificate { faults: faults.clone() };
                    let text = words(&problem, local, &self.report.remote).text;
                    self.add("own", Level::Warning, text);
                }
            },
        }
    }

    fn dns(&mut self) {
        match &self.report.lookup {
            Lookup::Skipped => {}
            Lookup::Failed(error) => self.add("dns", Level::Error, one_line(&error.to_string())),
            Lookup::Found(found) => self.found(found),
        }
    }

    fn found(&mut self, found: &Found) {
        let remote = self.report.remote.as_str();
        match found.source {
            Source::Conf => self.ok("dns", "not asked: the conf says where the server is"),
            Source::Literal => self.ok("dns", "not asked: the domain is an address"),
            Source::Domain => self.ok("dns", format!("no SRV records; so it is {remote} itself, port 5269")),
            Source::Srv => {
                for mode in [TlsMode::Direct, TlsMode::Starttls] {
                    let service = match mode {
                        TlsMode::Direct => "_xmpps-server",
                        TlsMode::Starttls => "_xmpp-server",
                    };
                    let records: Vec<&SrvRecord> = found.records.iter().filter(|record| record.tls == mode).collect();
                    if records.is_empty() {
                        self.ok("dns", format!("{service}._tcp.{remote}: no record"));
                    }
                    for SrvRecord { priority, weight, port, host, .. } in records {
                        let host = if host.is_empty() { "." } else { host };
                        let line =
                            format!("{service}._tcp.{remote}: SRV {priority} {weight} {port} {}", one_line(host));
                        self.ok("dns", line);
                    }
                }
            }
        }
        for note in &found.notes {
            self.add("dns", Level::Warning, one_line(note));
        }
        found.targets.iter().for_each(|target| self.target(target));
    }

    fn target(&mut self, target: &Target) {
        let listed =
            |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let host = one_line(&target.host);
        if !target.addresses.is_empty() {
            let signed = if target.secure { ", signed (DNSSEC)" } else { "" };
            self.ok("dns", format!("{host}: {}{signed}", listed(&target.addresses)));
        }
        if !target.refused.is_empty() {
            let text =
                format!("{host}: {}, of private networks, which the conf keeps us from", listed(&target.refused));
            self.add("dns", Level::Warning, text);
        }
        for record in &target.tlsa {
            self.ok("dns", format!("_{}._tcp.{host}: TLSA {record}", target.port));
        }
        for note in &target.notes {
            self.add("dns", Level::Warning, one_line(note));
        }
    }

    fn attempt(&mut self, attempt: &Attempt, verdict: &Verdict) {
        let place = place(&self.report.at(attempt));
        if let Some(took) = attempt.connected {
            self.ok("connect", format!("{place}: connected after {} ms", took.as_millis()));
        }
        if let Some(greeting) = &attempt.plain {
            self.greeting("stream", &place, greeting);
        }
        if let Some(secured) = &attempt.secured {
            let asked =
                if secured.asked_for_ours { "asks for our certificate" } else { "does not ask for our certificate" };
            self.ok("tls", format!("{place}: {} after {} ms; {asked}", secured.version, secured.took.as_millis()));
        }
        if let Some(greeting) = &attempt.secret {
            self.greeting("features", &place, greeting);
        }
        match &attempt.judgement {
            Some(valid @ Judgement::Valid(_)) => {
                let dates = attempt.secured.as_ref().and_then(|secured| secured.dates);
                let dates = dates.map_or_else(String::new, |(begins, ends)| self.dates(begins, ends));
                self.ok("certificate", format!("{place}: the certificate {valid}{dates}"));
            }
            Some(Judgement::Invalid(faults)) => {
                let level = if self.report.certificates == Certificates::Valid { Level::Error } else { Level::Warning };
                let problem = Problem::Certificate { at: self.report.at(attempt), faults: faults.clone() };
                self.problem("certificate", level, &problem);
            }
            None => {}
        }
        if let Some(stop) = &attempt.stop {
            let level = if verdict.way.is_some() { Level::Warning } else { Level::Error };
            let about = if attempt.connected.is_none() {
                "connect"
            } else if attempt.secured.is_some() {
                "features"
            } else {
                "stream"
            };
            let problem = Problem::Stopped { at: self.report.at(attempt), stop: stop.clone() };
            self.problem(about, level, &problem);
        }
    }

    fn problem(&mut self, about: &'static str, level: Level, problem: &Problem) {
        self.add(about, level, words(problem, &self.report.local, &self.report.remote).text);
    }

    fn dates(&self, begins: SystemTime, ends: SystemTime) -> String {
        format!(", from {} to {}; our clock says {}", second(begins), second(ends), second(self.report.now))
    }

    fn greeting(&mut self, about: &'static str, place: &str, greeting: &Greeting) {
        let Some(version) = &greeting.version else { return };
        let mut offers = Vec::new();
        match greeting.starttls {
            Starttls::None => {}
            Starttls::Offered => offers.push("STARTTLS"),
            Starttls::Required => offers.push("STARTTLS (required)"),
        }
        for (has, name) in [
            (greeting.has_external, "SASL EXTERNAL"),
            (greeting.has_dialback, "dialback"),
            (greeting.has_bidi, "bidirectional streams"),
            (greeting.has_resumption, "stream management"),
        ] {
            if has {
                offers.push(name);
            }
        }
        let offers =
            if offers.is_empty() { "offers nothing".to_owned() } else { format!("offers {}", offers.join(", ")) };
        self.ok(about, format!("{place}: XMPP {}, {offers}", one_line(version)));
        if let Some(from) = greeting.from.as_deref().filter(|from| *from != self.report.remote) {
            let text = format!("{place}: it calls itself {}, not {}", one_line(from), self.report.remote);
            self.add(about, Level::Warning, text);
        }
    }
}
