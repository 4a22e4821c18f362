//! What the running server has to do with others: `rookery s2s list`, `show` and `close` in words.

use rookery_core::control::s2s::S2sReply;
use rookery_core::remote::{FailureStatus, LinkStatus, RemoteStatus, StreamStatus};

use super::words::one_line;
use crate::cli::say;

pub(super) fn print(reply: &S2sReply) {
    match reply {
        S2sReply::Servers { servers } => servers.iter().for_each(|server| say(&line(server))),
        S2sReply::Server(server) => lines(server).iter().for_each(|line| say(line)),
        S2sReply::Closed { domain, closed } => {
            say(&format!("{domain}: {}", counted(*closed, "stream closed", "streams closed")))
        }
    }
}

fn counted(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// A server on one line.
fn line(server: &RemoteStatus) -> String {
    let of = |direction| server.streams.iter().filter(|stream| stream.direction == direction).count();
    let stanzas: usize = server.links.iter().map(|link| link.stanzas).sum();
    let bytes: u64 = server.links.iter().map(|link| link.bytes).sum();
    let mut line = format!("{}  {} out, {} in", server.domain, of("out"), of("in"));
    if stanzas > 0 {
        let oldest = server.links.iter().filter_map(|link| link.oldest).max();
        line += &format!("  {}", waiting(stanzas, bytes, oldest));
    }
    let last = server.failure.iter().chain(server.links.iter().filter_map(|link| link.failure.as_ref()));
    // Times of one form, so the later one is the greater.
    if let Some(failure) = last.max_by(|a, b| a.at.cmp(&b.at)) {
        line += &format!("  failed: {}", one_line(&failure.text));
    }
    line
}

fn waiting(stanzas: usize, bytes: u64, oldest: Option<u64>) -> String {
    let oldest = oldest.map_or_else(String::new, |seconds| format!(", the oldest for {seconds} s"));
    format!("{} ({bytes} bytes{oldest})", counted(stanzas, "stanza waits", "stanzas wait"))
}

/// All of a server.
fn lines(server: &RemoteStatus) -> Vec<String> {
    let mut lines = vec![server.domain.clone()];
    server.streams.iter().for_each(|stream| stream_lines(stream, &mut lines));
    server.links.iter().for_each(|link| link_lines(link, &mut lines));
    if let Some(failure) = &server.failure {
        lines.push(failed("last failure", failure));
    }
    if let Some(seconds) = server.next {
        lines.push(format!("next attempt in {seconds} s"));
    }
    lines
}

fn stream_lines(stream: &StreamStatus, lines: &mut Vec<String>) {
    let StreamStatus { id, direction, address, since, silent, .. } = stream;
    lines.push(format!("stream {id}, {direction}, {address}, since {since}, silent for {silent} s"));
    let tls = stream.tls.as_deref().unwrap_or("no encryption");
    lines.push(format!("  {}", one_line(tls)));
    if let Some(certificate) = &stream.certificate {
        lines.push(format!("  their certificate {}", one_line(certificate)));
    }
    for pair in &stream.pairs {
        lines.push(format!("  {} to {}, by {}", pair.from, pair.to, pair.by));
    }
    let traits = [(stream.bidi, "both ways"), (stream.acks, "acknowledged"), (stream.resumable, "can be resumed")];
    let traits: Vec<&str> = traits.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
    if !traits.is_empty() {
        lines.push(format!("  {}", traits.join(", ")));
    }
}

fn link_lines(link: &LinkStatus, lines: &mut Vec<String>) {
    let carried = if link.carried { "a stream carries it" } else { "no stream carries it" };
    let waits =
        if link.stanzas == 0 { "nothing waits".to_owned() } else { waiting(link.stanzas, link.bytes, link.oldest) };
    lines.push(format!("from {}: {waits}; {carried}", link.local));
    if let Some(failure) = &link.failure {
        lines.push(failed("  last failure", failure));
    }
}

fn failed(what: &str, failure: &FailureStatus) -> String {
    let again = if failure.definite { ", not tried again by itself" } else { "" };
    format!("{what} at {}: {} ({}{again})", failure.at, one_line(&failure.text), failure.condition)
}

#[cfg(test)]
mod tests {
    use rookery_core::remote::PairStatus;

    use super::*;

    fn server() -> RemoteStatus {
        let failure = |at: &str, text: &str| FailureStatus {
            text: text.to_owned(),
            condition: "remote-server-timeout".to_owned(),
            definite: false,
            at: at.to_owned(),
        };
        let stream = |id, direction: &str| StreamStatus {
            id,
            direction: direction.to_owned(),
            address: "192.0.2.7:5269".to_owned(),
            since: "2026-11-21T18:00:00Z".to_owned(),
            silent: 3,
            tls: Some("TLSv1_3".to_owned()),
            certificate: Some("is valid".to_owned()),
            pairs: vec![PairStatus {
                from: "example.org".to_owned(),
                to: "partner.example".to_owned(),
                by: "certificate".to_owned(),
            }],
            bidi: true,
            acks: true,
            resumable: false,
        };
        let link = LinkStatus {
            local: "example.org".to_owned(),
            carried: false,
            stanzas: 1,
            bytes: 200,
            oldest: Some(12),
            failure: Some(failure("2026-11-21T18:00:05Z", "refused\u{1b}")),
        };
        RemoteStatus {
            streams: vec![stream(7, "in")],
            links: vec![link],
            failure: Some(failure("2026-11-21T18:00:01Z", "earlier")),
            next: Some(40),
            ..RemoteStatus::new("partner.example")
        }
    }

    #[test]
    fn a_server_on_one_line() {
        let line_of = line(&server());
        assert_eq!(
            line_of,
            "partner.example  0 out, 1 in  1 stanza waits (200 bytes, the oldest for 12 s)  failed: refused "
        );
        assert_eq!(line(&RemoteStatus::new("a.example")), "a.example  0 out, 0 in");
    }

    #[test]
    fn all_of_a_server() {
        let expected = [
            "partner.example",
            "stream 7, in, 192.0.2.7:5269, since 2026-11-21T18:00:00Z, silent for 3 s",
            "  TLSv1_3",
            "  their certificate is valid",
            "  example.org to partner.example, by certificate",
            "  both ways, acknowledged",
            "from example.org: 1 stanza waits (200 bytes, the oldest for 12 s); no stream carries it",
            "  last failure at 2026-11-21T18:00:05Z: refused  (remote-server-timeout)",
            "last failure at 2026-11-21T18:00:01Z: earlier (remote-server-timeout)",
            "next attempt in 40 s",
        ];
        assert_eq!(lines(&server()), expected);
    }
}
