//! A session at rest as bytes: a version, and then records with their lengths in front. Each is an element, some with
//! stanzas behind it, as they are written on a stream.
//!
//! Stanzas that nobody stores for later are among them, those marked `no-store` (XEP-0334) too: this is no archive, but a
//! queue on its way to one client, and gone from the database before it goes on.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rookery_xmpp::ack;
use rookery_xmpp::element::Element;
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::Jid;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::stanza::Stanza;

use crate::account::Account;
use crate::session::{Outgoing, Rest, StreamInfo};
use crate::store::TailEntry;
use crate::tail::{Kept, Standing, Tail};

/// The first byte; another one says that another release wrote what follows.
const VERSION: u8 = 1;

/// What we have written ourselves was within the limits when it came in, and may have grown since.
pub(super) const LIMITS: Limits = Limits {
    element_bytes: u32::MAX,
    elements: u32::MAX,
    depth: u32::MAX,
    attr_value_bytes: u32::MAX,
    ..Limits::s2s()
};

/// A session and what modules keep in it, by their names.
pub(super) struct Record {
    pub(super) rest: Rest,
    pub(super) modules: Vec<(String, Element)>,
}

impl Record {
    /// As bytes. What is not on disk and was not sent either is left out: its sender has not been told that the server
    /// has it.
    pub(super) fn write(&self) -> Vec<u8> {
        let rest = &self.rest;
        let mut out = Writer(vec![VERSION]);
        let session = Element::new("session", "")
            .attr("id", &*rest.id)
            .attr("max", rest.resumable.as_secs().to_string())
            .attr("peer", rest.stream.peer.to_string())
            .attr("handled", rest.handled.to_string())
            .attr("history", rest.unacked.history().to_string())
            .attr("acked", rest.unacked.acked().to_string())
            .attr("stuck", rest.unacked.stuck().to_string())
            .attr_opt("secured", rest.stream.secured.then_some("true"))
            .attr_opt("interested", rest.interested.then_some("true"))
            .attr_opt("after", rest.catching_up.map(|after| after.to_string()))
            .attr_opt("collects", rest.collects_mail.then_some("true"))
            .attr_opt("copied", Some(words(&rest.copied)).filter(|copied| !copied.is_empty()));
        out.element(&session);
        for (name, state) in &self.modules {
            out.element(&Element::new("module", "").attr("name", name.as_str()).child(state.clone()));
        }
        if let Some((presence, priority)) = &rest.presence {
            out.element(&Element::new("presence", "").attr("priority", priority.to_string()));
            out.stanza(presence);
        }
        for sent in rest.unacked.iter() {
            out.outgoing("unacked", sent);
        }
        let is_lasting = |kept: &Arc<Kept>| matches!(kept.standing(), Standing::Waits | Standing::Settled);
        for waiting in rest.outbox.iter().filter(|out| out.kept.as_ref().is_none_or(is_lasting)) {
            out.outgoing("waiting", waiting);
        }
        for kept in rest.in_flight.iter().filter(|kept| is_lasting(kept)) {
            out.kept("in-flight", kept);
        }
        for kept in rest.owed.iter().filter(|kept| is_lasting(kept)) {
            out.kept("owed", kept);
        }
        out.0
    }

    /// What [`Self::write`] wrote, with the kept messages in their places in the tail. `stream` names the session in the
    /// log, `left` is how long it may wait.
    pub(super) fn read(
        bytes: &[u8],
        account: &Arc<Account>,
        tail: &mut Tail,
        stream: u64,
        left: Duration,
    ) -> Option<Self> {
        let (&VERSION, bytes) = bytes.split_first()? else { return None };
        let mut reader = Reader { bytes, account, tail };
        let session = reader.element()?;
        let number = |name| session.get(name)?.parse::<u64>().ok();
        let count = |name| u32::try_from(number(name)?).ok();
        let (handled, history, acked, stuck) =
            (count("handled")?, number("history")?, count("acked")?, count("stuck")?);
        let mut rest = Rest {
            id: session.get("id")?.into(),
            resumable: Duration::from_secs(number("max")?),
            left,
            stream: StreamInfo {
                id: stream,
                peer: session.get("peer")?.parse().ok()?,
                secured: session.get("secured").is_some(),
            },
            presence: None,
            interested: session.get("interested").is_some(),
            handled,
            unacked: ack::Outgoing::new(0),
            in_flight: Vec::new(),
            outbox: Vec::new(),
            owed: Vec::new(),
            catching_up: number("after"),
            copied: session.get("copied").unwrap_or_default().split(' ').filter_map(|id| id.parse().ok()).collect(),
            collects_mail: session.get("collects").is_some(),
        };
        let (mut modules, mut unacked) = (Vec::new(), Vec::new());
        while !reader.bytes.is_empty() {
            let element = reader.element()?;
            match element.name() {
                "module" => modules.push((element.get("name")?.to_owned(), element.elements().next()?.clone())),
                "presence" => rest.presence = Some((reader.stanza()?, element.get("priority")?.parse().ok()?)),
                "unacked" => unacked.push(reader.outgoing(&element)?),
                "waiting" => rest.outbox.push(reader.outgoing(&element)?),
                "in-flight" => rest.in_flight.push(reader.kept(&element, None)?),
                "owed" => rest.owed.push(reader.kept(&element, None)?),
                _ => return None,
            }
        }
        rest.unacked = ack::Outgoing::restore(history, acked, stuck, unacked);
        Some(Self { rest, modules })
    }
}

fn words(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

struct Writer(Vec<u8>);

impl Writer {
    fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(&mut self.0);
        // A record is a stanza or less, far below 4 GiB.
        let length = u32::try_from(self.0.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn element(&mut self, element: &Element) {
        self.record(|out| out.extend_from_slice(element.to_xml().as_bytes()));
    }

    fn stanza(&mut self, stanza: &Stanza) {
        self.record(|out| stanza.write_standalone(out));
    }

    fn outgoing(&mut self, name: &'static str, out: &Outgoing) {
        let element = Element::new(name, "").attr_opt("to", out.to.as_ref().map(Jid::as_str));
        let Some(kept) = &out.kept else {
            self.element(&element);
            return self.stanza(&out.stanza);
        };
        // What is sent later is not word for word what was kept: it has a stamp (XEP-0203).
        let differs = !Arc::ptr_eq(&out.stanza, &kept.stanza);
        self.element(&of_kept(element, kept).attr_opt("differs", differs.then_some("true")));
        self.stanza(&out.stanza);
        if differs {
            self.stanza(&kept.stanza);
        }
    }

    fn kept(&mut self, name: &'static str, kept: &Kept) {
        self.element(&of_kept(Element::new(name, ""), kept));
        self.stanza(&kept.stanza);
    }
}

fn of_kept(element: Element, kept: &Kept) -> Element {
    let stamp = kept.stamp.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let standing = match kept.standing() {
        Standing::Waits => "waits",
        // It is sent already, and keeps its number, whether or not it is on disk.
        Standing::Settled | Standing::Unwritten => "settled",
        Standing::Void => "void",
    };
    element
        .attr("id", kept.id.to_string())
        .attr("stamp", stamp.to_string())
        .attr("standing", standing)
        .attr_opt("resource", kept.resource.as_deref())
}

struct Reader<'a> {
    bytes: &'a [u8],
    account: &'a Arc<Account>,
    tail: &'a mut Tail,
}

impl Reader<'_> {
    fn record(&mut self) -> Option<&[u8]> {
        let (length, rest) = self.bytes.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.bytes = rest;
        Some(record)
    }

    fn element(&mut self) -> Option<Element> {
        Element::parse(self.record()?, LIMITS).ok()
    }

    fn stanza(&mut self) -> Option<Arc<Stanza>> {
        match parser::parse(Bytes::copy_from_slice(self.record()?), &Namespaces::none()) {
            Ok(Parsed::Stanza(stanza)) => Some(Arc::new(stanza)),
            Ok(_) | Err(_) => None,
        }
    }

    fn outgoing(&mut self, element: &Element) -> Option<Outgoing> {
        let to = element.get("to").map(Jid::new).transpose().ok()?;
        let stanza = self.stanza()?;
        if element.get("id").is_none() {
            return Some(Outgoing { stanza, to, kept: None });
        }
        let kept = match element.get("differs") {
            Some(_) => self.kept(element, None)?,
            None => self.kept(element, Some(stanza.clone()))?,
        };
        // As it was kept, it is in memory once.
        let stanza = if element.get("differs").is_some() { stanza } else { kept.stanza.clone() };
        Some(Outgoing { stanza, to, kept: Some(kept) })
    }

    /// The message in the tail that an element tells of; `stanza` if it has been read already.
    fn kept(&mut self, element: &Element, stanza: Option<Arc<Stanza>>) -> Option<Arc<Kept>> {
        let stanza = match stanza {
            Some(stanza) => stanza,
            None => self.stanza()?,
        };
        let stamp = Duration::from_micros(element.get("stamp")?.parse().ok()?);
        let entry = TailEntry {
            account: self.account.jid.clone(),
            id: element.get("id")?.parse().ok()?,
            resource: element.get("resource").map(str::to_owned),
            stamp: SystemTime::UNIX_EPOCH.checked_add(stamp)?,
            // Read already.
            stanza: Bytes::new(),
        };
        match element.get("standing")? {
            "waits" => Some(self.tail.recall(self.account, entry, stanza)),
            standing @ ("settled" | "void") => Some(Kept::past(self.account, entry, stanza, standing == "void")),
            _ => None,
        }
    }
}
