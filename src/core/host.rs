//! A virtual host: one of the domains that the server serves, with its own modules and options.

use std::sync::Arc;

use rookery_xmpp::element::Element;
use rookery_xmpp::jid::BareJid;

use crate::module::{Offer, Table, When};
use crate::server::Server;

/// One served domain.
pub struct Host {
    /// Its name.
    pub domain: BareJid,
    /// The hooks of its modules.
    pub table: Table,
}

impl Host {
    /// The stream features that its modules add.
    pub fn stream_features(&self, server: &Arc<Server>, when: When, secured: bool) -> Vec<Element> {
        let offer = Offer { server, host: self, secured };
        self.table.stream_features.iter().filter(|(at, _)| *at == when).filter_map(|(_, feature)| feature(&offer)).collect()
    }
}
