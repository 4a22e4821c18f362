//! XEP-0478: Stream Limits Advertisement. What one element of a client may measure, before authentication and after it.
//! The limits are core's conf (`[limits]`) and kept by the framer. Streams may be idle for as long as they like, so
//! `<idle-seconds/>` is not announced.

use rookery_core::module::{Fault, Hooks, Module, Offer, Setup, When, Xep};
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;

/// Announces the limits.
pub struct StreamLimits;

impl Module for StreamLimits {
    const NAME: &'static str = "stream_limits";
    const XEPS: &'static [Xep] = &[Xep(478, "0.2.0")];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.stream_feature(When::BeforeAuth, |_, offer: &Offer<'_>| {
            Some(limits(offer.server.conf().limits().pre_auth_element.get()))
        })
        .stream_feature(When::BeforeBind, |_, offer: &Offer<'_>| {
            Some(limits(offer.server.conf().limits().stanza.get()))
        });
    }
}

fn limits(bytes: usize) -> Element {
    let most = Element::new("max-bytes", ns::STREAM_LIMITS).text(bytes.to_string());
    Element::new("limits", ns::STREAM_LIMITS).child(most)
}
