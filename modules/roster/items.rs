//! Roster items as XML (RFC 6121 §2.1.2), and what a client may put into them (§2.3.3).

use rookery_core::roster::{Difference, Roster, RosterItem};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;

/// The longest name of a contact or group, in bytes.
const LONGEST: usize = 1023;

/// The name and groups of one contact together, in bytes: what bounds a roster in memory.
const MOST_TEXT: usize = 4096;

/// What a roster set asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Add the contact, or change its name and groups (RFC 6121 §2.3, §2.4).
    Put {
        /// The contact.
        jid: BareJid,
        /// What the user calls it.
        name: Option<String>,
        /// The groups that it is to be in, and no others.
        groups: Vec<String>,
    },
    /// Remove the contact (§2.5).
    Remove(BareJid),
}

/// Reads a roster set. What only the server may say (`ask`, `approved`, a `subscription` other than "remove") is ignored.
pub(super) fn read(query: &Element) -> Result<Wish, StanzaError> {
    let mut children = query.elements();
    let (Some(item), None) = (children.next(), children.next()) else {
        return Err(bad("A roster set has exactly one item."));
    };
    if !item.is("item", ns::ROSTER) {
        return Err(bad("A roster set has exactly one item."));
    }
    let jid = item.get("jid").ok_or_else(|| bad("An item needs a 'jid'."))?;
    let jid = Jid::new(jid)
        .map_err(|_| StanzaError::new(Condition::JidMalformed).with_text("The item's 'jid' is not a JID."))?;
    if !jid.is_bare() {
        return Err(bad("The roster holds bare JIDs."));
    }
    let jid = jid.bare();
    if item.get("subscription") == Some("remove") {
        return Ok(Wish::Remove(jid));
    }
    let name = item.get("name").filter(|name| !name.is_empty());
    if name.is_some_and(|name| name.len() > LONGEST) {
        return Err(unacceptable("The name is too long."));
    }
    let mut text = name.map_or(0, str::len);
    let mut groups: Vec<String> = Vec::new();
    for group in item.elements().filter(|child| child.is("group", ns::ROSTER)) {
        let group = group.content();
        if group.trim().is_empty() {
            return Err(unacceptable("A group needs a name."));
        }
        if group.len() > LONGEST {
            return Err(unacceptable("The name of a group is too long."));
        }
        if groups.contains(&group) {
            return Err(bad("The same group is named twice."));
        }
        text += group.len();
        if text > MOST_TEXT {
            return Err(unacceptable("The item is in too many groups."));
        }
        groups.push(group);
    }
    Ok(Wish::Put { jid, name: name.map(str::to_owned), groups })
}

fn bad(text: &'static str) -> StanzaError {
    StanzaError::new(Condition::BadRequest).with_text(text)
}

fn unacceptable(text: &'static str) -> StanzaError {
    StanzaError::new(Condition::NotAcceptable).with_text(text)
}

/// The item as clients see it.
pub(super) fn item(item: &RosterItem) -> Element {
    Element::new("item", ns::ROSTER)
        .attr("jid", item.jid.as_str())
        .attr_opt("name", item.name.as_deref())
        .attr("subscription", item.subscription.as_str())
        .attr_opt("ask", item.ask.then_some("subscribe"))
        .attr_opt("approved", item.approved.then_some("true"))
        .children(item.groups.iter().map(|group| Element::new("group", ns::ROSTER).text(group.as_str())))
}

/// What says that a contact is removed.
pub(super) fn removed(contact: &BareJid) -> Element {
    Element::new("item", ns::ROSTER).attr("jid", contact.as_str()).attr("subscription", "remove")
}

/// The child of a roster result or push.
pub(super) fn query(version: String) -> Element {
    Element::new("query", ns::ROSTER).attr("ver", version)
}

/// A version as clients see it (§2.6.1: opaque to them). One of another account that had the same name is none of ours.
pub(super) fn version(epoch: u64, version: u64) -> String {
    format!("{epoch}-{version}")
}

/// What a client that has this version of the roster has missed, as items with their versions; `None` when it had better
/// get the roster whole (§2.6.3).
pub(super) fn missed(roster: &Roster, ver: &str) -> Option<Vec<(Element, u64)>> {
    let (epoch, had) = ver.split_once('-')?;
    if epoch.parse() != Ok(roster.epoch()) {
        return None;
    }
    let changes = roster.changes_since(had.parse().ok()?)?;
    if changes.len() > roster.len() {
        return None;
    }
    let told = |change: &Difference<'_>| match change {
        Difference::Put(put) => item(put),
        Difference::Removed(contact, _) => removed(contact),
    };
    Some(changes.iter().map(|change| (told(change), change.version())).collect())
}

#[cfg(test)]
mod tests {
    use rookery_core::roster::Subscription;

    use super::*;

    fn wish(query: &str) -> Result<Wish, String> {
        let query = format!("<query xmlns='jabber:iq:roster'>{query}</query>").parse().unwrap();
        read(&query).map_err(|error| format!("{:?}", error.condition))
    }

    #[test]
    fn a_set_is_read() {
        let put = |name: Option<&str>, groups: &[&str]| {
            let groups = groups.iter().map(|&group| group.to_owned()).collect();
            Ok(Wish::Put { jid: BareJid::new("a@x.example").unwrap(), name: name.map(str::to_owned), groups })
        };
        assert_eq!(wish("<item jid='a@x.example'/>"), put(None, &[]));
        assert_eq!(wish("<item jid='A@x.example' name=''/>"), put(None, &[]));
        assert_eq!(
            wish("<item jid='a@x.example' name='A'><group>one</group><group>One</group></item>"),
            put(Some("A"), &["one", "One"])
        );
        assert_eq!(
            wish("<item jid='a@x.example' subscription='both' ask='subscribe' approved='true'/>"),
            put(None, &[])
        );
        assert_eq!(
            wish("<item jid='a@x.example' subscription='remove' name='A'/>"),
            Ok(Wish::Remove(BareJid::new("a@x.example").unwrap()))
        );
    }

    #[test]
    fn a_set_that_is_wrong_is_refused() {
        let long = "x".repeat(LONGEST + 1);
        let many: String = (0..5).map(|number| format!("<group>{number}{}</group>", "x".repeat(1000))).collect();
        for (query, condition) in [
            ("", "BadRequest"),
            ("<item jid='a@x.example'/><item jid='b@x.example'/>", "BadRequest"),
            ("<other jid='a@x.example'/>", "BadRequest"),
            ("<item xmlns='urn:other' jid='a@x.example'/>", "BadRequest"),
            ("<item/>", "BadRequest"),
            ("<item jid='a@x.example/resource'/>", "BadRequest"),
            ("<item jid='a@b@x.example'/>", "JidMalformed"),
            ("<item jid='a@x.example'><group>one</group><group>one</group></item>", "BadRequest"),
            ("<item jid='a@x.example'><group/></item>", "NotAcceptable"),
            ("<item jid='a@x.example'><group> </group></item>", "NotAcceptable"),
            (&format!("<item jid='a@x.example' name='{long}'/>"), "NotAcceptable"),
            (&format!("<item jid='a@x.example'><group>{long}</group></item>"), "NotAcceptable"),
            (&format!("<item jid='a@x.example'>{many}</item>"), "NotAcceptable"),
        ] {
            assert_eq!(wish(query), Err(condition.to_owned()), "{query}");
        }
    }

    #[test]
    fn an_item_is_written() {
        let mut contact = RosterItem::new(BareJid::new("a@x.example").unwrap());
        let plain = "<item xmlns='jabber:iq:roster' jid='a@x.example' subscription='none'/>";
        assert_eq!(item(&contact), plain.parse().unwrap());
        contact.name = Some("A & B".to_owned());
        contact.groups = vec!["<one>".to_owned()];
        contact.subscription = Subscription::From;
        contact.ask = true;
        contact.approved = true;
        let full = "<item xmlns='jabber:iq:roster' jid='a@x.example' name='A &amp; B' subscription='from' ask='subscribe' approved='true'>\
                    <group>&lt;one></group></item>";
        assert_eq!(item(&contact), full.parse().unwrap());
    }
}
