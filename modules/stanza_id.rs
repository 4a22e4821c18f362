//! XEP-0359: Unique and Stable Stanza IDs. Core assigns the ids, under the account's lock and before anything is stored,
//! and takes out those that clients forge; what is left to do is to say so.

use rookery_core::module::{Fault, Hooks, Module, Setup, Xep};
use rookery_xmpp::ns;

/// Announces stanza ids.
pub struct StanzaId;

impl Module for StanzaId {
    const NAME: &'static str = "stanza_id";
    const XEPS: &'static [Xep] = &[Xep(359, "0.7.0")];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.account_disco(ns::SID);
    }
}
