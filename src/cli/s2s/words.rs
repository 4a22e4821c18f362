//! What each fault is called, whose it is and what ends it. `docs/troubleshooting-federation.md` has the same words with more
//! room; a test below compares.

use std::time::SystemTime;

use rookery_net::dns::{LookupError, TlsMode};
use rookery_net::s2s::check::{At, Denial, Problem, Speech, Stage, Stop};
use rookery_xmpp::error::{StreamCondition, StreamError};
use serde::Serialize;

/// A fault in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Words {
    /// For programs, and to find it in the page.
    pub(super) code: &'static str,
    pub(super) whose: Whose,
    /// What was seen.
    pub(super) text: String,
    /// What is to be done.
    pub(super) remedy: String,
}

/// Who can end a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Whose {
    Ours,
    Theirs,
    /// Whoever runs what is between the two servers; or one of the two, and it cannot be seen which.
    Network,
}

/// A second in UTC, as people write it.
pub(super) fn second(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

/// A host and port, and how TLS begins there.
pub(super) fn place(at: &At) -> String {
    let mode = match at.mode {
        TlsMode::Starttls => "STARTTLS",
        TlsMode::Direct => "direct TLS",
    };
    if at.host.is_empty() || at.address.ip().to_string() == at.host {
        format!("{} ({mode})", at.address)
    } else {
        format!("{} ({}, {mode})", at.address, at.host)
    }
}

/// The words for a fault that was found when `remote` was looked at from `local`.
pub(super) fn words(problem: &Problem, local: &str, remote: &str) -> Words {
    let mut words = match problem {
        Problem::Off => Words {
            code: "federation-off",
            whose: Whose::Ours,
            text: "this server talks to no other one: [s2s] in its conf says enabled = false".to_owned(),
            remedy: "Say enabled = true in [s2s], or take the line out, and restart the server.".to_owned(),
        },
        Problem::NoPort => Words {
            code: "no-port",
            whose: Whose::Ours,
            text: "the conf has no port for other servers: none of its [[listen]] sections says kind = \"s2s\"".to_owned(),
            remedy: "Add a [[listen]] section with kind = \"s2s\", address = \"[::]:5269\" and tls = \"starttls\", and restart \
                     the server."
                .to_owned(),
        },
        Problem::Denied(denial) => denied(*denial, remote),
        Problem::Lookup(error) => lookup(error, remote),
        Problem::OnlyIpv6 => Words {
            code: "only-ipv6",
            whose: Whose::Network,
            text: format!("{remote} has IPv6 addresses only, and none of them is reached from here"),
            remedy: format!(
                "If no host is reached by IPv6, give this machine IPv6. If others are, the admins of {remote} look at their \
                 firewall and their AAAA records, or add an A record."
            ),
        },
        Problem::Stopped { at, stop } => stopped(&place(at), at, stop, remote),
        Problem::Certificate { at, faults } => super::certificates::refused(&place(at), faults, remote),
        Problem::NoProof { at } => Words {
            code: "no-proof",
            whose: Whose::Theirs,
            text: format!(
                "{} offers neither SASL EXTERNAL nor dialback: there is no way to prove to it who we are",
                place(at)
            ),
            remedy: format!(
                "The admins of {remote} switch dialback on, or have their server ask for our certificate and accept its issuer."
            ),
        },
        Problem::OwnCertificate { faults } => super::certificates::own(faults, local),
        Problem::Clock { begins, now } => Words {
            code: "clock",
            whose: Whose::Ours,
            text: format!(
                "the clock of this machine is behind: it says {}, and our own certificate begins on {}",
                second(*now),
                second(*begins)
            ),
            remedy: "Set the clock, and have it kept right (timedatectl set-ntp true).".to_owned(),
        },
        Problem::OtherServer { at } => Words {
            code: "other-server",
            whose: Whose::Ours,
            text: format!("{} shows another certificate than the one that this server has for {remote}", place(at)),
            remedy: format!(
                "If another machine has that address, correct the DNS records of {remote}, or the forwarding of ports. If it \
                 is this one, another program or an older server has the port: look with ss -ltnp."
            ),
        },
    };
    if local == remote && words.whose == Whose::Theirs {
        words.whose = Whose::Ours;
    }
    words
}

fn denied(denial: Denial, remote: &str) -> Words {
    let (why, remedy) = match denial {
        Denial::Denied => (
            "deny in [s2s] has it".to_owned(),
            "If it is to be talked to, take it out of deny in [s2s] and reload the server.".to_owned(),
        ),
        Denial::NotAllowed => (
            "allow in [s2s] does not have it".to_owned(),
            "If it is to be talked to, add it to allow in [s2s] and reload the server.".to_owned(),
        ),
        Denial::Section => (
            format!("[s2s.domain.\"{remote}\"] says certificates = \"refuse\""),
            "If it is to be talked to, say \"valid\" there, or take the line out, and reload the server.".to_owned(),
        ),
    };
    let text = format!("the conf keeps this server from {remote}: {why}");
    Words { code: "refused-by-conf", whose: Whose::Ours, text, remedy }
}

fn lookup(error: &LookupError, remote: &str) -> Words {
    match error {
        LookupError::NoSuchDomain(text) => Words {
            code: "dns-no-server",
            whose: Whose::Theirs,
            text: format!("DNS has no server for {remote}: {text}"),
            remedy: format!(
                "Is the domain spelt right? If so, its admins publish an SRV record _xmpp-server._tcp.{remote} that names a \
                 host with an A or AAAA record, or give {remote} itself such a record."
            ),
        },
        LookupError::NotOffered => Words {
            code: "dns-not-offered",
            whose: Whose::Theirs,
            text: format!("{remote} does not federate: its SRV record has the target \".\""),
            remedy: format!("That is what the admins of {remote} want. If it is not, they correct the record."),
        },
        LookupError::Bogus(text) => Words {
            code: "dns-bogus",
            whose: Whose::Theirs,
            text: format!("what DNS says of {remote} is not to be believed: {text}"),
            remedy: format!(
                "The admins of {remote} sign their zone anew: the signatures are wrong or too old. If every signed domain \
                 fails, it is this machine's clock, or a resolver on the way that changes answers."
            ),
        },
        LookupError::Failing(text) => Words {
            code: "dns-failing",
            whose: Whose::Network,
            text: format!("DNS gives no answer for {remote}: {text}"),
            remedy: format!(
                "Try again in some minutes. If other domains fail, too, it is the resolver of this machine \
                 (/etc/resolv.conf, or nameservers in [s2s]); if only this one, the nameservers of {remote}."
            ),
        },
    }
}

/// What was due, as part of a sentence.
const fn due(stage: Stage) -> &'static str {
    match stage {
        Stage::Header => "its stream header is due",
        Stage::Features => "its stream features are due",
        Stage::Proceed => "its answer to STARTTLS is due",
        Stage::SecretHeader => "its stream header inside TLS is due",
        Stage::SecretFeatures => "its stream features inside TLS are due",
    }
}

fn stopped(place: &str, at: &At, stop: &Stop, remote: &str) -> Words {
    let port = at.address.port();
    let theirs = |code, text: String, remedy: String| Words { code, whose: Whose::Theirs, text, remedy };
    let network = |code, text: String, remedy: String| Words { code, whose: Whose::Network, text, remedy };
    match stop {
        Stop::Refused => theirs(
            "port-closed",
            format!("{place} refuses connections: nothing listens on this port"),
            format!("The admins of {remote} start their server, have it listen there, or correct the SRV record."),
        ),
        Stop::NoAnswer => network(
            "no-answer",
            format!("{place} does not answer: something drops the packets"),
            format!(
                "A firewall: that of {remote} has to let everybody in to port {port}. If no domain at all is reached, it is \
                 that of this machine or its network, which has to let connections out to port {port}."
            ),
        ),
        Stop::NoRoute => network(
            "no-route",
            format!("there is no way from this machine to {place}"),
            "If it is an IPv6 address, this machine may have no IPv6, and other addresses are used. Otherwise look at the \
             routes of this machine (ip route)."
                .to_owned(),
        ),
        Stop::NotConnected(why) => network(
            "not-connected",
            format!("the connection to {place} fails: {why}"),
            "What the system says is the reason; it is that of this machine.".to_owned(),
        ),
        Stop::Silent(Stage::Header) => theirs(
            "silent",
            format!("{place} takes the connection and says nothing"),
            format!(
                "The admins of {remote} look whether their server hangs, and whether it is an XMPP server for servers that \
                 has this port."
            ),
        ),
        Stop::Silent(stage) | Stop::Stalled(stage) => theirs(
            "stalled",
            format!("{place} falls silent where {}", due(*stage)),
            format!(
                "The admins of {remote} look into the log of their server. If that has sent an answer, large packets are \
                 lost on the way: see tls-stalled."
            ),
        ),
        Stop::Ended(stage) => theirs(
            "hung-up",
            format!("{place} hangs up where {}", due(*stage)),
            format!("The admins of {remote} look into the log of their server, which may block this machine's address."),
        ),
        Stop::Broken(stage, why) => network(
            "broken",
            format!("the connection to {place} breaks where {}: {why}", due(*stage)),
            format!("Try again. If it stays so, the admins of {remote} look into the log of their server."),
        ),
        Stop::NotXmpp(Speech::Http) | Stop::TlsNotSpoken(Speech::Http) => theirs(
            "web-server",
            format!("a web server answers at {place}"),
            format!("The admins of {remote} give the port to their XMPP server, or correct the SRV record."),
        ),
        Stop::NotXmpp(Speech::Tls) => theirs(
            "tls-too-soon",
            format!("{place} speaks TLS from the first byte, and DNS says that it begins by STARTTLS"),
            format!(
                "The admins of {remote} announce this port by _xmpps-server._tcp.{remote}, not by \
                 _xmpp-server._tcp.{remote}."
            ),
        ),
        Stop::NotXmpp(Speech::Xml | Speech::Other) => theirs(
            "not-xmpp",
            format!("what answers at {place} does not speak XMPP"),
            format!("The admins of {remote} give the port to their XMPP server, or correct the SRV record."),
        ),
        Stop::Excessive(stage) => theirs(
            "excessive",
            format!("{place} sends more than any server needs where {}", due(*stage)),
            format!("The admins of {remote} look at what answers there."),
        ),
        Stop::StreamError(error) => stream_error(place, error, remote),
        Stop::OldStream => theirs(
            "old-stream",
            format!("{place} speaks the XMPP of before 2004, which has no encryption"),
            format!(
                "The admins of {remote} renew their server. Until then, certificates = \"plain\" in \
                 [s2s.domain.\"{remote}\"] lets messages go there for everybody on the way to read."
            ),
        ),
        Stop::NoStarttls => theirs(
            "no-starttls",
            format!("{place} offers no encryption (STARTTLS)"),
            format!(
                "The admins of {remote} give their server a certificate and switch TLS on for servers. Until then, \
                 certificates = \"plain\" in [s2s.domain.\"{remote}\"] lets messages go there for everybody on the way to read."
            ),
        ),
        Stop::StarttlsRefused => theirs(
            "starttls-refused",
            format!("{place} offers encryption (STARTTLS) and then refuses it"),
            format!("The admins of {remote} look whether their server can read its certificate and its key."),
        ),
        Stop::TlsSilent => theirs(
            "tls-silent",
            format!("{place} says nothing in the TLS handshake"),
            format!(
                "The admins of {remote} look whether their server speaks TLS there: a port that SRV announces as \
                 _xmpps-server has to, from the first byte."
            ),
        ),
        Stop::HelloSwallowed => network(
            "tls-hello-lost",
            format!("{place} does not answer to the TLS handshake unless its first message fits into one packet"),
            format!(
                "A firewall or load balancer in front of {remote} loses handshakes with post-quantum key exchange; its \
                 operators update it."
            ),
        ),
        Stop::TlsStalled { bytes } => network(
            "tls-stalled",
            format!("the TLS handshake with {place} stops after {bytes} bytes: large packets are lost on the way"),
            format!(
                "Somewhere packets of full size vanish (MTU), and ICMP with them. If other domains work, it is near \
                 {remote}; if none does, lower the MTU of this machine to 1400 and let ICMP in."
            ),
        ),
        Stop::TlsEnded => theirs(
            "tls-hung-up",
            format!("{place} hangs up in the TLS handshake"),
            format!(
                "The admins of {remote} look into the log of their server: it may have no certificate for {remote}, or no \
                 TLS on this port."
            ),
        ),
        Stop::TlsOld => theirs(
            "tls-too-old",
            format!("{place} speaks neither TLS 1.2 nor TLS 1.3"),
            format!("The admins of {remote} switch TLS 1.2 on, or renew their server: older versions are unsafe."),
        ),
        Stop::TlsNotSpoken(speech) => theirs(
            "tls-not-spoken",
            match speech {
                Speech::Xml => format!("{place} speaks plain XMPP where TLS is due"),
                _ => format!("{place} does not speak TLS"),
            },
            format!(
                "The admins of {remote} announce a port by _xmpps-server._tcp.{remote} only if it speaks TLS from the first \
                 byte; one with STARTTLS goes by _xmpp-server._tcp.{remote}."
            ),
        ),
        Stop::TlsAlert(alert) => tls_alert(place, alert, remote),
        Stop::TlsFailed(why) => theirs(
            "tls-failed",
            format!("the TLS handshake with {place} fails: {why}"),
            format!("The admins of {remote} look into the log of their server."),
        ),
    }
}

fn stream_error(place: &str, error: &StreamError, remote: &str) -> Words {
    let (code, text, remedy) = match error.condition {
        StreamCondition::HostUnknown | StreamCondition::HostGone => (
            "host-unknown",
            format!("the server at {place} does not serve {remote} ({})", error.condition.name()),
            format!(
                "DNS leads to a server of others: the admins of {remote} correct the records, or add the domain to their \
                 server's conf."
            ),
        ),
        StreamCondition::InvalidNamespace => (
            "client-port",
            format!("{place} is a port for clients, not for servers (invalid-namespace)"),
            format!(
                "The admins of {remote} name the port for servers in the SRV record, mostly 5269; 5222 and 5223 are for \
                 clients."
            ),
        ),
        StreamCondition::SeeOtherHost => (
            "see-other-host",
            format!("{place} sends us on to another host, where nothing vouches for {remote}"),
            format!("The admins of {remote} name that host in SRV records instead."),
        ),
        _ => (
            "stream-error",
            format!("{place} ends the stream: {}", one_line(&error.to_string())),
            format!("The admins of {remote} look into the log of their server, which may have us on a list."),
        ),
    };
    Words { code, whose: Whose::Theirs, text, remedy }
}

fn tls_alert(place: &str, alert: &str, remote: &str) -> Words {
    match alert {
        "bad_certificate"
        | "unsupported_certificate"
        | "certificate_revoked"
        | "certificate_expired"
        | "certificate_unknown"
        | "unknown_ca"
        | "certificate_required" => Words {
            code: "tls-our-certificate",
            whose: Whose::Ours,
            text: format!("{place} does not accept our certificate ({alert})"),
            remedy: "Give this server a certificate of an authority that others know; look at the line about our own \
                     certificate above."
                .to_owned(),
        },
        "no_application_protocol" => Words {
            code: "client-port",
            whose: Whose::Theirs,
            text: format!("{place} speaks TLS, but not with servers (no_application_protocol)"),
            remedy: format!(
                "The admins of {remote} name the port for servers in the SRV record, mostly 5269; 5222 and 5223 are for \
                 clients."
            ),
        },
        "unrecognized_name" => Words {
            code: "tls-name-unknown",
            whose: Whose::Theirs,
            text: format!("{place} has no certificate for {remote} (unrecognized_name)"),
            remedy: format!(
                "The admins of {remote} give their server a certificate for {remote}, or correct the records."
            ),
        },
        _ => Words {
            code: "tls-refused",
            whose: Whose::Theirs,
            text: format!("{place} refuses the TLS handshake ({alert})"),
            remedy: format!("The admins of {remote} look into the log of their server, and which ciphers it allows."),
        },
    }
}

/// What others have said, on one line and without anything that a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests;
