//! XEP-0317: hats, which admins make and give by ad-hoc commands (XEP-0050).
//!
//! Each command is done with its form in one step, or shows its form first.

use std::collections::BTreeSet;

use rookery_xmpp::dataform::{Field, FieldType, Form, FormType};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::Stanza;
use sha1::{Digest, Sha1};

use super::announce::Notice;
use super::image::{Hat, Hats, RoomChange};
use super::occupants::Seat;
use super::outcome::{At, Outcome};
use super::permissions::Privilege;
use super::room::Room;
use super::status::Status;

const FORM: &str = "urn:xmpp:hats:commands";
const TITLE: &str = "hats#title";
const URI: &str = "hats#uri";
const HUE: &str = "hats#hue";
const WHO: &str = "hats#jid";

/// So many hats one person may wear.
const WORN: usize = 10;

/// The commands: node, name.
const COMMANDS: &[(&str, &str)] = &[
    ("urn:xmpp:hats:commands:create", "Create a hat"),
    ("urn:xmpp:hats:commands:destroy", "Destroy a hat"),
    ("urn:xmpp:hats:commands:list", "List the hats"),
    ("urn:xmpp:hats:commands:assign", "Give a hat"),
    ("urn:xmpp:hats:commands:unassign", "Take a hat"),
    ("urn:xmpp:hats:commands:list-assigned", "List who wears which hats"),
];

/// How much there is to store of hats, about.
fn size_of(hats: &Hats) -> usize {
    let kind = |(uri, hat): (&String, &Hat)| {
        let rest = [&hat.lang, &hat.hue].into_iter().flatten().map(|text| text.len()).sum::<usize>();
        uri.len() + hat.title.len() + rest
    };
    let worn = |(who, uris): (&BareJid, &BTreeSet<String>)| -> usize {
        uris.iter().map(|uri| who.as_str().len() + uri.len()).sum()
    };
    hats.kinds.iter().map(kind).sum::<usize>() + hats.worn.iter().map(worn).sum::<usize>()
}

fn unknown() -> StanzaError {
    Condition::ItemNotFound.into()
}

impl Room {
    /// What somebody wears, as their presence says it.
    pub(super) fn hats_of(&self, who: &BareJid) -> Option<Element> {
        let worn = self.hats.worn.get(who).filter(|worn| !worn.is_empty())?;
        let hat = |uri: &String| {
            let hat = self.hats.kinds.get(uri)?;
            Some(
                Element::new("hat", ns::HATS)
                    .attr("title", hat.title.as_str())
                    .attr("uri", uri.as_str())
                    .attr_opt("hue", hat.hue.as_deref())
                    .attr_opt("xml:lang", hat.lang.as_deref()),
            )
        };
        Some(Element::new("hats", ns::HATS).children(worn.iter().filter_map(hat)))
    }

    /// A hash of the hats that there are (§2).
    pub(super) fn hats_hash(&self) -> Option<String> {
        let mut hash = Sha1::new();
        for uri in self.hats.kinds.keys() {
            hash.update(uri.as_bytes());
            hash.update([0]);
        }
        let text = || hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (!self.hats.kinds.is_empty()).then(text)
    }

    /// An ad-hoc command.
    pub(super) fn command(
        &mut self,
        at: At,
        from: &Jid,
        stanza: &Stanza,
        command: &Element,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let node = command.get("node").unwrap_or_default();
        let (node, name) = *COMMANDS.iter().find(|(listed, _)| *listed == node).ok_or_else(unknown)?;
        self.check(from, Privilege::ManageHats)?;
        let session = command.get("sessionid").map(str::to_owned).unwrap_or_else(|| format!("hats-{}", at.id));
        let answer = |status: &'static str, form: Option<Element>| {
            Element::new("command", ns::COMMANDS)
                .attr("node", node)
                .attr("sessionid", session.as_str())
                .attr("status", status)
                .children(form)
        };
        if command.get("action") == Some("cancel") {
            out.result(stanza, Some(answer("canceled", None)));
            return Ok(());
        }
        let list = match node.rsplit(':').next() {
            Some("list") => Some(self.hats_table()),
            Some("list-assigned") => Some(self.worn_table()),
            _ => None,
        };
        if let Some(list) = list {
            out.result(stanza, Some(answer("completed", Some(list.to_element()))));
            return Ok(());
        }
        let Some(form) = Form::submission(command, FORM)? else {
            let asked = self.hat_form(node, name).to_element();
            out.result(stanza, Some(answer("executing", Some(asked))));
            return Ok(());
        };
        let (hats, affected) = self.changed_hats(node, &form, stanza.head.lang.as_deref())?;
        let kinds_changed = hats.kinds != self.hats.kinds;
        let (request, done) = (stanza.clone(), answer("completed", None));
        self.commit(at, stanza, vec![RoomChange::Hats(hats.clone())], out, move |room, _, out| {
            room.hats = hats;
            out.result(&request, Some(done));
            room.show_hats(&affected, out);
            if kinds_changed {
                room.notify(&[Status::ConfigChanged], out);
            }
        });
        Ok(())
    }

    /// The hats as a submitted form wants them, and who looks different then.
    fn changed_hats(&self, node: &str, form: &Form, lang: Option<&str>) -> Result<(Hats, Vec<BareJid>), StanzaError> {
        let mut hats = self.hats.clone();
        let required = |var: &'static str| form.text(var)?.ok_or_else(|| rookery_xmpp::dataform::missing(var));
        let uri = required(URI)?.to_owned();
        let most = self.service.limits.text;
        if uri.len() > most || form.text(TITLE)?.is_some_and(|title| title.len() > most) {
            return Err(Condition::NotAcceptable.into());
        }
        let wearing = |hats: &Hats| -> Vec<BareJid> {
            hats.worn.iter().filter(|(_, worn)| worn.contains(&uri)).map(|(who, _)| who.clone()).collect()
        };
        let who = || form.parsed::<Jid>(WHO)?.map(|who| who.bare()).ok_or_else(|| rookery_xmpp::dataform::missing(WHO));
        let affected = match node.rsplit(':').next() {
            Some("create") => {
                let hue = form.text(HUE)?.map(Into::into);
                let hat = Hat { title: required(TITLE)?.to_owned(), lang: lang.map(Into::into), hue };
                if hats.kinds.insert(uri.clone(), hat).is_none() && hats.kinds.len() > self.service.limits.hats {
                    return Err(Condition::ResourceConstraint.into());
                }
                wearing(&hats)
            }
            Some("destroy") => {
                hats.kinds.remove(&uri).ok_or_else(unknown)?;
                let affected = wearing(&hats);
                for worn in hats.worn.values_mut() {
                    worn.remove(&uri);
                }
                affected
            }
            Some("assign") => {
                let who = who()?;
                if !hats.kinds.contains_key(&uri) {
                    return Err(unknown());
                }
                let worn = hats.worn.entry(who.clone()).or_default();
                if worn.insert(uri) && worn.len() > WORN {
                    return Err(Condition::ResourceConstraint.into());
                }
                vec![who]
            }
            _ => {
                let who = who()?;
                if !hats.worn.get_mut(&who).is_some_and(|worn| worn.remove(&uri)) {
                    return Err(unknown());
                }
                vec![who]
            }
        };
        hats.worn.retain(|_, worn| !worn.is_empty());
        let size = size_of(&hats);
        if size > self.service.limits.wardrobe && size > size_of(&self.hats) {
            return Err(Condition::ResourceConstraint.into());
        }
        Ok((hats, affected))
    }

    fn show_hats(&mut self, who: &[BareJid], out: &mut Outcome) {
        let seats: Vec<Seat> =
            who.iter().flat_map(|who| self.occupants.of_person(who.as_str()).iter().copied()).collect();
        for seat in seats {
            self.occupants.touch(seat);
            self.announce(seat, &Notice::default(), &[], out);
        }
    }

    fn hat_form(&self, node: &str, name: &str) -> Form {
        let form = Form::new(FormType::Form).title(name).form_type(FORM);
        let mut choice = Field::new(FieldType::ListSingle, URI).label("Hat").required();
        for (uri, hat) in &self.hats.kinds {
            choice = choice.option(hat.title.as_str(), uri.as_str());
        }
        let who = Field::new(FieldType::JidSingle, WHO).label("Whose").required();
        match node.rsplit(':').next() {
            Some("create") => form
                .field(Field::text(TITLE, "").label("Title").required())
                .field(Field::text(URI, "").label("URI").required())
                .field(Field::text(HUE, "").label("Hue")),
            Some("destroy") => form.field(choice),
            _ => form.field(who).field(choice),
        }
    }

    fn row(&self, uri: &str) -> [Field; 3] {
        let hat = self.hats.kinds.get(uri);
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        [
            Field::text(TITLE, text(hat.map(|hat| hat.title.as_str()))),
            Field::text(URI, uri),
            Field::text(HUE, text(hat.and_then(|hat| hat.hue.as_deref()))),
        ]
    }

    fn hats_table(&self) -> Form {
        let head = [TITLE, URI, HUE].map(|var| Field::new(FieldType::TextSingle, var));
        let form = Form::new(FormType::Result).title("Hats").reported(head);
        self.hats.kinds.keys().fold(form, |form, uri| form.item(self.row(uri)))
    }

    fn worn_table(&self) -> Form {
        let head = [WHO, TITLE, URI, HUE].map(|var| Field::new(FieldType::TextSingle, var));
        let form = Form::new(FormType::Result).title("Hats and who wears them").reported(head);
        let worn = self.hats.worn.iter().flat_map(|(who, worn)| worn.iter().map(move |uri| (who, uri)));
        worn.fold(form, |form, (who, uri)| form.item([Field::text(WHO, who.as_str())].into_iter().chain(self.row(uri))))
    }

    /// disco#info of a command's node.
    pub(super) fn command_info(&self, answer: Element, node: &str, from: &Jid) -> Result<Element, StanzaError> {
        let may = self.rank(from).may(Privilege::ManageHats, &self.config);
        let (_, name) = COMMANDS.iter().find(|(listed, _)| may && *listed == node).ok_or_else(unknown)?;
        let identity = Element::new("identity", ns::DISCO_INFO)
            .attr("category", "automation")
            .attr("type", "command-node")
            .attr("name", *name);
        let feature = |var| Element::new("feature", ns::DISCO_INFO).attr("var", var);
        Ok(answer.child(identity).child(feature(ns::COMMANDS)).child(feature(ns::X_DATA)))
    }

    /// disco#items of the commands.
    pub(super) fn command_items(&self, answer: Element, from: &Jid) -> Element {
        let may = self.rank(from).may(Privilege::ManageHats, &self.config);
        let items = COMMANDS.iter().filter(|_| may).map(|(node, name)| {
            Element::new("item", ns::DISCO_ITEMS).attr("jid", self.jid.as_str()).attr("node", *node).attr("name", *name)
        });
        answer.children(items)
    }
}
