//! Modules that are services of their own: with a domain, a beginning and an end.

use std::future::Future;
use std::sync::Arc;

use rookery_xmpp::jid::BareJid;
use rookery_xmpp::stanza::Stanza;

use super::{ComponentFn, Hooks, Module, RoomsFn};
use crate::control::CommandError;
use crate::control::rooms::{RoomReply, RoomRequest};
use crate::seen;
use crate::server::Server;
use crate::session::Receipt;
use crate::tail::Side;

/// A stanza that has come to a component's domain.
pub struct Arrival {
    /// The stanza; its `from` is trusted.
    pub stanza: Stanza,
    /// What its sender waits for: it counts as handled when this is dropped, and so when it is stored, or done with.
    /// `None` when nobody waits.
    pub receipt: Option<Arc<Receipt>>,
    /// The stream of the session that has sent it, or in whose name the server has; `None` if it is from no session of ours.
    pub session: Option<u64>,
}

impl Arrival {
    /// What a message would be known by if it were sent again (see `seen.rs`).
    pub fn digest(&self) -> Option<u64> {
        let from = self.stanza.head.from.as_ref()?;
        seen::digest(Side::Recipient, from.bare_str(), &self.stanza, self.receipt.is_some())
    }

    /// The stream that it came by, if that is one of ours with acknowledgements: on it nothing is sent again.
    pub fn stream(&self) -> Option<u64> {
        seen::stream(&self.stanza, self.receipt.as_deref())
    }
}

impl<M: Module> Hooks<'_, M> {
    /// Gives the module a domain of its own, such as conference.example.org; it gets every stanza for it. What it has not
    /// yet stored when its future ends, it keeps with the [`Arrival`]'s receipt.
    pub fn component<Fut>(&mut self, domain: BareJid, f: fn(Arc<M>, Arc<Server>, Arrival) -> Fut) -> &mut Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let module = self.module.clone();
        let call: ComponentFn = Box::new(move |server, arrival| Box::pin(f(module.clone(), server.clone(), arrival)));
        self.table.components.push((domain, M::NAME, call));
        self
    }

    /// Carries out an admin's commands on the rooms of a domain, which is a component of the module.
    pub fn rooms<Fut>(&mut self, domain: BareJid, f: fn(Arc<M>, Arc<Server>, RoomRequest) -> Fut) -> &mut Self
    where
        Fut: Future<Output = Result<RoomReply, CommandError>> + Send + 'static,
    {
        let module = self.module.clone();
        let call: RoomsFn = Box::new(move |server, request| Box::pin(f(module.clone(), server.clone(), request)));
        self.table.rooms.push((domain, call));
        self
    }

    /// Runs when the server starts, before anybody can reach it, and again when a conf is taken up.
    pub fn begin<F, Fut>(&mut self, f: F) -> &mut Self
    where
        F: Fn(Arc<M>, Arc<Server>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), crate::store::StoreError>> + Send + 'static,
    {
        let module = self.module.clone();
        self.table.begins.push(Box::new(move |server| Box::pin(f(module.clone(), server))));
        self
    }

    /// Runs when the server ends, while all sessions are there still.
    pub fn end<F, Fut>(&mut self, f: F) -> &mut Self
    where
        F: Fn(Arc<M>, Arc<Server>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let module = self.module.clone();
        self.table.ends.push(Box::new(move |server| Box::pin(f(module.clone(), server))));
        self
    }
}
