//! A message, presence or IQ stanza (RFC 6120 §8): the start tag parsed, the rest still the sender's bytes.
//!
//! Looking at names costs no parsing, looking at elements parses once for all clones, changing elements gives up the
//! bytes. Inside the server stanzas are in `jabber:client`; a stream of another kind declares its own namespace and the
//! stanza, written without any, is in it. How stanzas are read is in `parser.rs`.

mod body;
mod head;
mod reply;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

pub use head::{Head, IqType, Kind, MessageType, PresenceType};

use crate::element::Element;
use crate::escape::{Count, Sink};
use crate::jid::Jid;
use crate::ns;
use body::{Body, Raw};
pub(crate) use body::{Child, Children};

/// A stanza. Clones are cheap: they share what is inside.
#[derive(Clone)]
pub struct Stanza {
    /// The start tag.
    pub head: Head,
    body: Body,
}

/// A stanza as it is written to each of many: in front of and behind the attribute `to`.
#[derive(Debug)]
pub struct Written {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

impl Written {
    /// Writes it as [`Stanza::write`] would.
    pub fn write(&self, out: &mut Vec<u8>, to: &Jid) {
        out.extend_from_slice(&self.before);
        head::write_to(out, to);
        out.extend_from_slice(&self.after);
    }

    /// Bytes of all but `to`.
    pub fn size(&self) -> usize {
        self.before.len() + self.after.len()
    }
}

impl Stanza {
    /// A stanza with nothing inside.
    pub const fn new(head: Head) -> Self {
        Self { head, body: Body::Empty }
    }

    /// An empty message.
    pub const fn message(kind: MessageType) -> Self {
        Self::new(Head::new(Kind::Message(kind)))
    }

    /// An empty presence.
    pub const fn presence(kind: PresenceType) -> Self {
        Self::new(Head::new(Kind::Presence(kind)))
    }

    /// An empty IQ.
    pub fn iq(kind: IqType, id: impl Into<Box<str>>) -> Self {
        Self::new(Head::new(Kind::Iq(kind))).id(id)
    }

    /// What the parser has read and found fit to be passed on as it is.
    pub(crate) fn raw(head: Head, bytes: Bytes, content: Range<u32>, children: Children) -> Self {
        Self { head, body: Body::Raw(Raw::new(bytes, content, children).into()) }
    }

    /// What the parser had to read into elements.
    pub(crate) fn edited(head: Head, children: Vec<Element>) -> Self {
        Self { head, body: Body::edited(children) }
    }

    /// Sets the recipient.
    #[must_use]
    pub fn to(mut self, to: impl Into<Jid>) -> Self {
        self.head.to = Some(to.into());
        self
    }

    /// Sets the sender.
    #[must_use]
    pub fn from(mut self, from: impl Into<Jid>) -> Self {
        self.head.from = Some(from.into());
        self
    }

    /// Sets the identifier.
    #[must_use]
    pub fn id(mut self, id: impl Into<Box<str>>) -> Self {
        self.head.id = Some(id.into());
        self
    }

    /// Adds a child element.
    #[must_use]
    pub fn child(mut self, child: Element) -> Self {
        self.children_mut().push(child);
        self
    }

    /// The stanza with nothing inside but another one, forwarded (XEP-0297): innermost in `around`, each of which stands
    /// in the one before it. The other's bytes stay bytes.
    #[must_use]
    pub fn around(self, around: &[Element], inner: &Self) -> Self {
        let body = Body::around(around, inner.size(), |bytes| inner.write_standalone(bytes)).unwrap_or_else(|| {
            let nested = around.iter().rev().fold(inner.to_element(), |inner, outer| outer.clone().child(inner));
            Body::edited(vec![nested])
        });
        Self { body, ..self }
    }

    /// The child elements, to be changed; the sender's bytes are given up.
    pub fn children_mut(&mut self) -> &mut Vec<Element> {
        self.body.elements_mut()
    }

    /// Adds a child element behind the others. The sender's bytes stay bytes: this is one copy of them.
    pub fn append(&mut self, child: Element) {
        self.body.append(child);
    }

    /// The same for an element with nothing inside, in a namespace of its own, that need not be built for it.
    pub fn append_leaf(&mut self, name: &'static str, ns: &'static str, attrs: &[(&'static str, &str)]) {
        self.body.append_leaf(ns, name, attrs);
    }

    /// Writes child elements that were changed as bytes, once for all clones to come.
    pub fn encode(&mut self) {
        self.body.encode();
    }

    /// Whether the inside is that of a clone, unchanged.
    pub fn has_body_of(&self, other: &Self) -> bool {
        self.body.is_same(&other.body)
    }

    /// Removes child elements of these (namespace, name), however they were written; says how many. Costs nearly
    /// nothing if there are none, and the sender's other bytes stay bytes.
    pub fn strip(&mut self, names: &[(&str, &str)]) -> usize {
        match self.body.position_of(names) {
            Some(_) => self.body.retain_names(|ns, name| !names.contains(&(ns, name))),
            None => 0,
        }
    }

    /// Keeps the child elements for whose (namespace, name) `keep` says so; says how many were removed.
    pub fn retain(&mut self, keep: impl FnMut(&str, &str) -> bool) -> usize {
        self.body.retain_names(keep)
    }

    /// The same with the element to look at. Parses: ask [`Stanza::has`] first.
    pub fn retain_elements(&mut self, keep: impl FnMut(&Element) -> bool) -> usize {
        self.body.retain_elements(keep)
    }

    /// The child elements; parses once.
    pub fn children(&self) -> &[Element] {
        self.body.elements()
    }

    /// How many child elements there are; parses nothing.
    pub fn child_count(&self) -> usize {
        self.body.len()
    }

    /// Whether there is a child element of that name; parses nothing.
    pub fn has(&self, name: &str, ns: &str) -> bool {
        self.body.position_of(&[(ns, name)]).is_some()
    }

    /// Whether there is a child element in that namespace; parses nothing.
    pub fn has_ns(&self, ns: &str) -> bool {
        self.body.position(|n, _| n == ns).is_some()
    }

    /// Whether `wanted` accepts the (namespace, name) of some child element; parses nothing.
    pub fn has_such(&self, wanted: impl Fn(&str, &str) -> bool) -> bool {
        self.body.position(wanted).is_some()
    }

    /// The first child element of that name; parses if there is one.
    pub fn find(&self, name: &str, ns: &str) -> Option<&Element> {
        let at = self.body.position_of(&[(ns, name)])?;
        self.children().get(at)
    }

    /// The bytes of the first child of this name, as they are written; for telling whether two are the same.
    pub fn child_bytes(&self, name: &str, ns: &str) -> Option<Cow<'_, [u8]>> {
        self.body.child_bytes(self.body.position_of(&[(ns, name)])?)
    }

    /// The same of all children whose (namespace, name) `wanted` accepts.
    pub fn bytes_of(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<Cow<'_, [u8]>> {
        self.body.bytes_of(wanted)
    }

    /// The first child element.
    pub fn payload(&self) -> Option<&Element> {
        self.children().first()
    }

    /// (namespace, name) of the first child element; parses nothing.
    pub fn payload_name(&self) -> Option<(&str, &str)> {
        self.body.first_name()
    }

    /// Writes the stanza into a stream whose default namespace is that of stanzas; `to` replaces the recipient.
    pub fn write(&self, out: &mut Vec<u8>, to: Option<&Jid>) {
        self.write_to(out, to, false);
    }

    /// Writes the stanza so that it stands for itself: in WebSocket frames, in the archive.
    pub fn write_standalone(&self, out: &mut Vec<u8>) {
        self.write_to(out, None, true);
    }

    /// The stanza as text that stands for itself.
    pub fn to_xml(&self) -> String {
        let mut out = Vec::new();
        self.write_standalone(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The stanza as an element, to be forwarded inside of another.
    pub fn to_element(&self) -> Element {
        let head = &self.head;
        Element::new(head.kind.name(), ns::CLIENT)
            .attr_opt("type", head.kind.type_name())
            .attr_opt("to", head.to.as_ref().map(Jid::as_str))
            .attr_opt("from", head.from.as_ref().map(Jid::as_str))
            .attr_opt("id", head.id.as_deref())
            .attr_opt("xml:lang", head.lang.as_deref())
            .children(self.children().iter().cloned())
    }

    /// Bytes that [`Stanza::write`] writes, but for those that escaping adds.
    pub fn size(&self) -> usize {
        let mut count = Count(0);
        self.write_to(&mut count, None, false);
        count.0
    }

    /// Whether the inside is still the sender's bytes.
    pub fn is_raw(&self) -> bool {
        !matches!(self.body, Body::Edited(_))
    }

    /// Writes it for many recipients at once, all but `to`.
    pub fn written(&self) -> Written {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.head.write_begin(&mut before, false);
        self.head.write_rest(&mut after);
        self.write_inside(&mut after);
        Written { before: before.into(), after: after.into() }
    }

    fn write_to(&self, out: &mut impl Sink, to: Option<&Jid>, declare: bool) {
        self.head.write(out, to, declare);
        self.write_inside(out);
    }

    fn write_inside(&self, out: &mut impl Sink) {
        if self.body.is_empty() {
            out.put(b"/>");
            return;
        }
        out.put(b">");
        self.body.write(out);
        out.put(b"</");
        out.put(self.head.kind.name().as_bytes());
        out.put(b">");
    }
}

impl PartialEq for Stanza {
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head && self.children() == other.children()
    }
}

impl fmt::Debug for Stanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_xml())
    }
}

#[cfg(test)]
mod tests;
