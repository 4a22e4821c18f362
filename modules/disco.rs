//! XEP-0030: Service Discovery, and beside it XEP-0128, with the contact addresses of XEP-0157. What is said is what the host's modules have registered: nothing
//! is announced that no module answers for.
//!
//! An account is described to its owner and to those who may see its presence; to all others it does not answer, as if
//! it did not exist (XEP-0030 §8).

use std::sync::Arc;

use rookery_core::host::CAPS_NODE;
use rookery_core::module::{Call, Fault, Hooks, IqResult, Module, Setup, Target, Xep};
use rookery_xmpp::dataform::{Field, FieldType, Form, FormType};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::IqType;
use serde::Deserialize;

/// Says what the server and its accounts can do.
pub struct Disco {
    contacts: DiscoConf,
}

/// `[modules.disco]`: where to reach those who run the server, as URIs (XEP-0157 §3): `mailto:`, `xmpp:`, `https:`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscoConf {
    /// For reports of abuse.
    pub abuse: Vec<String>,
    /// The administrators.
    pub admin: Vec<String>,
    /// For what users have to say.
    pub feedback: Vec<String>,
    /// For customers.
    pub sales: Vec<String>,
    /// For reports of security holes.
    pub security: Vec<String>,
    /// Where outages are told.
    pub status: Vec<String>,
    /// For users in need of help.
    pub support: Vec<String>,
}

impl DiscoConf {
    fn by_kind(&self) -> [(&'static str, &[String]); 7] {
        [
            ("abuse", &self.abuse),
            ("admin", &self.admin),
            ("feedback", &self.feedback),
            ("sales", &self.sales),
            ("security", &self.security),
            ("status", &self.status),
            ("support", &self.support),
        ]
    }
}

impl Module for Disco {
    const NAME: &'static str = "disco";
    const XEPS: &'static [Xep] = &[Xep(30, "2.5.0"), Xep(128, "1.0.1"), Xep(157, "1.1.1")];
    type Config = DiscoConf;

    fn judge(contacts: &DiscoConf) -> Result<(), Fault> {
        for (option, addresses) in contacts.by_kind() {
            if let Some(address) = addresses.iter().find(|address| !is_uri(address)) {
                let why = format!(
                    "\"{address}\" is no URI: write one such as \"mailto:xmpp@example.org\" or \"xmpp:admin@example.org\""
                );
                return Err(Fault { option, why });
            }
        }
        Ok(())
    }

    fn new(contacts: DiscoConf, _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self { contacts })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::DISCO_INFO)
            .disco(ns::DISCO_ITEMS)
            .disco_extra(Self::contacts)
            .account_disco(ns::DISCO_INFO)
            .account_disco(ns::DISCO_ITEMS)
            .iq(IqType::Get, Target::Server, ns::DISCO_INFO, "query", Self::server_info)
            .iq(IqType::Get, Target::Server, ns::DISCO_ITEMS, "query", Self::server_items)
            .iq(IqType::Get, Target::Account, ns::DISCO_INFO, "query", Self::account_info)
            .iq(IqType::Get, Target::Account, ns::DISCO_ITEMS, "query", Self::account_items);
    }
}

impl Disco {
    /// XEP-0157, unless the conf names nobody.
    fn contacts(&self) -> Vec<Element> {
        let named = self.contacts.by_kind().into_iter().filter(|(_, addresses)| !addresses.is_empty());
        let fields: Vec<Field> = named
            .map(|(kind, addresses)| {
                Field::new(FieldType::ListMulti, format!("{kind}-addresses")).values(addresses.iter().cloned())
            })
            .collect();
        if fields.is_empty() {
            Vec::new()
        } else {
            vec![Form::new(FormType::Result).form_type(ns::SERVER_INFO).fields(fields).to_element()]
        }
    }

    async fn server_info(self: Arc<Self>, call: Call) -> IqResult {
        let info = call.host.info().clone();
        let Some(node) = call.payload.get("node") else { return Ok(Some(info)) };
        // A node is one that our entity capabilities have named (XEP-0115 §6.2), or nothing.
        let named = call
            .host
            .caps()
            .is_some_and(|ver| node.strip_prefix(CAPS_NODE).is_some_and(|rest| rest.strip_prefix('#') == Some(ver)));
        if named { Ok(Some(info.attr("node", node))) } else { Err(no_such_node()) }
    }

    async fn server_items(self: Arc<Self>, call: Call) -> IqResult {
        if call.payload.get("node").is_some() {
            return Err(no_such_node());
        }
        let conf = call.server.conf();
        let external = conf.components().iter().map(|component| &component.domain);
        let external = external
            .filter(|domain| conf.host_of_component(domain).is_some_and(|host| host.domain == call.host.domain));
        let items = call.host.components().chain(external);
        let items = items.map(|domain| Element::new("item", ns::DISCO_ITEMS).attr("jid", domain.as_str()));
        Ok(Some(Element::new("query", ns::DISCO_ITEMS).children(items)))
    }

    async fn account_info(self: Arc<Self>, call: Call) -> IqResult {
        call.may_see()?;
        if let Some(node) = call.payload.get("node") {
            let host = call.host.clone();
            let (info, _) = host.table.account_node(node).ok_or_else(no_such_node)?;
            return info(call).await;
        }
        let identity = Element::new("identity", ns::DISCO_INFO).attr("category", "account").attr("type", "registered");
        let mut features = call.host.table.account_features.clone();
        features.sort_unstable();
        features.dedup();
        let features = features.iter().map(|feature| Element::new("feature", ns::DISCO_INFO).attr("var", *feature));
        Ok(Some(Element::new("query", ns::DISCO_INFO).child(identity).children(features)))
    }

    async fn account_items(self: Arc<Self>, call: Call) -> IqResult {
        call.may_see()?;
        if let Some(node) = call.payload.get("node") {
            let host = call.host.clone();
            let (_, items) = host.table.account_node(node).ok_or_else(no_such_node)?;
            return items(call).await;
        }
        Ok(Some(Element::new("query", ns::DISCO_ITEMS)))
    }
}

/// Whether a text begins with the scheme of a URI (RFC 3986 §3.1) and goes on.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme && !rest.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn no_such_node() -> StanzaError {
    StanzaError::new(Condition::ItemNotFound)
}
