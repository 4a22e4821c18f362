//! A stanza that comes from another server or from a component: who may say it, and what of it is believed.
//!
//! `from` belongs to a domain that is authenticated on that very stream for that very pair, `to` is one of ours; anything
//! else ends the stream, and nothing is routed (RFC 6120 §8.1.2.2, §4.9.3; security.md A11, A12). Addresses are normalised
//! when they are parsed, so that there is one way to write a domain here.

use std::sync::Arc;

use rookery_xmpp::error::{StreamCondition, StreamError};
use rookery_xmpp::jid::{BareJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Kind, Stanza};
use tracing::debug;

use super::Inbound;
use crate::server::Server;
use crate::session::Receipt;

/// Elements that only the recipient's own server may write; archives' results are not among them, since remote rooms send
/// theirs.
const OWN_SERVERS: &[(&str, &str)] = &[(ns::CARBONS, "received"), (ns::CARBONS, "sent")];

impl Server {
    /// Handles a stanza that another server has sent. `may_speak` says of (the domain of `from`, the domain of `to`) whether
    /// the stream is authenticated for them. An error ends the stream; nothing was routed then.
    pub async fn accept_remote(
        self: &Arc<Self>,
        inbound: &Arc<Inbound>,
        may_speak: impl Fn(&str, &str) -> bool,
        stanza: Stanza,
        receipt: Option<Receipt>,
    ) -> Result<(), StreamError> {
        let (from, to) = addresses(&stanza)?;
        if !self.is_ours(to) {
            let text = format!("{to} is not served here.");
            return Err(StreamError::new(StreamCondition::HostUnknown).with_text(text));
        }
        // Whoever is let in may not speak for us, whatever the stream thinks of it.
        if !may_speak(from, to) || self.is_ours(from) {
            return Err(StreamError::new(StreamCondition::InvalidFrom));
        }
        self.may_federate(from)?;
        self.take_in(inbound, stanza, receipt).await;
        Ok(())
    }

    /// The same for a component, which may speak to everybody, and for its own domain alone (XEP-0114).
    pub async fn accept_component(
        self: &Arc<Self>,
        inbound: &Arc<Inbound>,
        component: &BareJid,
        stanza: Stanza,
        receipt: Option<Receipt>,
    ) -> Result<(), StreamError> {
        let (from, _) = addresses(&stanza)?;
        if from != component.as_str() {
            return Err(StreamError::new(StreamCondition::InvalidFrom));
        }
        if self.conf().component(from).is_none() {
            // It was let in under an earlier conf.
            return Err(StreamError::new(StreamCondition::HostGone).with_text("The conf has this component no more."));
        }
        self.take_in(inbound, stanza, receipt).await;
        Ok(())
    }

    async fn take_in(self: &Arc<Self>, inbound: &Arc<Inbound>, mut stanza: Stanza, receipt: Option<Receipt>) {
        if matches!(stanza.head.kind, Kind::Message(_)) {
            let had = stanza.strip(OWN_SERVERS);
            if had > 0 && stanza.child_count() == 0 {
                // A forged carbon copy and nothing else (security.md C1).
                return debug!(stream = inbound.id(), "a carbon copy that another server made is dropped");
            }
            let is_ours = |by: &str| Jid::new(by.trim()).is_ok_and(|by| self.is_ours(by.domainpart()));
            if stanza.has("stanza-id", ns::SID) {
                stanza.retain_elements(|e| !(e.is("stanza-id", ns::SID) && e.get("by").is_none_or(is_ours)));
            }
        }
        self.dispatch(stanza, receipt.map(Arc::new), None).await;
    }
}

/// The domains of a stanza between servers, which has both addresses (RFC 6120 §4.9.3.7).
fn addresses(stanza: &Stanza) -> Result<(&str, &str), StreamError> {
    match (&stanza.head.from, &stanza.head.to) {
        (Some(from), Some(to)) => Ok((from.domainpart(), to.domainpart())),
        _ => Err(StreamError::new(StreamCondition::ImproperAddressing)),
    }
}
