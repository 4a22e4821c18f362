//! XEP-0202: Entity Time. The server's clock, always in UTC: where the server stands is nobody's business.

use std::sync::Arc;
use std::time::SystemTime;

use rookery_core::module::{Call, Fault, Hooks, IqResult, Module, Setup, Target, Xep};
use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::IqType;

/// Tells the time.
pub struct Time;

impl Module for Time {
    const NAME: &'static str = "time";
    const XEPS: &'static [Xep] = &[Xep(202, "2.0"), Xep(82, "1.1.1")];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::TIME).iq(IqType::Get, Target::Server, ns::TIME, "time", Self::time);
    }
}

impl Time {
    async fn time(self: Arc<Self>, _: Call) -> IqResult {
        let time = Element::new("time", ns::TIME)
            .child(Element::new("tzo", ns::TIME).text("+00:00"))
            .child(Element::new("utc", ns::TIME).text(datetime::format_seconds(SystemTime::now())));
        Ok(Some(time))
    }
}
