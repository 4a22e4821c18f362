//! Two households, both alike in dignity: two servers that federate in this process.

use std::sync::Arc;

use crate::support::wire::Wire;
use crate::world::{Client, World};

pub(crate) const ROMEO: &str = "romeo@montague.example";
pub(crate) const BENVOLIO: &str = "benvolio@montague.example";
pub(crate) const JULIET: &str = "juliet@capulet.example";
pub(crate) const NURSE: &str = "nurse@capulet.example";

pub(crate) const MONTAGUE: &str = "montague.example";
pub(crate) const CAPULET: &str = "capulet.example";

/// Two servers and what lies between them.
pub(crate) struct Verona {
    pub(crate) montague: World,
    pub(crate) capulet: World,
    pub(crate) wire: Arc<Wire>,
}

impl Verona {
    /// `montague.example` and `capulet.example`, with rooms under `conference.`.
    pub(crate) async fn new() -> Self {
        Self::with_conf("").await
    }

    /// The same, with these options for both.
    pub(crate) async fn with_conf(conf: &str) -> Self {
        let house = |domain| format!("[host.\"{domain}\"]\n{conf}");
        let montague = World::with_conf(&house(MONTAGUE), &[ROMEO, BENVOLIO]).await;
        let capulet = World::with_conf(&house(CAPULET), &[JULIET, NURSE]).await;
        let wire = Wire::new();
        wire.join(&montague.server);
        wire.join(&capulet.server);
        Self { montague, capulet, wire }
    }

    /// The server of a user.
    pub(crate) fn of(&self, user: &str) -> &World {
        if user.ends_with(MONTAGUE) { &self.montague } else { &self.capulet }
    }

    /// Waits until nothing is under way.
    pub(crate) async fn settle(&self) {
        self.wire.quiet().await;
    }

    /// A client that has asked for the roster and is available; what that brings is read and dropped.
    pub(crate) async fn login(&self, user: &str, resource: &str) -> Client {
        let client = self.of(user).interested(user, resource).await;
        self.settle().await;
        client.read();
        client
    }

    /// What a client has got when nothing is under way any more.
    pub(crate) async fn read(&self, client: &Client) -> String {
        self.settle().await;
        client.read()
    }

    /// Sends a stanza and waits for all that comes of it.
    pub(crate) async fn send(&self, client: &Client, xml: &str) {
        client.send(xml).await;
        self.settle().await;
    }

    /// Two users of the two servers who see each other's presence, by the whole handshake.
    pub(crate) async fn befriend(&self, one: &Client, other: &Client) {
        for (asker, asked) in [(one, other), (other, one)] {
            let (asker_jid, asked_jid) = (&asker.session.account.jid, &asked.session.account.jid);
            self.send(asker, &format!("<presence type='subscribe' to='{asked_jid}'/>")).await;
            self.send(asked, &format!("<presence type='subscribed' to='{asker_jid}'/>")).await;
        }
        for client in [one, other] {
            client.read();
        }
    }

    /// The Montagues' server dies without a word, and starts again with what it has on disk.
    pub(crate) async fn kill_montague(&mut self) {
        self.wire.leave(&self.montague.server);
        self.montague = self.montague.start_again().await;
        self.wire.join(&self.montague.server);
    }
}
