//! A virtual host: one of the domains that the server serves, with its own modules and options.

use std::sync::{Arc, OnceLock};

use rookery_xmpp::caps;
use rookery_xmpp::element::Element;
use rookery_xmpp::jid::BareJid;
use rookery_xmpp::ns;

use crate::module::{Offer, Table, When};
use crate::server::Server;

/// The name under which servers of this kind announce their capabilities (XEP-0115 §4: a URI of the software).
pub const CAPS_NODE: &str = "urn:x-rookery:server";

/// One served domain.
pub struct Host {
    /// Its name.
    pub domain: BareJid,
    /// The hooks of its modules.
    pub table: Table,
    info: OnceLock<(Element, Option<String>)>,
}

impl Host {
    pub(crate) fn new(domain: BareJid, table: Table) -> Arc<Self> {
        Arc::new(Self { domain, table, info: OnceLock::new() })
    }

    /// The stream features that its modules add.
    pub fn stream_features(&self, server: &Arc<Server>, when: When, secured: bool) -> Vec<Element> {
        let offer = Offer { server, host: self, secured };
        self.table
            .stream_features
            .iter()
            .filter(|(at, _)| *at == when)
            .filter_map(|(_, feature)| feature(&offer))
            .collect()
    }

    /// The domains of its components, for disco#items.
    pub fn components(&self) -> impl Iterator<Item = &BareJid> {
        self.table.components.iter().map(|(domain, ..)| domain)
    }

    /// What the domain says of itself (XEP-0030 §3): made once, since the modules cannot change.
    pub fn info(&self) -> &Element {
        &self.described().0
    }

    /// The verification string of [`Self::info`] (XEP-0115 §5).
    pub fn caps(&self) -> Option<&str> {
        self.described().1.as_deref()
    }

    fn described(&self) -> &(Element, Option<String>) {
        self.info.get_or_init(|| {
            let identity = Element::new("identity", ns::DISCO_INFO)
                .attr("category", "server")
                .attr("type", "im")
                .attr("name", "Rookery");
            let mut features = self.table.features.clone();
            features.sort_unstable();
            features.dedup();
            let features = features.iter().map(|feature| Element::new("feature", ns::DISCO_INFO).attr("var", *feature));
            let info =
                Element::new("query", ns::DISCO_INFO).child(identity).children(features).children(self.table.extras());
            let caps = caps::hash(&info, caps::Hash::Sha1).ok();
            (info, caps)
        })
    }
}
