//! XEP-0463: what has changed in the lists of affiliations since somebody has last seen them.

use rookery_xmpp::element::Element;
use rookery_xmpp::error::Condition;
use rookery_xmpp::jid::{BareJid, FullJid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{MessageType, Stanza};

use super::outcome::Outcome;
use super::people::listing;
use super::permissions::Rank;
use super::roles::Affiliation;
use super::room::Room;

impl Room {
    /// Before any presence, who enters and asks for it gets the difference, or the whole.
    pub(super) fn send_versions(&self, to: &FullJid, rank: Rank, join: &Element, out: &mut Outcome) {
        let Some(mav) = join.find("mav", ns::MUC_AFFILIATIONS) else { return };
        let lists = [Affiliation::Outcast, Affiliation::Member, Affiliation::Admin, Affiliation::Owner];
        let visible =
            |affiliation: Affiliation| listing(affiliation).is_none_or(|needed| rank.may(needed, &self.config));
        if !visible(Affiliation::Member) {
            let error = rookery_xmpp::error::StanzaError::new(Condition::Forbidden).with_by(self.jid.clone());
            let message = Stanza::message(MessageType::Error).from(self.jid.clone()).child(error.to_element());
            return out.send(message, to);
        }
        let current = self.people.version();
        let since = mav.get("since").and_then(|since| u64::from_str_radix(since, 16).ok());
        let known = since.and_then(|since| Some((since, self.people.since(since)?)));
        let item = |who: &BareJid, affiliation: Affiliation| {
            Element::new("item", ns::MUC_USER).attr("affiliation", affiliation.name()).attr("jid", who.as_str())
        };
        let (since, items): (Option<u64>, Vec<Element>) = match known {
            Some((since, _)) if since == current => return,
            Some((since, changed)) => {
                let affiliation =
                    |who: &BareJid| self.people.person(who.as_str()).map_or(Affiliation::None, |p| p.affiliation);
                let changed = changed.into_iter().filter_map(|(who, was)| match affiliation(who) {
                    now if visible(now) => Some(item(who, now)),
                    // What they are by now is not for everybody; but they are not any more what they are known to be.
                    _ if was != Affiliation::None && visible(was) => Some(item(who, Affiliation::None)),
                    _ => None,
                });
                (Some(since), changed.collect())
            }
            None => {
                let visible = lists.into_iter().filter(|affiliation| visible(*affiliation));
                let all = visible.flat_map(|affiliation| self.people.list(affiliation));
                (None, all.map(|(who, person)| item(who, person.affiliation)).collect())
            }
        };
        // §5.2.1: one answer in several messages, each beginning with the version at which the last one ends. The versions
        // in between are none that anybody could ask for: who has lost the rest gets all of it anew.
        let most = self.service.limits.page.max(1);
        let parts = items.chunks(most).len().max(1);
        let between = |part: usize| format!("{current:x}-{part}");
        for part in 0..parts {
            let begin = if part == 0 { since.map(|since| format!("{since:x}")) } else { Some(between(part)) };
            let end = if part + 1 == parts { format!("{current:x}") } else { between(part + 1) };
            let mav = Element::new("mav", ns::MUC_AFFILIATIONS).attr_opt("since", begin).attr("until", end);
            let items = items.iter().skip(part * most).take(most).cloned();
            let x = Element::new("x", ns::MUC_USER).child(mav).children(items);
            out.send(Stanza::message(MessageType::Normal).from(self.jid.clone()).child(x), to);
        }
    }
}
