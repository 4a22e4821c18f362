//! Stream headers (RFC 6120, section 4.7): writing ours, judging the peer's.

use crate::{
    error::{StreamCondition, StreamError},
    escape,
    header::StreamHeader,
    jid::{BareJid, Jid},
    ns,
};

use super::config::Kind;

/// A stream header of ours.
pub(super) struct Header<'a> {
    pub(super) kind: Kind,
    pub(super) to: Option<&'a str>,
    pub(super) from: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    /// The peer speaks no XMPP 1.0, and neither do we (RFC 6120, section 4.7.5).
    pub(super) old: bool,
}

impl Header<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<?xml version='1.0'?><stream:stream xmlns='");
        out.extend_from_slice(self.kind.content_ns().as_bytes());
        out.extend_from_slice(b"' xmlns:stream='http://etherx.jabber.org/streams'");
        // COMPAT: servers look for the dialback namespace in the header (XEP-0220, section 2.1.1).
        if self.kind == Kind::S2s {
            out.extend_from_slice(b" xmlns:db='");
            out.extend_from_slice(ns::DIALBACK.as_bytes());
            out.push(b'\'');
        }
        for (name, value) in [("id", self.id), ("from", self.from), ("to", self.to)] {
            if let Some(value) = value {
                escape::attr_pair(out, name, value);
            }
        }
        // Components know no features, so they are not told that there may be any (XEP-0114 §3).
        out.extend_from_slice(match self.kind {
            Kind::Component => b">",
            Kind::S2s if self.old => b" xml:lang='en'>",
            Kind::C2s | Kind::S2s => b" version='1.0' xml:lang='en'>",
        });
    }
}

/// The peer's header, once it has passed every check that needs no knowledge of hosts.
pub(super) struct Checked {
    pub(super) to: BareJid,
    pub(super) from: Option<Jid>,
    /// See [`check_response`].
    pub(super) old: bool,
}

/// Judges an initial header (RFC 6120, sections 4.7 and 4.8). The order is that of what can be
/// said about it: its language first, then whether it is XMPP 1.0, then whom it addresses.
pub(super) fn check_initial(header: &StreamHeader, kind: Kind) -> Result<Checked, StreamError> {
    let old = check_response(header, kind)?;
    let to = header.to.as_deref().filter(|to| !to.is_empty()).ok_or_else(|| {
        StreamError::new(StreamCondition::ImproperAddressing).with_text("The stream header has no 'to'.")
    })?;
    let to = BareJid::new(to).ok().filter(|to| to.localpart().is_none()).ok_or(StreamCondition::HostUnknown)?;
    let from = match header.from.as_deref().filter(|from| !from.is_empty()) {
        Some(from) => Some(Jid::new(from).map_err(|_| StreamCondition::ImproperAddressing)?),
        None => None,
    };
    if kind == Kind::S2s && from.as_ref().is_some_and(|from| !from.is_domain()) {
        return Err(StreamCondition::ImproperAddressing.into());
    }
    Ok(Checked { to, from, old })
}

/// Judges what a response header must have in common with an initial one. Says whether it is that of a server from before
/// XMPP 1.0, which has no version; whether that will do is for others to say.
pub(super) fn check_response(header: &StreamHeader, kind: Kind) -> Result<bool, StreamError> {
    match header.namespaces.default_ns() {
        declared if declared == kind.content_ns() => {}
        // By its namespace a component says which protocol it speaks.
        _ if kind == Kind::Component => return Err(StreamCondition::InvalidNamespace.into()),
        ns::CLIENT | ns::SERVER | ns::COMPONENT => {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        // Stanzas may declare their namespace one by one (RFC 6120, section 4.8.3).
        _ => {}
    }
    if kind == Kind::Component {
        return Ok(false);
    }
    if kind == Kind::S2s && header.version.is_none() {
        return Ok(true);
    }
    let major = header.version.as_deref().and_then(|version| version.split_once('.'));
    match major.and_then(|(major, minor)| minor.parse::<u32>().ok().and(major.parse::<u32>().ok())) {
        Some(1..) => Ok(false),
        _ => Err(StreamCondition::UnsupportedVersion.into()),
    }
}

/// A stream id: 144 random bits (RFC 6120, section 4.7.3).
pub(super) fn random_id() -> Option<Box<str>> {
    crate::sasl::random_nonce().map(String::into_boxed_str)
}
