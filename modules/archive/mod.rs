//! XEP-0313: Message Archive Management, with preferences (XEP-0441) and search by words (XEP-0431). Says which messages
//! are archived and answers questions to an account's archive. Core writes the archive, which is also the queue of what
//! waits for the account: a result that a client has got is delivered.
//!
//! An archive is its user's alone: others get the error for accounts that do not exist (security.md A5), where §8.1 has
//! `<forbidden/>`. What is said in rooms is not in it. A session's queries are answered one after the other, each as fast as
//! the session reads; what it is sent otherwise goes between the results.
//!
//! `<x xmlns='http://jabber.org/protocol/muc#user'/>` stays in what is archived: §8.4 is for rooms, whose archives say by it
//! who spoke. In a user's it is an invitation, or the mark of a private message.

mod displayed;
mod preferences;
mod worth;

use std::sync::Arc;

use rookery_core::account::Account;
use rookery_core::archive::asking::{self, Asking};
use rookery_core::archive::keeping::{self, Keeping};
use rookery_core::archive::pages::{self, Whole};
use rookery_core::archive::query::{self, Offer, Query};
use rookery_core::archive::{Results, result};
use rookery_core::config::Count;
use rookery_core::module::{Call, Cx, Fault, Flow, Hooks, IqResult, Module, Setup, Stage, Target, Way, Xep};
use rookery_core::retention::Keep;
use rookery_core::server::Server;
use rookery_core::session::Session;
use rookery_core::slots::Slot;
use rookery_core::store::{ArchivedMessage, StoreError};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::Jid;
use rookery_xmpp::limits::Limits;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Stanza};
use serde::Deserialize;
use tracing::error;

pub use self::preferences::Policy;
use self::preferences::Preferences;

/// The key of the stored preferences.
const PREFERENCES: &str = "preferences";

/// Keeps archives and answers for them.
pub struct Archive {
    /// Those of users who have said nothing.
    default: Arc<Preferences>,
    addresses: usize,
    offer: Offer,
    preferences: Slot<Arc<Preferences>>,
    waiting: Slot<displayed::Waiting>,
    asking: Asking,
    keeping: Arc<Keeping>,
}

/// `[modules.archive]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveConf {
    /// What is archived for users who have not said what they want.
    pub default: Policy,
    /// Messages in an answer to a query that does not say how many.
    pub page: Count<1, 1000>,
    /// Messages in any answer.
    pub page_most: Count<1, 1000>,
    /// How long messages are kept.
    pub keep: Keep,
    /// Whether messages may be searched for by words.
    pub search: bool,
    /// Addresses in the lists of one user's preferences.
    pub addresses: Count<0, 100_000>,
}

impl Default for ArchiveConf {
    fn default() -> Self {
        Self {
            default: Policy::Always,
            page: Count::new(50),
            page_most: Count::new(250),
            keep: Keep::Forever,
            search: true,
            addresses: Count::new(1000),
        }
    }
}

impl Module for Archive {
    const NAME: &'static str = "archive";
    const XEPS: &'static [Xep] =
        &[Xep(59, "1.0"), Xep(297, "1.0"), Xep(313, "1.1.3"), Xep(334, "1.0.0"), Xep(431, "0.2.0"), Xep(441, "0.2.0")];
    type Config = ArchiveConf;

    fn judge(config: &ArchiveConf) -> Result<(), Fault> {
        if config.page.get() > config.page_most.get() {
            let why = format!("this is more than \"page_most\" allows, which is {}", config.page_most);
            return Err(Fault { option: "page", why });
        }
        Ok(())
    }

    fn new(config: ArchiveConf, setup: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self {
            default: Arc::new(Preferences::new(config.default)),
            addresses: config.addresses.len(),
            offer: Offer {
                page: config.page.len(),
                most: config.page_most.len(),
                search: config.search,
                groupchat: true,
            },
            preferences: setup.account_slot("preferences"),
            waiting: setup.account_slot("waiting"),
            asking: Asking::new(setup),
            keeping: Arc::new(Keeping::new(setup.domain.clone(), config.keep)),
        })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.account_disco(ns::MAM)
            .account_disco(ns::MAM_EXTENDED)
            .account_disco(ns::MAM_GROUPCHAT_FIELD)
            .account_disco(ns::SID)
            .load(Self::load)
            .iq(IqType::Get, Target::Account, ns::MAM, "query", Self::form)
            .iq_answered(IqType::Set, Target::Account, ns::MAM, "query", Self::query)
            .iq(IqType::Get, Target::Account, ns::MAM, "metadata", Self::metadata)
            .iq(IqType::Get, Target::Account, ns::MAM, "prefs", Self::preferences)
            .iq(IqType::Set, Target::Account, ns::MAM, "prefs", Self::set_preferences)
            .message(Way::Outgoing, Stage::Archive, Self::outgoing)
            .message(Way::Incoming, Stage::Archive, Self::incoming)
            .message(Way::Outgoing, Stage::Deliver, Self::displayed)
            .every(keeping::EXPIRY, |archive, server| archive.keeping.expire(server));
        if on.module().offer.search {
            on.account_disco(ns::FULLTEXT);
        }
    }
}

impl Archive {
    async fn load(self: Arc<Self>, server: Arc<Server>, account: Arc<Account>) -> Result<(), StoreError> {
        let Some(value) = server.store.value(&account.jid, Self::NAME, PREFERENCES).await? else { return Ok(()) };
        match read(&value) {
            Some(preferences) => account.set(self.preferences, Arc::new(preferences)),
            None => error!(account = %account.jid, "stored preferences cannot be read; the conf's hold"),
        }
        Ok(())
    }

    // ---- what is archived -----------------------------------------------------------------------------------------

    fn outgoing(self: &Arc<Self>, cx: &Cx<'_>, message: &mut Stanza) -> Flow {
        self.archive(cx, message.head.to.as_ref(), message);
        Flow::Next
    }

    fn incoming(self: &Arc<Self>, cx: &Cx<'_>, message: &mut Stanza) -> Flow {
        self.archive(cx, message.head.from.as_ref(), message);
        Flow::Next
    }

    fn archive(&self, cx: &Cx<'_>, peer: Option<&Jid>, message: &Stanza) {
        let account = cx.account;
        // Users are in their own roster, as far as this goes (RFC 6121 §4.2.2 has it alike).
        let is_in_roster =
            |peer: &Jid| peer.bare_str() == account.jid.as_str() || account.roster().get(peer.bare_str()).is_some();
        if let Some(peer) = peer
            && worth::is_worth(message)
            && self.preferences_of(account).archives(peer, || is_in_roster(peer))
        {
            cx.archive();
        }
    }

    // ---- preferences ----------------------------------------------------------------------------------------------

    fn preferences_of(&self, account: &Account) -> Arc<Preferences> {
        account.get(self.preferences).unwrap_or_else(|| self.default.clone())
    }

    async fn preferences(self: Arc<Self>, call: Call) -> IqResult {
        let (account, _) = own(&call)?;
        Ok(Some(self.preferences_of(&account).to_element()))
    }

    async fn set_preferences(self: Arc<Self>, call: Call) -> IqResult {
        let (account, _) = own(&call)?;
        let preferences = Preferences::read(&call.payload)?;
        if preferences.len() > self.addresses {
            let text = format!("The lists may have {} addresses.", self.addresses);
            return Err(StanzaError::new(Condition::ResourceConstraint).with_kind(ErrorKind::Modify).with_text(text));
        }
        let prefs = preferences.to_element();
        let _turn = account.turn().await;
        if account.is_deleted() {
            return Err(StanzaError::new(Condition::ServiceUnavailable));
        }
        let value = (PREFERENCES.to_owned(), Some(prefs.to_xml().into_bytes()));
        call.server.store.set_values(&account.jid, Self::NAME, &[value]).await?;
        account.set(self.preferences, Arc::new(preferences));
        Ok(Some(prefs))
    }

    // ---- queries --------------------------------------------------------------------------------------------------

    async fn form(self: Arc<Self>, call: Call) -> IqResult {
        own(&call)?;
        Ok(Some(query::form(self.offer)))
    }

    async fn metadata(self: Arc<Self>, call: Call) -> IqResult {
        let (account, _) = own(&call)?;
        self.asking.pace(&account).wait().await;
        call.server.recorded(&account).await?;
        Ok(Some(result::metadata(call.server.store.archive_ends(&account.jid).await?)))
    }

    async fn query(self: Arc<Self>, call: Call) -> Result<(), StanzaError> {
        let (_, session) = own(&call)?;
        let query = Query::read(&call.payload, self.offer)?;
        let place = self.asking.line_up(&session)?;
        // The session has to read for this to go on, and its own connection may be the one that has brought the query.
        let Call { server, mut stanza, .. } = call;
        asking::lighten(&mut stanza);
        server.clone().beside(async move {
            let _turn = place.turn().await;
            if let Err(error) = self.answer(&server, &session, &stanza, &query).await {
                server.bounce(&stanza, error, Some(&session)).await;
            }
        });
        Ok(())
    }

    /// Sends a page and its end. A session that ends meanwhile is owed nothing more.
    async fn answer(
        &self,
        server: &Arc<Server>,
        session: &Arc<Session>,
        request: &Stanza,
        query: &Query,
    ) -> Result<(), StanzaError> {
        let account = &session.account;
        let pace = self.asking.pace(account);
        pace.wait().await;
        // Nothing is read before there is room for it: what a slow client asks for costs no memory.
        if !session.room().await {
            return Ok(());
        }
        // To count a long archive, or to look through it, takes the database some time (security.md B16).
        let page = pace.work(Self::read(server, session, query)).await?;
        let page = page.ok_or_else(|| StanzaError::new(Condition::ItemNotFound))?;
        let fin = result::fin(&page);
        let push = |piece: &Results, message: &ArchivedMessage| {
            let result = result::result(&account.jid, &session.jid, query.id.as_deref(), message);
            if result.is_none() {
                error!(account = %account.jid, id = message.id, "an archived message cannot be read");
            }
            Some(piece.push(message, result?))
        };
        if asking::deliver(session, page, query.flip, push).await {
            session.send(request.result(Some(fin)));
        }
        Ok(())
    }

    async fn read(
        server: &Arc<Server>,
        session: &Arc<Session>,
        query: &Query,
    ) -> Result<Option<Whole<Results>>, StanzaError> {
        if query.archive.words.is_some() {
            server.recorded(&session.account).await?;
            server.make_findable(&session.account.jid).await?;
        }
        let page = pages::read(&query.archive, |piece| {
            let (server, session) = (server.clone(), session.clone());
            async move { server.archive_page(&session, &piece).await }
        });
        page.await
    }
}

/// The account and the session, if the account's own user asks; all others are told nothing of it.
fn own(call: &Call) -> Result<(Arc<Account>, Arc<Session>), StanzaError> {
    let account = call.account.clone().filter(|_| call.is_own());
    account.zip(call.session.clone()).ok_or_else(|| StanzaError::new(Condition::ServiceUnavailable))
}

/// Reads stored preferences. What was accepted once is within bounds, whatever the conf says today.
fn read(value: &[u8]) -> Option<Preferences> {
    let limits = Limits { element_bytes: u32::MAX, elements: u32::MAX, ..Limits::s2s() };
    Preferences::read(&Element::parse(value, limits).ok()?).ok()
}
