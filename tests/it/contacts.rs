//! What the tests of the modules share: contacts made without the handshake, questions and their answers.

use std::time::Duration;

use rookery_core::roster::{RosterItem, Subscription};
use rookery_core::store::RosterChange;

use crate::world::{Client, World, jid};

impl World {
    /// Puts a contact into a user's roster, on that side alone.
    pub(crate) async fn set_contact(&self, user: &str, contact: &str, subscription: Subscription) {
        let account = self.server.account(&jid(user)).await.unwrap().expect("an account");
        let decide = |_: &_, version| {
            (vec![RosterChange::Put(RosterItem { subscription, version, ..RosterItem::new(jid(contact)) })], ())
        };
        account.change_roster(decide, |()| ()).await.unwrap();
    }

    /// Two users who see each other's presence.
    pub(crate) async fn befriend(&self, one: &str, other: &str) {
        self.set_contact(one, other, Subscription::Both).await;
        self.set_contact(other, one, Subscription::Both).await;
    }
}

impl Client {
    /// Sends a stanza and waits for what comes back.
    pub(crate) async fn ask(&self, xml: &str) -> String {
        self.send(xml).await;
        self.next().await
    }

    /// Waits until something has come.
    pub(crate) async fn next(&self) -> String {
        for _ in 0..10_000 {
            let got = self.read();
            if !got.is_empty() {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("nothing has come");
    }

    /// Asks with an IQ of this type, to somebody or to nobody.
    pub(crate) async fn iq(&self, kind: &str, to: &str, payload: &str) -> String {
        let to = if to.is_empty() { String::new() } else { format!(" to='{to}'") };
        self.ask(&format!("<iq type='{kind}' id='q'{to}>{payload}</iq>")).await
    }
}
