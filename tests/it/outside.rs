//! Another domain that only listens, so that a test sees what leaves the server. It is a component; the tests that use
//! it run on one thread.

use std::cell::RefCell;
use std::sync::Arc;

use rookery_core::module::{Arrival, Entry, Fault, Hooks, Module, Setup, Xep};
use rookery_core::server::Server;
use rookery_xmpp::element::Element;

use crate::told;
use crate::world::{World, jid};

thread_local! {
    static SEEN: RefCell<Vec<Element>> = const { RefCell::new(Vec::new()) };
}

/// Takes note of all that comes to `outside.example`.
struct Outside;

impl Module for Outside {
    const NAME: &'static str = "outside";
    const XEPS: &'static [Xep] = &[];
    type Config = ();

    fn new((): (), _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self)
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.component(jid("outside.example"), Self::note);
    }
}

impl Outside {
    async fn note(self: Arc<Self>, _: Arc<Server>, arrival: Arrival) {
        SEEN.with_borrow_mut(|seen| seen.push(arrival.stanza.to_element()));
    }
}

/// A server for `localhost` that knows the way to `outside.example`.
pub(crate) async fn world(accounts: &[&str]) -> World {
    let modules: Vec<Entry> = rookery_modules::ALL.iter().copied().chain([Entry::of::<Outside>()]).collect();
    World::with_modules("[host.localhost]\n", accounts, &modules).await
}

/// Takes what has left the server, a line a stanza.
pub(crate) fn seen() -> Vec<String> {
    whole().iter().map(told::line).collect()
}

/// The same, whole.
pub(crate) fn whole() -> Vec<Element> {
    SEEN.take()
}
