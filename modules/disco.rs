//! XEP-0030: Service Discovery, and XEP-0128 beside it. What is said is what the host's modules have registered: nothing
//! is announced that no module answers for.
//!
//! An account is described to its owner and to those who may see its presence; to all others it does not answer, as if
//! it did not exist (XEP-0030 §8).

use std::sync::Arc;

use rookery_core::host::CAPS_NODE;
use rookery_core::module::{Call, Fault, Hooks, IqResult, Module, Setup, Target, Xep};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::IqType;

/// Says what the server and its accounts can do.
pub struct Disco;

impl Module for Disco {
    const NAME: &'static str = "disco";
    const XEPS: &'static [Xep] = &[Xep(30, "2.5.0"), Xep(128, "1.0.1")];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::DISCO_INFO)
            .disco(ns::DISCO_ITEMS)
            .account_disco(ns::DISCO_INFO)
            .account_disco(ns::DISCO_ITEMS)
            .iq(IqType::Get, Target::Server, ns::DISCO_INFO, "query", Self::server_info)
            .iq(IqType::Get, Target::Server, ns::DISCO_ITEMS, "query", Self::server_items)
            .iq(IqType::Get, Target::Account, ns::DISCO_INFO, "query", Self::account_info)
            .iq(IqType::Get, Target::Account, ns::DISCO_ITEMS, "query", Self::account_items);
    }
}

impl Disco {
    async fn server_info(self: Arc<Self>, call: Call) -> IqResult {
        let info = call.host.info().clone();
        let Some(node) = call.payload.get("node") else { return Ok(Some(info)) };
        // A node is one that our entity capabilities have named (XEP-0115 §6.2), or nothing.
        let named = call.host.caps().is_some_and(|ver| node.strip_prefix(CAPS_NODE).is_some_and(|rest| rest.strip_prefix('#') == Some(ver)));
        if named { Ok(Some(info.attr("node", node))) } else { Err(StanzaError::new(Condition::ItemNotFound)) }
    }

    async fn server_items(self: Arc<Self>, call: Call) -> IqResult {
        no_node(&call)?;
        let components = call.server.components_of(&call.host);
        let items = components.iter().map(|domain| Element::new("item", ns::DISCO_ITEMS).attr("jid", domain.as_str()));
        Ok(Some(Element::new("query", ns::DISCO_ITEMS).children(items)))
    }

    async fn account_info(self: Arc<Self>, call: Call) -> IqResult {
        may_see(&call)?;
        no_node(&call)?;
        let identity = Element::new("identity", ns::DISCO_INFO).attr("category", "account").attr("type", "registered");
        let mut features = call.host.table.account_features.clone();
        features.sort_unstable();
        features.dedup();
        let features = features.iter().map(|feature| Element::new("feature", ns::DISCO_INFO).attr("var", *feature));
        Ok(Some(Element::new("query", ns::DISCO_INFO).child(identity).children(features)))
    }

    async fn account_items(self: Arc<Self>, call: Call) -> IqResult {
        may_see(&call)?;
        no_node(&call)?;
        Ok(Some(Element::new("query", ns::DISCO_ITEMS)))
    }
}

fn may_see(call: &Call) -> Result<(), StanzaError> {
    let subscribed = || call.account.as_ref().is_some_and(|account| account.roster().subscription(call.from.bare_str()).is_from());
    if call.is_own() || subscribed() { Ok(()) } else { Err(StanzaError::new(Condition::ServiceUnavailable)) }
}

fn no_node(call: &Call) -> Result<(), StanzaError> {
    if call.payload.get("node").is_some() { Err(StanzaError::new(Condition::ItemNotFound)) } else { Ok(()) }
}
