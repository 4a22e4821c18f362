//! The rules.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{Care, FATE, Key, Ledger, Message, Path, Reception};

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Nothing acknowledged is lost.
    I1,
    /// And all of it is delivered, without its recipient's asking the archive.
    Delivery,
    /// Nothing is there twice.
    I2,
    /// Order.
    I3,
    /// A definite fate.
    I5,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::I1, Self::Delivery, Self::I2, Self::I3, Self::I5];

    /// What it says.
    pub fn text(self) -> &'static str {
        match self {
            Self::I1 => "each acknowledged message is in its archives, or its sender was told",
            Self::Delivery => "each acknowledged message comes to a device that does not ask the archive for it",
            Self::I2 => "one stanza-id per message, none twice",
            Self::I3 => "order per conversation, and one for all in a room",
            Self::I5 => "each message has a fate within 60 s",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A rule that was broken: the counter-example.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How.
    pub text: String,
    /// The messages that show it.
    pub keys: Vec<Key>,
}

impl Ledger {
    /// Judges the messages that something happened to since the last time. Those must be at rest: their senders have
    /// resent, their recipients have collected, the archives were read.
    pub fn judge(&mut self) -> Vec<Violation> {
        let mut found = std::mem::take(&mut self.found);
        let later = |key: &Key| self.away.contains(&self.conversations[key.conversation as usize].from);
        let (later, mut keys): (Vec<Key>, Vec<Key>) = self.touched.drain().partition(later);
        self.touched.extend(later);
        keys.sort();
        for key in keys {
            self.judge_one(key, &self.messages[&key], &mut found);
        }
        found
    }

    /// Whether it came to a device of the account it was for.
    pub(super) fn reached(&self, key: Key, message: &Message) -> bool {
        let to = self.conversations[key.conversation as usize].to;
        message.received.iter().any(|one| self.giver(key, one.party) == to)
    }

    fn judge_one(&self, key: Key, message: &Message, found: &mut Vec<Violation>) {
        let mut say = |rule, text: String| {
            found.push(Violation { rule, text: format!("{} {text}", self.id(key)), keys: vec![key] })
        };
        let conversation = self.conversations[key.conversation as usize];
        if conversation.care == Care::None {
            return;
        }
        let kept_by = |account| message.kept.iter().any(|(other, _)| *other == account);
        let reached = self.reached(key, message);
        if message.sent.is_empty() {
            say(Rule::I2, "came, and was never sent".into());
        }
        // A message that was refused, and sent once, is nowhere.
        if message.told.is_some() {
            if message.sent.len() == 1 && (reached || kept_by(conversation.to)) {
                say(Rule::I1, "was refused, and came all the same".into());
            }
        } else if message.acked.is_some() {
            if !reached && !kept_by(conversation.to) {
                say(Rule::I1, "was acknowledged, and is lost".into());
            } else if !reached && conversation.care != Care::Room {
                say(Rule::Delivery, "was acknowledged and archived, and came to no device".into());
            }
            let archives: &[u32] = match conversation.care {
                Care::Full if self.has_archive => &[conversation.from, conversation.to],
                Care::Room => &[conversation.to],
                _ => &[],
            };
            if !archives.is_empty() {
                let missing = archives.iter().copied().filter(|account| !kept_by(*account));
                let missing: Vec<String> = missing.map(|account| self.account_name(account)).collect();
                if !missing.is_empty() {
                    say(
                        Rule::I1,
                        format!("was acknowledged, and is not in the archive of {}", missing.join(" and of ")),
                    );
                }
            }
        }
        self.judge_copies(key, message, &mut say);
        self.judge_fate(message, conversation.from, &mut say);
    }

    /// What was received before the server died, of a message that it had not acknowledged by then, may have died with it:
    /// sent again, it is a new message to the server. What was acknowledged after the last crash is judged from there on.
    fn judge_copies(&self, key: Key, message: &Message, say: &mut impl FnMut(Rule, String)) {
        let acked = message.acked.unwrap_or(Duration::MAX);
        let crash = self.crashes.iter().rev().find(|at| **at < acked).copied();
        let resent = message.sent.iter().any(|sent| crash.is_some_and(|crash| *sent > crash));
        let begin = crash.filter(|_| resent).unwrap_or(Duration::ZERO);
        let received: Vec<&Reception> = message.received.iter().filter(|one| one.at >= begin).collect();
        let account_of = |party: u32| self.giver(key, party);
        let accounts: BTreeSet<u32> = received
            .iter()
            .map(|one| account_of(one.party))
            .chain(message.kept.iter().map(|(account, _)| *account))
            .collect();
        for account in accounts {
            let name = self.account_name(account);
            let copies = message.kept.iter().filter(|(other, _)| *other == account).count();
            if copies > 1 {
                say(Rule::I2, format!("is {copies} times in the archive of {name}"));
            }
            let here = received.iter().filter(|one| account_of(one.party) == account);
            let ids: BTreeSet<&str> = (here.filter_map(|one| one.stanza_id.as_deref()))
                .chain(message.kept.iter().filter(|(other, _)| *other == account).map(|(_, id)| &**id))
                .collect();
            if ids.len() > 1 {
                let ids: Vec<&str> = ids.into_iter().collect();
                say(Rule::I2, format!("has the stanza-ids {} at {name}", ids.join(" and ")));
            }
        }
        let in_room = self.conversations[key.conversation as usize].care == Care::Room;
        for (at, one) in received.iter().enumerate() {
            let name = || &self.parties[one.party as usize].name;
            // Who asks the archive is answered, whatever came before.
            if one.path == Path::Archive {
                continue;
            }
            // A room's archive may be read while the same is being said.
            let counts = |other: &Reception| !in_room || other.path != Path::Archive;
            let mut before = received.iter().take(at).filter(|other| other.party == one.party && counts(other));
            if before.clone().any(|other| other.session == one.session) {
                say(Rule::I2, format!("came to {} twice on one session", name()));
            } else if one.stanza_id.is_none() && before.next().is_some() {
                say(Rule::I2, format!("came to {} twice, without a stanza-id", name()));
            }
        }
    }

    fn judge_fate(&self, message: &Message, from: u32, say: &mut impl FnMut(Rule, String)) {
        let Some(&sent) = message.sent.first() else { return };
        let fate = match (message.acked, message.told) {
            (Some(acked), Some(told)) => acked.min(told),
            (acked, told) => match acked.or(told) {
                Some(fate) => fate,
                None => return say(Rule::I5, "is neither acknowledged nor refused".into()),
            },
        };
        let recovered = self.recoveries.iter().rev().find(|at| **at <= fate).copied().unwrap_or(Duration::ZERO);
        let returned = self.returned.get(&from).copied().unwrap_or_default();
        let took = fate.saturating_sub(sent.max(recovered).max(returned));
        if took > FATE {
            say(Rule::I5, format!("got its fate after {took:.1?}"));
        }
    }
}
