//! The people of a room: affiliations and reserved nicknames, by bare JID (XEP-0045 §5.2), and the versions of these lists
//! (XEP-0463).
//!
//! All of them are in memory, since each stanza from outside asks for one; stored they are rows of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use rookery_xmpp::jid::{BareJid, Jid};

use super::image::Person;
use super::nicks::NickKey;
use super::roles::Affiliation;

/// So many changes are known by version.
const VERSIONS: usize = 1000;

/// The bytes of what is known of somebody, about.
pub(super) fn size_of(who: &BareJid, person: &Person) -> usize {
    let texts = [&person.nick, &person.reason].into_iter().flatten().map(|text| text.len());
    who.as_str().len() + texts.sum::<usize>()
}

/// The lists.
#[derive(Debug, Default)]
pub(super) struct Affiliations {
    people: BTreeMap<BareJid, Person>,
    nicks: BTreeMap<NickKey, BareJid>,
    owners: usize,
    size: usize,
    /// Members who were not told, while they were away, that something is said.
    untold: BTreeSet<BareJid>,
    /// Those of them who have or had a nickname, by its first word.
    called: HashMap<String, BTreeSet<BareJid>>,
    /// The version before the first change that is known.
    base: u64,
    changes: VecDeque<Change>,
}

/// A change of an affiliation.
#[derive(Debug)]
struct Change {
    /// The version that it has made.
    version: u64,
    who: BareJid,
    /// What they were before.
    was: Affiliation,
}

impl Affiliations {
    /// The lists as they were stored. Their version is one that no client has seen.
    pub(super) fn new(people: Vec<(BareJid, Person)>, version: u64) -> Self {
        let mut lists = Self { base: version, ..Self::default() };
        for (who, person) in people {
            lists.put(who, person);
        }
        lists
    }

    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// How many owners there are.
    pub(super) fn owners(&self) -> usize {
        self.owners
    }

    /// The bytes of all that is known, about.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// What is known of a bare JID itself.
    pub(super) fn person(&self, who: &str) -> Option<&Person> {
        self.people.get(who)
    }

    /// The affiliation of an address (§9.2): its own, or the ban of its domain.
    pub(super) fn of(&self, who: &Jid) -> Affiliation {
        let own = self.person(who.bare_str()).map(|person| person.affiliation);
        if let Some(own) = own.filter(|own| *own != Affiliation::None) {
            return own;
        }
        let domain = self.person(who.domainpart()).map(|person| person.affiliation);
        domain.filter(|domain| *domain == Affiliation::Outcast).unwrap_or(Affiliation::None)
    }

    /// For whom a nickname is reserved.
    pub(super) fn reserved_for(&self, nick: &NickKey) -> Option<&BareJid> {
        self.nicks.get(nick)
    }

    /// The people of an affiliation, by address.
    pub(super) fn list(&self, affiliation: Affiliation) -> impl Iterator<Item = (&BareJid, &Person)> {
        self.people.iter().filter(move |(_, person)| person.affiliation == affiliation)
    }

    /// All people, by address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&BareJid, &Person)> {
        self.people.iter()
    }

    /// Changes what is known of somebody; what says nothing is forgotten.
    pub(super) fn put(&mut self, who: BareJid, person: Person) {
        if let Some(old) = self.people.remove(&who) {
            self.size -= size_of(&who, &old);
            self.owners -= usize::from(old.affiliation == Affiliation::Owner);
            for first in first_words(&old) {
                if let Some(called) = self.called.get_mut(&first) {
                    called.remove(&who);
                    if called.is_empty() {
                        self.called.remove(&first);
                    }
                }
            }
            if let Some(key) = old.nick.and_then(|nick| NickKey::new(&nick).ok()) {
                self.nicks.remove(&key);
            }
        }
        self.index(&who, &person);
        if person.is_nobody() {
            return;
        }
        self.owners += usize::from(person.affiliation == Affiliation::Owner);
        self.size += size_of(&who, &person);
        if let Some(key) = person.nick.as_deref().and_then(|nick| NickKey::new(nick).ok()) {
            self.nicks.insert(key, who.clone());
        }
        self.people.insert(who, person);
    }

    fn index(&mut self, who: &BareJid, person: &Person) {
        if person.affiliation < Affiliation::Member || person.told {
            self.untold.remove(who);
            return;
        }
        self.untold.insert(who.clone());
        for first in first_words(person) {
            self.called.entry(first).or_default().insert(who.clone());
        }
    }

    /// Members who do not know yet that something was said while they were away, if they are.
    pub(super) fn untold(&self) -> impl Iterator<Item = &BareJid> {
        self.untold.iter()
    }

    pub(super) fn is_untold(&self, who: &BareJid) -> bool {
        self.untold.contains(who)
    }

    /// Those of them with a nickname that begins with this word, with all of their nicknames.
    pub(super) fn called(&self, first: &str) -> impl Iterator<Item = (&BareJid, &str)> {
        let who = self.called.get(first).into_iter().flatten();
        who.flat_map(|who| self.person(who.as_str()).into_iter().flat_map(nicks).map(move |nick| (who, nick)))
    }

    /// The version that the lists have.
    pub(super) fn version(&self) -> u64 {
        self.changes.back().map_or(self.base, |change| change.version)
    }

    /// Somebody's affiliation has changed from what it was, which makes the lists this version.
    pub(super) fn changed(&mut self, who: BareJid, was: Affiliation, version: u64) {
        if self.changes.len() >= VERSIONS
            && let Some(first) = self.changes.pop_front()
        {
            self.base = first.version;
        }
        self.changes.push_back(Change { version: version.max(self.version()), who, was });
    }

    /// Who has changed since a version, by address and once each, and what they were then; `None` when the version is not
    /// known.
    pub(super) fn since(&self, version: u64) -> Option<BTreeMap<&BareJid, Affiliation>> {
        let known = version == self.base || self.changes.iter().any(|change| change.version == version);
        let changed = self.changes.iter().filter(|change| change.version > version);
        // Of several changes of one person the oldest knows what they were then: it comes last, and stays.
        known.then(|| changed.rev().map(|change| (&change.who, change.was)).collect())
    }
}

/// The nicknames by which somebody is known.
fn nicks(person: &Person) -> impl Iterator<Item = &str> {
    person.nick.as_deref().into_iter().chain(person.last_nick.as_deref())
}

fn first_words(person: &Person) -> impl Iterator<Item = String> {
    nicks(person).filter_map(|nick| words(nick).next())
}

/// The words of a text, in small letters.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}
