//! What is left of a stream whose connection was lost, until the peer goes on with it (XEP-0198 §5), and streams of other
//! servers that may be gone on with.
//!
//! An id is good for the pair of domains that was authenticated when it was given, and for no other. Only streams of one pair
//! can be resumed: what several pairs may do is authenticated anew for each of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rookery_core::remote::{Inbound, Pair};
use tokio::sync::oneshot;

use super::outflow::Outflow;
use super::remotes::{Handle, Order};
use crate::patience::now;

/// For so long stanzas of ours wait for a peer that should come back with its stream. Then we connect ourselves.
const WAIT_FOR_PEER: Duration = Duration::from_secs(30);

/// How long a connection that is still there may take to hand over.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Streams that may be gone on with, over all domains.
const MOST: usize = 4096;

/// The same of one domain: it does not take the place of all others by beginning stream after stream.
const MOST_OF_ONE: usize = 64;

/// What a stream was, without its connection.
pub(super) struct Rest {
    /// Names it.
    pub(super) id: Box<str>,
    pub(super) pair: Pair,
    pub(super) inbound: Arc<Inbound>,
    pub(super) outflow: Outflow,
    /// Stanzas go both ways.
    pub(super) bidi: bool,
    pub(super) until: Instant,
}

impl Drop for Rest {
    /// Nobody goes on with it: what is not confirmed waits for another stream.
    fn drop(&mut self) {
        self.outflow.let_go();
    }
}

enum Place {
    /// Its connection is there, as far as we know.
    Living(Pair, Arc<Handle>),
    Lost(Box<Rest>),
    /// It is over, and this is how many stanzas had been handled.
    Over(Pair, Arc<Inbound>),
}

impl Place {
    fn pair(&self) -> &Pair {
        match self {
            Self::Living(pair, _) | Self::Over(pair, _) => pair,
            Self::Lost(rest) => &rest.pair,
        }
    }
}

/// Streams that other servers may go on with.
#[derive(Default)]
pub(super) struct Resting(Mutex<HashMap<Box<str>, (Place, Instant)>>);

/// What a peer gets that wants to go on with a stream.
pub(super) enum Found {
    Rest(Box<Rest>),
    /// There is none (any more); so many stanzas had been handled, if that is known.
    Nothing(Option<u32>),
}

impl Resting {
    /// This stream can be resumed when its connection is lost. `false` when there are too many of that kind.
    pub(super) fn add(&self, id: Box<str>, pair: Pair, handle: Arc<Handle>, longest: Duration) -> bool {
        let mut places = self.0.lock();
        let now = now();
        if places.len() >= MOST {
            places.retain(|_, (place, until)| matches!(place, Place::Living(..)) || *until > now);
        }
        let of_one = places.values().filter(|(place, _)| place.pair().remote == pair.remote).count();
        let has_room = places.len() < MOST && of_one < MOST_OF_ONE;
        if has_room {
            places.insert(id, (Place::Living(pair, handle), now + longest));
        }
        has_room
    }

    /// The connection of a stream was lost.
    pub(super) fn lay_down(self: &Arc<Self>, mut rest: Rest, longest: Duration) {
        let now = now();
        let waits = if rest.outflow.is_empty() { longest } else { longest.min(WAIT_FOR_PEER) };
        rest.until = now + waits;
        let id = rest.id.clone();
        self.0.lock().insert(id.clone(), (Place::Lost(Box::new(rest)), now + longest));
        let resting = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(waits).await;
            if let Some(resting) = resting.upgrade() {
                resting.give_up(&id);
            }
            tokio::time::sleep(longest.saturating_sub(waits)).await;
            if let Some(resting) = resting.upgrade() {
                resting.forget(&id);
            }
        });
    }

    /// The stream has ended in order, or is not to be resumed.
    pub(super) fn end(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// It is lost for so long that we go on without it; what was handled is remembered for a while. Not if it was gone on with
    /// meanwhile and lost anew: then its time is another one.
    fn give_up(&self, id: &str) {
        let mut places = self.0.lock();
        let Some((place, _)) = places.get_mut(id) else { return };
        let Place::Lost(rest) = place else { return };
        if rest.until > now() {
            return;
        }
        let over = Place::Over(rest.pair.clone(), rest.inbound.clone());
        let rest = std::mem::replace(place, over);
        drop(places);
        // Not under the lock: links are woken.
        drop(rest);
    }

    fn forget(&self, id: &str) {
        let mut places = self.0.lock();
        let now = now();
        let is_over = places.get(id).is_some_and(|(place, until)| !matches!(place, Place::Living(..)) && *until <= now);
        let gone = if is_over { places.remove(id) } else { None };
        drop(places);
        drop(gone);
    }

    /// A peer that is authenticated for `pair` wants to go on.
    pub(super) async fn take(&self, id: &str, pair: &Pair) -> Found {
        let (place, answer) = {
            let mut places = self.0.lock();
            match places.get(id) {
                Some((Place::Living(of, handle), _)) if of == pair => {
                    let (hand_over, answer) = oneshot::channel();
                    let asked = handle.orders.send(Order::HandOver(hand_over)).is_ok();
                    (None, asked.then_some(answer))
                }
                Some((Place::Lost(rest), _)) if rest.pair == *pair => (places.remove(id), None),
                Some((Place::Over(of, _), _)) if of == pair => (places.remove(id), None),
                _ => (None, None),
            }
        };
        match (place, answer) {
            (Some((Place::Lost(rest), _)), _) => Found::Rest(rest),
            (Some((Place::Over(_, inbound), _)), _) => {
                inbound.settled().await;
                Found::Nothing(Some(inbound.handled()))
            }
            (_, Some(answer)) => match tokio::time::timeout(HAND_OVER, answer).await {
                Ok(Ok(Some(rest))) => Found::Rest(Box::new(rest)),
                _ => Found::Nothing(None),
            },
            _ => Found::Nothing(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use parking_lot::Mutex;
    use rookery_core::config::Conf;
    use rookery_core::remote::StreamStatus;
    use rookery_core::server::Server;
    use rookery_store::MemoryStore;
    use rookery_xmpp::jid::BareJid;

    use super::*;
    use crate::s2s::remotes::Facts;

    fn handle() -> Arc<Handle> {
        let status = StreamStatus {
            id: 1,
            direction: "in".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            since: String::new(),
            silent: 0,
            tls: None,
            certificate: None,
            pairs: Vec::new(),
            bidi: false,
            acks: true,
            resumable: true,
        };
        let facts = Facts { status, heard: Instant::now(), may_carry: Vec::new(), is_open: true, may_speak: false };
        let (orders, _) = tokio::sync::mpsc::unbounded_channel();
        Arc::new(Handle { id: 1, is_ours: false, orders, facts: Mutex::new(facts) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_lost_a_second_time_waits_for_its_whole_time_again() {
        let conf = Conf::parse("[host.'a.example']\n", "test").unwrap();
        let server = Server::start(conf, Arc::new(MemoryStore::new()), &[]).await.unwrap();
        let [local, remote] = ["a.example", "b.example"].map(|domain| BareJid::new(domain).unwrap());
        let (pair, inbound) = (Pair { local, remote }, Inbound::new(&server));
        let (resting, longest) = (Arc::<Resting>::default(), Duration::from_secs(30));
        let is_kept = async |resting: &Arc<Resting>| match resting.take("id", &pair).await {
            Found::Rest(rest) => {
                resting.lay_down(*rest, longest);
                true
            }
            Found::Nothing(_) => false,
        };
        let rest = Rest {
            id: "id".into(),
            pair: pair.clone(),
            inbound,
            outflow: Outflow::default(),
            bidi: false,
            until: now(),
        };
        resting.lay_down(rest, longest);
        for _ in 0..3 {
            // Less than its time, but beyond that of the loss before.
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert!(is_kept(&resting).await);
        }
        tokio::time::sleep(longest + Duration::from_secs(1)).await;
        assert!(!is_kept(&resting).await && resting.0.lock().is_empty());
    }

    #[test]
    fn b15_one_domain_leaves_room_for_the_streams_of_others() {
        let (resting, handle, longest) = (Resting::default(), handle(), Duration::from_secs(600));
        let local = BareJid::new("a.example").unwrap();
        let add = |n: usize, remote: &str| {
            let pair = Pair { local: local.clone(), remote: BareJid::new(remote).unwrap() };
            resting.add(format!("{remote} {n}").into(), pair, handle.clone(), longest)
        };
        let kept = (0..MOST).filter(|n| add(*n, "greedy.example")).count();
        assert_eq!(kept, MOST_OF_ONE);
        assert!(add(0, "modest.example"));
        resting.end("greedy.example 0");
        assert!(add(MOST, "greedy.example") && !add(MOST + 1, "greedy.example"));
    }
}
