//! XEP-0199: XMPP Ping. The server answers for itself and for accounts; pings to full JIDs are the client's to answer.
//! Strangers get no answer for an account, as if it did not exist.

use std::sync::Arc;

use rookery_core::module::{Call, Fault, Hooks, IqResult, Module, Setup, Target, Xep};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::IqType;

/// Answers pings.
pub struct Ping;

impl Module for Ping {
    const NAME: &'static str = "ping";
    const XEPS: &'static [Xep] = &[Xep(199, "2.0.1")];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::PING).account_disco(ns::PING).iq(IqType::Get, Target::Server, ns::PING, "ping", Self::pong).iq(
            IqType::Get,
            Target::Account,
            ns::PING,
            "ping",
            Self::pong,
        );
    }
}

impl Ping {
    async fn pong(self: Arc<Self>, call: Call) -> IqResult {
        if call.account.is_some() {
            call.may_see()?;
        }
        Ok(None)
    }
}
