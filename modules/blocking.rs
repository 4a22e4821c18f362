//! XEP-0191: Blocking Command. The list, its pushes, and what it does to stanzas both ways. Blocking is polite (§4): no
//! subscription is cancelled, the blocked contact sees the user go offline.
//!
//! The user's own address and resources are never blocked (§5), nor is the server's domain itself, which answers the
//! user's requests; `<item jid='our.domain'/>` blocks all other users there. What rooms and other services send to many
//! is dropped without an error, which would only throw the user out of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use rookery_core::account::Account;
use rookery_core::config::Count;
use rookery_core::module::{Call, Cx, Fault, Flow, Hooks, IqResult, Module, Setup, Stage, Target, Way, Xep};
use rookery_core::roster::Subscription;
use rookery_core::server::{Server, random_id};
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_core::store::StoreError;
use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Kind, MessageType, PresenceType, Stanza};
use serde::Deserialize;

/// Keeps the unwanted out.
pub struct Blocking {
    limit: usize,
    list: Slot<List>,
    /// The session has asked for the list and gets pushes.
    asked: Slot<()>,
}

/// `[modules.blocking]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockingConf {
    /// Addresses that one account may block.
    pub items: Count<1, 100_000>,
}

impl Default for BlockingConf {
    fn default() -> Self {
        Self { items: Count::new(1000) }
    }
}

/// Blocked addresses, as they are written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct List(BTreeSet<Box<str>>);

impl List {
    /// Whether an address is blocked: as it is, as a bare JID, or with its domain (§5).
    fn holds(&self, who: &Jid) -> bool {
        [who.as_str(), who.bare_str(), who.domainpart()].iter().any(|part| self.0.contains(*part))
    }
}

impl Module for Blocking {
    const NAME: &'static str = "blocking";
    const XEPS: &'static [Xep] = &[Xep(191, "1.3")];
    type Config = BlockingConf;

    fn new(config: BlockingConf, setup: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self { limit: config.items.len(), list: setup.account_slot("list"), asked: setup.session_slot("asked") })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::BLOCKING)
            .load(Self::load)
            .iq(IqType::Get, Target::Account, ns::BLOCKING, "blocklist", Self::get)
            .iq(IqType::Set, Target::Account, ns::BLOCKING, "block", Self::block)
            .iq(IqType::Set, Target::Account, ns::BLOCKING, "unblock", Self::unblock)
            .message(Way::Outgoing, Stage::Guard, Self::outgoing)
            .presence(Way::Outgoing, Stage::Guard, Self::outgoing)
            .iq_passing(Way::Outgoing, Stage::Guard, Self::outgoing)
            .message(Way::Incoming, Stage::Guard, Self::incoming)
            .presence(Way::Incoming, Stage::Guard, Self::incoming)
            .iq_passing(Way::Incoming, Stage::Guard, Self::incoming)
            .session_state(Self::save, |blocking, _, session, _| session.set(blocking.asked, ()));
    }
}

impl Blocking {
    async fn load(self: Arc<Self>, server: Arc<Server>, account: Arc<Account>) -> Result<(), StoreError> {
        let values = server.store.values(&account.jid, Self::NAME).await?;
        if !values.is_empty() {
            account.set(self.list, List(values.into_iter().map(|(jid, _)| jid.into()).collect()));
        }
        Ok(())
    }

    // ---- the list -------------------------------------------------------------------------------------------------

    async fn get(self: Arc<Self>, call: Call) -> IqResult {
        let account = own(&call)?;
        if let Some(session) = &call.session {
            session.set(self.asked, ());
        }
        let list = account.get(self.list).unwrap_or_default();
        Ok(Some(items("blocklist", list.0.iter().map(AsRef::as_ref))))
    }

    async fn block(self: Arc<Self>, call: Call) -> IqResult {
        let account = own(&call)?;
        let named = named(&call.payload)?;
        if named.is_empty() {
            return Err(StanzaError::new(Condition::BadRequest).with_text("There is no <item/> to block."));
        }
        if named.iter().any(|jid| jid.bare_str() == account.jid.as_str()) {
            return Err(StanzaError::new(Condition::NotAcceptable).with_text("You cannot block yourself."));
        }
        let turn = account.turn().await;
        let before = account.get(self.list).unwrap_or_default();
        let new: BTreeSet<Box<str>> =
            named.iter().map(|jid| jid.as_str().into()).filter(|jid| !before.0.contains(jid)).collect();
        if before.0.len() + new.len() > self.limit {
            let text = "You block as many addresses as are allowed.";
            return Err(StanzaError::new(Condition::ResourceConstraint).with_text(text));
        }
        let now = datetime::format_seconds(std::time::SystemTime::now()).into_bytes();
        let list = List(before.0.iter().chain(&new).cloned().collect());
        self.store(&call.server, &account, new.iter().map(|jid| (jid.to_string(), Some(now.clone())))).await?;
        let goodbyes = goodbyes(&call.server, &account, &before, &list);
        account.set(self.list, list);
        drop(turn);
        self.push(&account, &items("block", named.iter().map(Jid::as_str)));
        for goodbye in goodbyes {
            // Past the guard, which would keep it back from now on.
            call.server.route(goodbye).await;
        }
        Ok(None)
    }

    async fn unblock(self: Arc<Self>, call: Call) -> IqResult {
        let account = own(&call)?;
        let named = named(&call.payload)?;
        let turn = account.turn().await;
        let before = account.get(self.list).unwrap_or_default();
        let gone: BTreeSet<Box<str>> = match named.as_slice() {
            [] => before.0.clone(),
            named => named.iter().map(|jid| jid.as_str().into()).filter(|jid| before.0.contains(jid)).collect(),
        };
        let list = List(before.0.difference(&gone).cloned().collect());
        self.store(&call.server, &account, gone.iter().map(|jid| (jid.to_string(), None))).await?;
        account.set(self.list, list.clone());
        drop(turn);
        self.push(&account, &items("unblock", named.iter().map(Jid::as_str)));
        for greeting in greetings(&account, &before, &list) {
            call.server.route_from(&account, greeting).await;
        }
        Ok(None)
    }

    async fn store(
        &self,
        server: &Server,
        account: &Account,
        changes: impl Iterator<Item = (String, Option<Vec<u8>>)>,
    ) -> Result<(), StanzaError> {
        if account.is_deleted() {
            return Err(StanzaError::new(Condition::ServiceUnavailable));
        }
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            Ok(())
        } else {
            Ok(server.store.set_values(&account.jid, Self::NAME, &changes).await?)
        }
    }

    /// Tells all resources that have asked for the list, the one that has changed it too (§3.3).
    fn push(&self, account: &Account, change: &Element) {
        for session in account.sessions().iter().filter(|session| session.get(self.asked).is_some()) {
            // Without random numbers the system has worse troubles than a client that sees the change later.
            if let Ok(id) = random_id() {
                let push =
                    Stanza::iq(IqType::Set, id).from(account.jid.clone()).to(session.jid.clone()).child(change.clone());
                session.send(push);
            }
        }
    }

    fn save(self: &Arc<Self>, _: &Arc<Server>, session: &Arc<Session>) -> Option<Element> {
        session.get(self.asked).map(|()| Element::new("asked", ""))
    }

    // ---- the guards -----------------------------------------------------------------------------------------------

    fn blocks(&self, account: &Account, who: &Jid) -> bool {
        account.with(self.list, |list| list.holds(who)) == Some(true)
            && who.bare_str() != account.jid.as_str()
            && who.bare_str() != account.jid.domainpart()
    }

    fn outgoing(self: &Arc<Self>, cx: &Cx<'_>, stanza: &mut Stanza) -> Flow {
        match &stanza.head.to {
            Some(to) if self.blocks(cx.account, to) => {
                let blocked = Element::new("blocked", ns::BLOCKING_ERRORS);
                Flow::Reject(StanzaError::new(Condition::NotAcceptable).with_kind(ErrorKind::Cancel).with_app(blocked))
            }
            _ => Flow::Next,
        }
    }

    fn incoming(self: &Arc<Self>, cx: &Cx<'_>, stanza: &mut Stanza) -> Flow {
        match &stanza.head.from {
            Some(from) if self.blocks(cx.account, from) => match stanza.head.kind {
                Kind::Message(MessageType::Normal | MessageType::Chat) | Kind::Iq(IqType::Get | IqType::Set) => {
                    Flow::Reject(StanzaError::new(Condition::ServiceUnavailable))
                }
                _ => Flow::Done,
            },
            _ => Flow::Next,
        }
    }
}

/// The account, if its own user asks; all others are told nothing of it.
fn own(call: &Call) -> Result<Arc<Account>, StanzaError> {
    let account = call.account.clone().filter(|_| call.is_own());
    account.ok_or_else(|| StanzaError::new(Condition::ServiceUnavailable))
}

/// The addresses in a command.
fn named(command: &Element) -> Result<Vec<Jid>, StanzaError> {
    let items = command.elements().filter(|item| item.is("item", ns::BLOCKING));
    items
        .map(|item| {
            let jid = item
                .get("jid")
                .ok_or_else(|| StanzaError::new(Condition::BadRequest).with_text("An <item/> has no 'jid'."))?;
            Jid::new(jid).map_err(|error| StanzaError::new(Condition::JidMalformed).with_text(error.to_string()))
        })
        .collect()
}

fn items<'a>(name: &'static str, jids: impl Iterator<Item = &'a str>) -> Element {
    Element::new(name, ns::BLOCKING).children(jids.map(|jid| Element::new("item", ns::BLOCKING).attr("jid", jid)))
}

/// Unavailable presence for those who are blocked now and were not before, and have seen a session of the user.
fn goodbyes(server: &Server, account: &Account, before: &List, after: &List) -> Vec<Stanza> {
    let is_new = |who: &Jid| after.holds(who) && !before.holds(who) && who.bare_str() != account.jid.as_str();
    let mut stanzas = Vec::new();
    for session in account.sessions() {
        let leave = |to: Jid| Stanza::presence(PresenceType::Unavailable).from(session.jid.clone()).to(to);
        if session.is_available() {
            stanzas
                .extend(contacts(account, after, |item| item.is_from()).into_iter().filter(|to| is_new(to)).map(leave));
        }
        let directed =
            session.update(server.directed, |directed| directed.extract_if(.., |who| is_new(who)).collect::<Vec<_>>());
        let told = |to: &Jid| session.is_available() && account.roster().subscription(to.bare_str()).is_from();
        stanzas.extend(directed.unwrap_or_default().into_iter().filter(|to| !told(to)).map(leave));
    }
    stanzas
}

/// The user's presence for those who are not blocked any more, and a question for theirs, which was kept back.
fn greetings(account: &Account, before: &List, after: &List) -> Vec<Stanza> {
    let is_freed = |who: &Jid| before.holds(who) && !after.holds(who);
    let available = |session: &Arc<Session>| Some((session.jid.clone(), session.presence()?));
    let mut stanzas = Vec::new();
    for (jid, presence) in account.sessions().iter().filter_map(available) {
        let see_us = contacts(account, before, |item| item.is_from()).into_iter().filter(|to| is_freed(to));
        stanzas.extend(see_us.map(|to| Stanza::clone(&presence).to(to)));
        let seen = contacts(account, before, |item| item.is_to()).into_iter().filter(|to| is_freed(to));
        stanzas.extend(seen.map(|to| Stanza::presence(PresenceType::Probe).from(jid.clone()).to(to)));
    }
    stanzas
}

/// The contacts with such a subscription, and those of their resources that the list names.
fn contacts(account: &Account, list: &List, is: impl Fn(Subscription) -> bool) -> Vec<Jid> {
    let roster = account.roster();
    let whole = roster.items().filter(|item| is(item.subscription)).map(|item| Jid::from(item.jid.clone()));
    let named = list
        .0
        .iter()
        .filter_map(|jid| Jid::new(jid).ok())
        .filter(|jid| !jid.is_bare() && is(roster.subscription(jid.bare_str())));
    whole.chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_matched_as_section_5_says() {
        for (item, matches, passes) in [
            (
                "user@domain/resource",
                vec!["user@domain/resource"],
                vec!["user@domain", "user@domain/other", "domain/resource", "domain"],
            ),
            (
                "user@domain",
                vec!["user@domain", "user@domain/any"],
                vec!["other@domain", "domain", "domain/user@domain"],
            ),
            ("domain/resource", vec!["domain/resource"], vec!["domain", "user@domain/resource", "user@domain"]),
            (
                "domain",
                vec!["domain", "user@domain", "user@domain/any", "domain/any"],
                vec!["sub.domain", "user@sub.domain"],
            ),
        ] {
            let list = List(BTreeSet::from([item.into()]));
            for who in matches {
                assert!(list.holds(&Jid::new(who).unwrap()), "{item} is {who}");
            }
            for who in passes {
                assert!(!list.holds(&Jid::new(who).unwrap()), "{item} is not {who}");
            }
        }
    }
}
