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
    let again = if failure.definite { "not tried again by itself" } else { "tried again" };
    format!("{what} at {}: {} ({}; {again})", failure.at, one_line(&failure.text), failure.condition)
}
