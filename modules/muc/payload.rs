//! The elements that a room writes, and those that nobody else may write in it (security.md C3).

use std::time::SystemTime;

use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;

use super::roles::{Affiliation, Role};
use super::status::Status;

/// Only the room says these. All of a namespace, where no element is named.
const ROOM_OWNED: &[(&str, Option<&str>)] = &[
    (ns::MUC, None),
    (ns::MUC_USER, None),
    (ns::MUC_ADMIN, None),
    (ns::MUC_OWNER, None),
    (ns::OCCUPANT_ID, None),
    (ns::HATS, None),
    (ns::MODERATE, None),
    (ns::MUC_AFFILIATIONS, None),
    (ns::SID, Some("stanza-id")),
    (ns::MAM, Some("result")),
    (ns::CARBONS, Some("received")),
    (ns::CARBONS, Some("sent")),
    (ns::RETRACT, Some("retracted")),
];

/// Takes out what only a room may say, in every spelling; and delays that claim to come from this one.
pub(super) fn strip(stanza: &mut Stanza, room: &BareJid) {
    stanza.retain(|ns, name| {
        !ROOM_OWNED.iter().any(|(owned, only)| *owned == ns && only.is_none_or(|only| only == name))
    });
    let is_ours = |from: &str| Jid::new(from).is_ok_and(|from| from.bare() == *room);
    if stanza.has("delay", ns::DELAY) {
        stanza.retain_elements(|child| !(child.is("delay", ns::DELAY) && child.get("from").is_some_and(is_ours)));
    }
}

/// What a presence says of an occupant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) affiliation: Affiliation,
    pub(super) role: Role,
    pub(super) jid: Option<&'a Jid>,
    pub(super) nick: Option<&'a str>,
    pub(super) actor: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
}

impl<'a> Item<'a> {
    pub(super) const fn new(affiliation: Affiliation, role: Role) -> Self {
        Self { affiliation, role, jid: None, nick: None, actor: None, reason: None }
    }

    pub(super) const fn jid(mut self, jid: Option<&'a Jid>) -> Self {
        self.jid = jid;
        self
    }

    /// The `<item/>` element, in the namespace of what it stands in.
    pub(super) fn to_element(self, ns: &'static str) -> Element {
        let text = |name: &'static str, text: &str| Element::new(name, ns).text(text);
        let actor = self.actor.map(|nick| Element::new("actor", ns).attr("nick", nick));
        Element::new("item", ns)
            .attr("affiliation", self.affiliation.name())
            .attr_opt("jid", self.jid.map(Jid::as_str))
            .attr_opt("nick", self.nick)
            .attr("role", self.role.name())
            .children(actor)
            .children(self.reason.map(|reason| text("reason", reason)))
    }
}

/// `<x xmlns='…#user'/>`, empty.
pub(super) fn user() -> Element {
    Element::new("x", ns::MUC_USER)
}

/// `<x xmlns='…#user'/>` with an item and status codes, the lowest first.
pub(super) fn user_item(item: Item<'_>, statuses: &[Status]) -> Element {
    let mut statuses = statuses.to_vec();
    statuses.sort_unstable();
    user().child(item.to_element(ns::MUC_USER)).children(statuses.into_iter().map(Status::to_element))
}

pub(super) fn occupant_id(id: &str) -> Element {
    Element::new("occupant-id", ns::OCCUPANT_ID).attr("id", id)
}

pub(super) fn stanza_id(room: &BareJid, id: u64) -> Element {
    Element::new("stanza-id", ns::SID).attr("by", room.as_str()).attr("id", id.to_string())
}

/// §7.2.13: when the room took what it sends now.
pub(super) fn delay(room: &BareJid, stamp: SystemTime) -> Element {
    Element::new("delay", ns::DELAY).attr("from", room.as_str()).attr("stamp", datetime::format(stamp))
}

/// The text of a child, cut to `most` bytes; `None` when there is none.
pub(super) fn text_of(parent: &Element, name: &str, most: usize) -> Option<Box<str>> {
    let text = parent.find(name, parent.ns())?.content();
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end))?;
    text.get(..end).map(Into::into)
}
