//! The rooms of a service that everybody may find, by address, with their names.
//!
//! They are a list in order, not a map: a page is a slice of it, wherever it begins, and where it begins is found by halving.
//! Rooms come and go seldom enough to move the rest of the list for each.

use std::sync::Arc;

use rookery_core::server::Server;
use rookery_core::store::StoreError;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::StanzaError;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;
use rookery_xmpp::rsm::{Request, Start};
use tracing::error;

use super::codec;
use super::rooms::Rooms;
use crate::muc::config::Config;

/// Rooms that are read at once.
const PAGE: usize = 500;

/// The public rooms.
#[derive(Default)]
pub(super) struct Directory {
    /// By address.
    names: Vec<(BareJid, Box<str>)>,
    is_complete: bool,
}

impl Directory {
    /// Whether all rooms were read.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// A room is configured so.
    pub(super) fn put(&mut self, room: &BareJid, config: &Config) {
        if config.public {
            let name = Some(config.name.as_str()).filter(|name| !name.is_empty());
            let name: Box<str> = name.or(room.localpart()).unwrap_or_default().into();
            match self.place(room.as_str()) {
                Ok(place) => self.names.iter_mut().skip(place).take(1).for_each(|known| known.1.clone_from(&name)),
                Err(place) => self.names.insert(place, (room.clone(), name)),
            }
        } else {
            self.remove(room);
        }
    }

    /// A room is gone.
    pub(super) fn remove(&mut self, room: &BareJid) {
        if let Ok(place) = self.place(room.as_str()) {
            self.names.remove(place);
        }
    }

    /// Where a room is in the list, or would be.
    fn place(&self, room: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|(jid, _)| jid.as_str().cmp(room))
    }

    /// A page of the list (XEP-0045 §6.3, XEP-0059), of `most` rooms.
    pub(super) fn page(&self, query: &Element, most: usize) -> Result<Element, StanzaError> {
        let request = Request::find(query)?;
        let is_asked = request.is_some();
        let request = request.unwrap_or(Request { max: None, start: Start::Forward { after: None } });
        let list = &self.names;
        let id = |place: usize| list.get(place).map_or("", |(jid, _)| jid.as_str());
        let (range, page) = request.page_of(list.len(), id, |room| self.place(room).ok(), most)?;
        let is_all = range.len() == list.len();
        let items =
            list.get(range).unwrap_or_default().iter().map(|(jid, name)| {
                Element::new("item", ns::DISCO_ITEMS).attr("jid", jid.as_str()).attr("name", &**name)
            });
        let answer = Element::new("query", ns::DISCO_ITEMS).children(items);
        Ok(if is_asked || !is_all { answer.child(page.to_element()) } else { answer })
    }
}

impl Rooms {
    /// Reads which rooms there are.
    pub(super) async fn read_directory(&self, server: &Arc<Server>) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = server.store.rooms(self.domain(), after.as_ref(), PAGE).await?;
            for head in &page {
                let Some((config, maker)) = codec::config(&head.config) else {
                    error!(room = %head.jid, "the configuration of a room cannot be read; nobody can enter it");
                    continue;
                };
                self.directory.lock().put(&head.jid, &config);
                if let Some(maker) = maker {
                    self.makers.add(head.jid.clone(), maker);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.jid.clone()),
                _ => break,
            }
        }
        self.directory.lock().is_complete = true;
        Ok(())
    }

    /// A room is no more.
    pub(super) fn forget(&self, room: &BareJid) {
        self.directory.lock().remove(room);
        self.makers.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_public_rooms() {
        let mut directory = Directory::default();
        let jid = |name: &str| BareJid::new(&format!("{name}@rooms.example")).unwrap();
        for name in ["c", "a", "d", "b"] {
            directory.put(&jid(name), &Config::default());
        }
        directory.put(&jid("b"), &Config { public: false, ..Config::default() });
        directory.put(&jid("c"), &Config { name: "The <c>".to_owned(), ..Config::default() });
        let ask = |set: &str| {
            let query = format!("<query xmlns='http://jabber.org/protocol/disco#items'>{set}</query>");
            directory.page(&query.parse().unwrap(), 2).map(|page| page.to_xml())
        };
        let first = "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='a@rooms.example' name='a'/>\
            <item jid='c@rooms.example' name='The &lt;c&gt;'/><set xmlns='http://jabber.org/protocol/rsm'>\
            <first index='0'>a@rooms.example</first><last>c@rooms.example</last><count>3</count></set></query>";
        assert_eq!(ask("").unwrap(), first);
        let set = |inside: &str| format!("<set xmlns='http://jabber.org/protocol/rsm'>{inside}</set>");
        assert_eq!(ask(&set("<max>10</max>")).unwrap(), first);
        let second = ask(&set("<max>2</max><after>c@rooms.example</after>")).unwrap();
        assert!(second.contains("d@rooms.example") && !second.contains("a@rooms.example"), "{second}");
        assert!(ask(&set("<after>b@rooms.example</after>")).is_err());
        directory.remove(&jid("a"));
        directory.remove(&jid("a"));
        let first = directory.page(&"<query xmlns='http://jabber.org/protocol/disco#items'/>".parse().unwrap(), 2);
        assert!(first.unwrap().to_xml().contains("c@rooms.example' name='The &lt;c&gt;'/><item jid='d@rooms.example'"));
    }
}
