//! A session at rest: what outlives the process of one that can be resumed, and the session that is made of it again.
//!
//! How it is written down and kept meanwhile is in `restart.rs`; what modules keep in a session is theirs to save.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rookery_xmpp::ack;
use rookery_xmpp::jid::FullJid;
use rookery_xmpp::stanza::Stanza;
use tokio::time::Instant;

use super::acks::Acks;
use super::outbox::{OVERHEAD, Out, Outgoing};
use super::{Phase, Session, SessionLimits, StreamInfo};
use crate::account::Account;
use crate::tail::Kept;

/// What a session is, but for what modules keep in it.
pub(crate) struct Rest {
    /// What resumes it.
    pub(crate) id: Box<str>,
    /// How long it may wait for its client each time it loses a connection.
    pub(crate) resumable: Duration,
    /// How long it may wait still.
    pub(crate) left: Duration,
    /// The stream that it was bound on.
    pub(crate) stream: StreamInfo,
    /// Its presence while it is available, with the priority.
    pub(crate) presence: Option<(Arc<Stanza>, i8)>,
    /// It gets roster pushes.
    pub(crate) interested: bool,
    /// How many of its client's stanzas are handled for good.
    pub(crate) handled: u32,
    /// What its client has not acknowledged, with the counts.
    pub(crate) unacked: ack::Outgoing<Outgoing>,
    /// What it was sent before anything was counted: it has that when it resumes.
    pub(crate) in_flight: Vec<Arc<Kept>>,
    /// What it was not sent.
    pub(crate) outbox: Vec<Outgoing>,
    /// What it gets in its turn though others have confirmed it.
    pub(crate) owed: Vec<Arc<Kept>>,
    /// From where on it reads its tail.
    pub(crate) catching_up: Option<u64>,
    /// Of which messages in the tail its client has copies.
    pub(crate) copied: Vec<u64>,
    /// Its client collects what waits.
    pub(crate) collects_mail: bool,
}

impl Session {
    /// Takes all out of the session that another process needs to go on with it; here it has ended. `None` when it cannot
    /// be resumed. To be called with the account's tail locked, as [`Self::end`].
    pub(crate) fn lay_down(&self) -> Option<Rest> {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return None;
        }
        let resumable = state.resumable()?;
        let acks = state.acks.as_mut()?;
        let unacked = std::mem::replace(&mut acks.unacked, ack::Outgoing::new(0));
        acks.unacked_bytes = 0;
        let left = acks.until.map_or(resumable, |until| until.saturating_duration_since(Instant::now()));
        let (id, handled) = (acks.id.clone(), acks.incoming.h());
        let outbox = std::mem::take(&mut state.outbox).into_iter().filter_map(|out| match out {
            Out::Stanza(out, _) => Some(out),
            // Of the connection that is gone.
            Out::Nonza(_) | Out::Enabled(_) => None,
        });
        let rest = Rest {
            id,
            resumable,
            left,
            stream: self.stream.clone(),
            presence: state.presence.clone().zip(self.priority()),
            interested: state.interested,
            handled,
            unacked,
            in_flight: std::mem::take(&mut state.in_flight),
            outbox: outbox.collect(),
            owed: std::mem::take(&mut state.owed).into_values().collect(),
            catching_up: state.catching_up.take(),
            copied: state.copied.ids().collect(),
            collects_mail: self.collects_mail(),
        };
        state.phase = Phase::Closed;
        state.bytes = 0;
        state.owed_bytes = 0;
        state.requests = Vec::new();
        self.connection.fetch_add(1, Ordering::AcqRel);
        drop(state);
        self.wake.notify_one();
        self.roomy.notify_waiters();
        Some(rest)
    }

    /// The session that this was, without a connection.
    pub(crate) fn rise(jid: FullJid, account: Arc<Account>, limits: SessionLimits, rest: Rest) -> Arc<Self> {
        let session = Self::new(jid, account, rest.stream, limits);
        session.from_last_run.store(true, Ordering::Release);
        if rest.collects_mail {
            session.collect_mail();
        }
        {
            let mut state = session.state.lock();
            state.phase = Phase::Detached;
            state.acks = Some(Box::new(Acks {
                id: rest.id,
                resumable: Some(rest.resumable),
                until: Some(Instant::now() + rest.left),
                unacked_bytes: rest.unacked.iter().map(Outgoing::size).sum(),
                unacked: rest.unacked,
                counting: true,
                incoming: ack::Incoming::new(rest.handled),
                handled: Arc::new(AtomicU32::new(rest.handled)),
                answer_due: false,
                answer_now: false,
                asked: None,
            }));
            state.in_flight = rest.in_flight;
            state.bytes = rest.outbox.iter().map(Outgoing::size).sum();
            state.outbox = rest.outbox.into_iter().map(|out| Out::Stanza(out, None)).collect();
            state.owed_bytes = rest.owed.iter().map(|kept| kept.stanza.size() + OVERHEAD).sum();
            state.owed = rest.owed.into_iter().map(|kept| (kept.id, kept)).collect::<BTreeMap<_, _>>();
            state.catching_up = rest.catching_up;
            state.copied = rest.copied.into_iter().collect();
            state.interested = rest.interested;
            if let Some((presence, priority)) = rest.presence {
                state.presence = Some(presence);
                session.priority.store(priority.into(), Ordering::Release);
            }
        }
        session
    }
}
