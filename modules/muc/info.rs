//! XEP-0045 §6.4 to §6.6, §7.12: what a room says of itself. Nothing here names a person (security.md C5): no contact
//! addresses, no occupants; and what is said inside is for those who may go in.

use std::time::SystemTime;

use rookery_xmpp::dataform::{Field, FieldType, Form, FormType};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;

use super::room::Room;

/// Which namespaces may pass: all, so that there is nothing to say (§18.1.1).
const TRAFFIC: &str = "http://jabber.org/protocol/muc#traffic";

/// What every room can do.
const FEATURES: &[&str] = &[
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::MUC,
    ns::MUC_REGISTER,
    ns::MUC_REQUEST,
    ns::MUC_ROOMCONFIG,
    ns::MUC_ROOMINFO,
    ns::MUC_STABLE_ID,
    ns::MUC_SELF_PING,
    ns::MUC_AFFILIATIONS,
    ns::OCCUPANT_ID,
    ns::SID,
    ns::MODERATE,
    ns::RETRACT,
    RETRACT_TOMBSTONE,
    ns::HATS,
    ns::COMMANDS,
    ns::VCARD,
    ns::PING,
];

const RETRACT_TOMBSTONE: &str = "urn:xmpp:message-retract:1#tombstone";

impl Room {
    /// The answer to disco#info.
    pub(super) fn info(&mut self, now: SystemTime, from: &Jid, query: &Element) -> Result<Element, StanzaError> {
        let answer = Element::new("query", ns::DISCO_INFO).attr_opt("node", query.get("node"));
        let identity = |name: Option<&str>| {
            Element::new("identity", ns::DISCO_INFO)
                .attr("category", "conference")
                .attr("type", "text")
                .attr_opt("name", name)
        };
        match query.get("node") {
            None | Some("") => {}
            Some(ns::MUC_ROOMUSER_ITEM) => {
                let nick = self.people.person(from.bare_str()).and_then(|person| person.nick.as_deref());
                return Ok(answer.children(nick.map(|nick| identity(Some(nick)))));
            }
            Some(TRAFFIC) => return Err(Condition::ServiceUnavailable.into()),
            Some(node) => return self.command_info(answer, node, from),
        }
        let name = Some(self.config.name.as_str()).filter(|name| !name.is_empty());
        let name = name.or(self.jid.localpart()).map(str::to_owned);
        let archive = [ns::MAM, ns::MAM_EXTENDED].into_iter().filter(|_| self.config.archive);
        let search = Some(ns::FULLTEXT).filter(|_| self.config.archive && self.service.limits.search);
        let tokens = Some(ns::MUC_TOKENS).filter(|_| self.takes_tokens());
        let features = FEATURES.iter().copied().chain(archive).chain(search).chain(tokens).chain(self.kinds());
        let features: Vec<Element> =
            features.map(|feature| Element::new("feature", ns::DISCO_INFO).attr("var", feature)).collect();
        Ok(answer.child(identity(name.as_deref())).children(features).child(self.room_info(now, from).to_element()))
    }

    /// §16.3: the kinds of room that this one is.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let either = |is, yes, no| if is { yes } else { no };
        let config = &self.config;
        [
            either(config.public, "muc_public", "muc_hidden"),
            either(config.persistent, "muc_persistent", "muc_temporary"),
            either(config.members_only, "muc_membersonly", "muc_open"),
            either(config.moderated, "muc_moderated", "muc_unmoderated"),
            either(config.is_non_anonymous(), "muc_nonanonymous", "muc_semianonymous"),
            either(config.password.is_some(), "muc_passwordprotected", "muc_unsecured"),
        ]
        .into_iter()
    }

    fn room_info(&mut self, now: SystemTime, from: &Jid) -> Form {
        let may_read = self.may_read(from);
        let config = &self.config;
        let subject = self.subject.as_ref().filter(|_| may_read).map(|subject| subject.text());
        let mut form = Form::new(FormType::Result)
            .form_type(ns::MUC_ROOMINFO)
            .field(Field::text("muc#roominfo_description", config.description.as_str()).label("Description"))
            .field(Field::text("muc#roominfo_occupants", self.occupants.len().to_string()).label("Occupants"))
            .field(Field::boolean("muc#roominfo_changesubject", config.change_subject).label("Subject can be changed"))
            .field(
                Field::boolean("muc#roomconfig_changesubject", config.change_subject).label("Subject can be changed"),
            )
            .field(Field::text("muc#maxhistoryfetch", config.history.to_string()).label("Messages sent to who enters"))
            .field(Field::text("muc#roominfo_slow_mode_duration", config.slow_mode.to_string()).label("Slow mode"));
        for (var, label, text) in [
            ("muc#roominfo_lang", "Language", config.lang.clone()),
            ("muc#roomconfig_pubsub", "Associated pubsub node", config.pubsub.clone()),
            ("muc#roominfo_subject", "Subject", subject.unwrap_or_default()),
        ] {
            if !text.is_empty() {
                form = form.field(Field::text(var, text).label(label));
            }
        }
        let hashes = self.avatar_hashes();
        if !hashes.is_empty() {
            let field = Field::new(FieldType::TextMulti, "muc#roominfo_avatarhash").label("Avatar hash");
            form = form.field(field.values(hashes));
        }
        if let Some(hash) = self.hats_hash() {
            form = form.field(Field::text("hats#hash", hash).label("Hats hash"));
        }
        // XEP-0502 §7: only of rooms that anybody may look into.
        let open = config.public && config.persistent && !config.members_only && config.password.is_none();
        if let Some(rate) = self.activity.per_hour(now).filter(|_| open) {
            let field = Field::text("{urn:xmpp:muc-activity}message-activity", format!("{rate:.2}"));
            form = form.field(field.label("Messages per hour"));
        }
        form
    }

    /// The answer to disco#items: who is inside is nobody else's business; the commands are under their node.
    pub(super) fn items(&self, from: &Jid, query: &Element) -> Element {
        let answer = Element::new("query", ns::DISCO_ITEMS).attr_opt("node", query.get("node"));
        if query.get("node") == Some(ns::COMMANDS) { self.command_items(answer, from) } else { answer }
    }
}
