//! XEP-0441: what a user wants to have archived. A pure decision, and its XML, which is how it is stored as well.

use std::collections::BTreeSet;

use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use serde::Deserialize;

/// What becomes of messages with those who are in neither list (§2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// They are archived.
    Always,
    /// They are not.
    Never,
    /// They are if the contact is in the roster.
    Roster,
}

const POLICIES: [(Policy, &str); 3] =
    [(Policy::Always, "always"), (Policy::Never, "never"), (Policy::Roster, "roster")];

/// A user's preferences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Preferences {
    default: Policy,
    always: BTreeSet<Jid>,
    never: BTreeSet<Jid>,
}

impl Preferences {
    /// Preferences of those who have said nothing.
    pub(super) fn new(default: Policy) -> Self {
        Self { default, always: BTreeSet::new(), never: BTreeSet::new() }
    }

    /// Whether messages with this address are archived. What is said of a full JID goes before what is said of its bare
    /// one, and `never` before `always` (§2.3).
    pub(super) fn archives(&self, target: &Jid, is_in_roster: impl FnOnce() -> bool) -> bool {
        for jid in [target.as_str(), target.bare_str()] {
            if self.never.contains(jid) {
                return false;
            }
            if self.always.contains(jid) {
                return true;
            }
        }
        match self.default {
            Policy::Always => true,
            Policy::Never => false,
            Policy::Roster => is_in_roster(),
        }
    }

    /// How many addresses the lists have.
    pub(super) fn len(&self) -> usize {
        self.always.len() + self.never.len()
    }

    /// Reads `<prefs/>`. Addresses are normalised; one that is in both lists is in `never`.
    pub(super) fn read(prefs: &Element) -> Result<Self, StanzaError> {
        let default = prefs.get("default");
        let default = POLICIES.iter().find(|(_, name)| default == Some(*name)).map(|(policy, _)| *policy);
        let default = default.ok_or_else(|| {
            StanzaError::new(Condition::BadRequest).with_text("The 'default' must be always, never or roster.")
        })?;
        let never = list(prefs, "never")?;
        let always = list(prefs, "always")?.difference(&never).cloned().collect();
        Ok(Self { default, always, never })
    }

    /// The `<prefs/>` element; both lists are there, be they empty.
    pub(super) fn to_element(&self) -> Element {
        let list = |name, jids: &BTreeSet<Jid>| {
            let jid = |jid: &Jid| Element::new("jid", ns::MAM).text(jid.as_str());
            Element::new(name, ns::MAM).children(jids.iter().map(jid))
        };
        let default = POLICIES.iter().find(|(policy, _)| *policy == self.default).map(|(_, name)| *name);
        Element::new("prefs", ns::MAM)
            .attr_opt("default", default)
            .child(list("always", &self.always))
            .child(list("never", &self.never))
    }
}

fn list(prefs: &Element, name: &str) -> Result<BTreeSet<Jid>, StanzaError> {
    let lists = prefs.elements().filter(|list| list.is(name, ns::MAM));
    let jids = lists.flat_map(Element::elements).filter(|jid| jid.is("jid", ns::MAM));
    let read = |jid: &Element| {
        Jid::new(jid.content().trim())
            .map_err(|error| StanzaError::new(Condition::JidMalformed).with_text(error.to_string()))
    };
    jids.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attributes: &str, lists: &str) -> Result<Preferences, StanzaError> {
        let prefs: Element = format!("<prefs xmlns='urn:xmpp:mam:2'{attributes}>{lists}</prefs>").parse().unwrap();
        Preferences::read(&prefs)
    }

    #[track_caller]
    fn check(default: &str, lists: &str, expected: &str) {
        let read = read(&format!(" default='{default}'"), lists).unwrap();
        let written = format!("<prefs xmlns='urn:xmpp:mam:2' default='{default}'>{expected}</prefs>");
        assert_eq!(read.to_element().to_xml(), written);
        assert_eq!(Preferences::read(&read.to_element()), Ok(read));
    }

    #[test]
    fn lists_are_normalised_and_always_there() {
        check("roster", "", "<always/><never/>");
        check("always", "<never/>", "<always/><never/>");
        check(
            "never",
            "<always><jid>Romeo@Montague.LIT</jid><jid> romeo@montague.lit </jid></always>\
             <never><jid>montague@montague.lit/Hall</jid><other/></never>",
            "<always><jid>romeo@montague.lit</jid></always><never><jid>montague@montague.lit/Hall</jid></never>",
        );
        check(
            "roster",
            "<always><jid>a@b</jid><jid>c@d</jid></always><never><jid>A@b</jid></never>",
            "<always><jid>c@d</jid></always><never><jid>a@b</jid></never>",
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (attributes, lists, condition) in [
            ("", "", Condition::BadRequest),
            (" default='sometimes'", "", Condition::BadRequest),
            (" default='Always'", "", Condition::BadRequest),
            (" default='always'", "<never><jid>@b</jid></never>", Condition::JidMalformed),
            (" default='always'", "<always><jid/></always>", Condition::JidMalformed),
        ] {
            assert_eq!(read(attributes, lists).unwrap_err().condition, condition, "{attributes}{lists}");
        }
    }

    #[test]
    fn whose_messages_are_archived() {
        let lists = "<always><jid>friend@a</jid><jid>both@a/pda</jid><jid>service.a</jid></always>\
                     <never><jid>foe@a</jid><jid>friend@a/work</jid><jid>both@a</jid></never>";
        for (target, by_list) in [
            ("friend@a", Some(true)),
            ("friend@a/home", Some(true)),
            ("friend@a/work", Some(false)),
            ("foe@a/home", Some(false)),
            ("both@a", Some(false)),
            ("both@a/pda", Some(true)),
            ("both@a/home", Some(false)),
            ("service.a", Some(true)),
            ("somebody@service.a", None),
        ] {
            let target = Jid::new(target).unwrap();
            for (default, otherwise) in [("always", [true, true]), ("never", [false, false]), ("roster", [false, true])]
            {
                let preferences = read(&format!(" default='{default}'"), lists).unwrap();
                for is_in_roster in [false, true] {
                    let expected = by_list.unwrap_or(otherwise[usize::from(is_in_roster)]);
                    assert_eq!(preferences.archives(&target, || is_in_roster), expected, "{target} {default}");
                }
            }
        }
    }
}
