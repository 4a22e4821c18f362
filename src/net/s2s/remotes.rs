//! The other servers: which streams there are to and from each, who is being called, and when to try again.
//!
//! Every domain is by itself: two attempts to connect to it at a time, and a pause that grows with each failure, so that a
//! domain that is gone costs the others nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rookery_core::remote::{Failure, FailureStatus, Link, Pair, RemoteStatus, StreamStatus};
use rookery_xmpp::dialback::{Packet, Says};
use rookery_xmpp::jid::BareJid;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::rest::Rest;
use crate::patience::now;

/// Attempts to connect to one domain at a time, from all of ours.
const ATTEMPTS: usize = 2;

/// Questions of dialback that one domain is asked at a time on streams of their own. They have turns of their own: an
/// attempt to connect may wait for the other side, which waits for a question.
const QUESTIONS: usize = 4;

/// The first pause after a failure; each further one is twice as long, up to the conf's `retry`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// For so short a time whoever sends to a domain that was of no use may wait for the next attempt; beyond it, what the last
/// one came to is the answer.
const SHORT_WAIT: Duration = Duration::from_secs(2);

/// Domains without a stream that are remembered, for their pauses and what went wrong.
const MOST_REMEMBERED: usize = 4096;

/// What others ask of a stream.
pub(super) enum Order {
    /// Carry this link as well: the peer is authenticated for it, and takes stanzas on its own stream (XEP-0288).
    Carry(Arc<Link>),
    /// Ask the peer, whose domain it is, whether a key is right.
    Verify(Question),
    /// What became of a request for dialback.
    Verified(Box<Verified>),
    /// The ping of this id was answered, on another stream.
    Answered(Box<str>),
    /// The peer is back on another connection: hand over what it resumes.
    HandOver(oneshot::Sender<Option<Rest>>),
    /// Close in order, because of an admin.
    Close,
}

/// A request of dialback that the server of a domain is to judge (XEP-0220, step 2).
pub(super) struct Question {
    /// `<db:verify/>`.
    pub(super) request: Packet,
    /// Gets the answer; dropped if there is none.
    pub(super) answer: oneshot::Sender<Says>,
}

/// What became of a request for dialback.
pub(super) struct Verified {
    /// `<db:result/>` with a key.
    pub(super) request: Packet,
    /// What it is answered with.
    pub(super) says: Says,
    /// How that is known.
    pub(super) by: &'static str,
}

/// A stream, as others see it.
pub(super) struct Handle {
    pub(super) id: u64,
    pub(super) is_ours: bool,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) facts: Mutex<Facts>,
}

/// What is known of a stream; its driver keeps it.
pub(super) struct Facts {
    pub(super) status: StreamStatus,
    /// When something came in last.
    pub(super) heard: Instant,
    /// The pairs whose link it may carry.
    pub(super) may_carry: Vec<Pair>,
    /// It is ours and the peer listens: questions may go by it.
    pub(super) is_open: bool,
    /// The peer is who it should be, and may send stanzas.
    pub(super) may_speak: bool,
}

impl Handle {
    fn status(&self) -> StreamStatus {
        let facts = self.facts.lock();
        StreamStatus { silent: now().saturating_duration_since(facts.heard).as_secs(), ..facts.status.clone() }
    }
}

/// A remote domain.
pub(super) struct Remote {
    pub(super) domain: BareJid,
    /// Attempts to connect to it.
    pub(super) attempts: Semaphore,
    /// Streams to it that are for questions alone.
    pub(super) questions: Semaphore,
    /// The domain is there after all.
    alive: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: Vec<Arc<Handle>>,
    /// Our domains from which it is being called.
    callers: HashSet<BareJid>,
    /// Nobody reaches it.
    trouble: Trouble,
    /// It refuses one of our domains: that says nothing of the others.
    own: HashMap<BareJid, Trouble>,
}

/// How attempts to connect went.
#[derive(Default)]
struct Trouble {
    failures: u32,
    not_before: Option<Instant>,
    failure: Option<(Failure, SystemTime)>,
}

impl Trouble {
    fn failed(&mut self, failure: Failure, longest: Duration, now: Instant) {
        let pause = pause(self.failures, longest, jitter());
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause);
        self.failure = Some((failure, SystemTime::now()));
    }

    /// Whether there is a stream is known; how useful it is, is not.
    fn connected(&mut self) {
        self.not_before = None;
        self.failure = None;
    }

    fn is_hopeless(&self, now: Instant) -> Option<&Failure> {
        let is_long = self.not_before.is_some_and(|until| until > now + SHORT_WAIT);
        self.failure.as_ref().map(|(failure, _)| failure).filter(|failure| is_long && failure.definite)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|until| until <= now)
    }
}

impl Remote {
    fn new(domain: BareJid) -> Arc<Self> {
        Arc::new(Self {
            domain,
            attempts: Semaphore::new(ATTEMPTS),
            questions: Semaphore::new(QUESTIONS),
            alive: Notify::new(),
            state: Mutex::default(),
        })
    }

    /// A stream to or from it begins.
    pub(super) fn add(&self, handle: Arc<Handle>) {
        self.state.lock().streams.push(handle);
    }

    /// The same of a stream that the domain has opened; `false` when it has as many as it may.
    pub(super) fn add_theirs(&self, handle: &Arc<Handle>, most: usize) -> bool {
        let mut state = self.state.lock();
        let theirs = state.streams.iter().filter(|stream| !stream.is_ours).count();
        let is_there = state.streams.iter().any(|stream| stream.id == handle.id);
        if !is_there && theirs < most {
            state.streams.push(handle.clone());
        }
        is_there || theirs < most
    }

    /// A stream has ended.
    pub(super) fn remove(&self, id: u64) {
        self.state.lock().streams.retain(|stream| stream.id != id);
    }

    /// One of our domains wants to call it. `false` when it does already.
    pub(super) fn begin_call(&self, local: &BareJid) -> bool {
        self.state.lock().callers.insert(local.clone())
    }

    /// It does not any more.
    pub(super) fn end_call(&self, local: &BareJid) {
        self.state.lock().callers.remove(local);
    }

    /// A stream that the peer has opened and that takes the pair's stanzas, too.
    pub(super) fn carrier_of(&self, pair: &Pair) -> Option<Arc<Handle>> {
        let state = self.state.lock();
        state.streams.iter().find(|stream| stream.facts.lock().may_carry.contains(pair)).cloned()
    }

    /// A stream of ours by which the domain's server can be asked something.
    pub(super) fn asking(&self) -> Option<Arc<Handle>> {
        let state = self.state.lock();
        state.streams.iter().find(|stream| stream.is_ours && stream.facts.lock().is_open).cloned()
    }

    /// From this domain of ours nobody should try before.
    pub(super) fn not_before(&self, local: &BareJid) -> Option<Instant> {
        let state = self.state.lock();
        state.trouble.not_before.max(state.own.get(local).and_then(|own| own.not_before))
    }

    /// The pause before this domain of ours may try again; `None` if it may now. It ends at once when the domain shows
    /// itself, from this call on.
    pub(super) fn pause(&self, local: &BareJid) -> Option<impl Future<Output = ()>> {
        // Begun before the look, so that nothing is missed between the two.
        let alive = self.alive.notified();
        let until = self.not_before(local).filter(|until| *until > now())?;
        Some(async move {
            // All the same whether it is over or the domain is there.
            let _ = tokio::time::timeout_at(until.into(), alive).await;
        })
    }

    /// Why nobody should try for a good while, when waiting is of no use to those who send.
    pub(super) fn is_hopeless(&self, local: &BareJid, now: Instant) -> Option<Failure> {
        let state = self.state.lock();
        let own = || state.own.get(local).and_then(|own| own.is_hopeless(now));
        state.trouble.is_hopeless(now).or_else(own).cloned()
    }

    /// Connecting has failed: the next attempt has to wait, for everybody.
    pub(super) fn failed(&self, failure: Failure, longest: Duration, now: Instant) {
        self.state.lock().trouble.failed(failure, longest, now);
    }

    /// It does not want this domain of ours, whose next attempt has to wait.
    pub(super) fn refused(&self, local: &BareJid, failure: Failure, longest: Duration, now: Instant) {
        self.state.lock().own.entry(local.clone()).or_default().failed(failure, longest, now);
    }

    /// There is a stream to it from this domain of ours. Whether that is of any use will be seen.
    pub(super) fn connected(&self, local: &BareJid) {
        let mut state = self.state.lock();
        state.trouble.connected();
        if let Some(own) = state.own.get_mut(local) {
            own.connected();
        }
    }

    /// A stream to it has served its purpose, or it has shown otherwise that it is there for these domains of ours.
    pub(super) fn succeeded<'a>(&self, locals: impl IntoIterator<Item = &'a BareJid>) {
        let mut state = self.state.lock();
        state.trouble = Trouble::default();
        if !state.own.is_empty() {
            for local in locals {
                state.own.remove(local);
            }
        }
        drop(state);
        self.alive.notify_waiters();
    }

    fn status(&self) -> RemoteStatus {
        let state = self.state.lock();
        let mut troubles: Vec<_> = state.own.values().chain([&state.trouble]).collect();
        troubles.sort_by_key(|trouble| trouble.failure.as_ref().map(|(_, at)| *at));
        let last = troubles.last();
        RemoteStatus {
            streams: state.streams.iter().map(|stream| stream.status()).collect(),
            failure: last
                .and_then(|trouble| trouble.failure.as_ref())
                .map(|(failure, at)| FailureStatus::new(failure, *at)),
            next: last
                .and_then(|trouble| trouble.not_before)
                .map(|until| until.saturating_duration_since(now()).as_secs()),
            ..RemoteStatus::new(self.domain.as_str())
        }
    }

    /// When an attempt to connect failed last, of those that are remembered.
    fn failed_at(&self) -> Option<SystemTime> {
        let state = self.state.lock();
        let troubles = state.own.values().chain([&state.trouble]);
        troubles.filter_map(|trouble| trouble.failure.as_ref().map(|(_, at)| *at)).max()
    }

    /// Nothing is to be remembered of it.
    fn is_over(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let is_calm = state.trouble.is_over(now) && state.own.values().all(|own| own.is_over(now));
        state.streams.is_empty() && state.callers.is_empty() && is_calm
    }
}

/// How long to wait after a failure when there were `failures` before; `jitter` is between 0 and 1.
fn pause(failures: u32, longest: Duration, jitter: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1_u32 << failures.min(20)).min(longest);
    full.mul_f64(0.5 + jitter / 2.0)
}

fn jitter() -> f64 {
    // Without randomness all wait equally long, which does no harm.
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}

/// All of them.
#[derive(Default)]
pub(super) struct Remotes(Mutex<HashMap<BareJid, Arc<Remote>>>);

impl Remotes {
    /// A domain, made when it is first heard of.
    pub(super) fn get(&self, domain: &BareJid) -> Arc<Remote> {
        let mut remotes = self.0.lock();
        if let Some(remote) = remotes.get(domain) {
            return remote.clone();
        }
        if remotes.len() >= MOST_REMEMBERED {
            let now = now();
            // One that somebody holds may be about to be used.
            remotes.retain(|_, remote| Arc::strong_count(remote) > 1 || !remote.is_over(now));
        }
        if remotes.len() >= MOST_REMEMBERED {
            // All have a pause to keep. Those whose failure is the oldest go, a quarter at once, so that this is not done
            // for each new domain.
            let idle = remotes.iter().filter(|(_, remote)| Arc::strong_count(remote) == 1);
            let mut idle: Vec<_> = idle.map(|(domain, remote)| (remote.failed_at(), domain.clone())).collect();
            idle.sort_unstable();
            for (_, domain) in idle.iter().take(MOST_REMEMBERED / 4) {
                remotes.remove(domain);
            }
        }
        remotes.entry(domain.clone()).or_insert_with(|| Remote::new(domain.clone())).clone()
    }

    /// Those that have streams.
    pub(super) fn list(&self) -> Vec<RemoteStatus> {
        let statuses = self.all().into_iter().map(|remote| remote.status());
        statuses.filter(|status| !status.streams.is_empty()).collect()
    }

    /// Whether there are streams to or from a domain.
    pub(super) fn has_streams(&self, domain: &BareJid) -> bool {
        let remote = self.0.lock().get(domain).cloned();
        remote.is_some_and(|remote| !remote.state.lock().streams.is_empty())
    }

    /// One of them; `None` when nothing is known of it.
    pub(super) fn show(&self, domain: &BareJid) -> Option<RemoteStatus> {
        let remote = self.0.lock().get(domain).cloned()?;
        Some(remote.status())
    }

    /// Has all streams of a domain closed; says how many.
    pub(super) fn close(&self, domain: &BareJid) -> usize {
        let Some(remote) = self.0.lock().get(domain).cloned() else { return 0 };
        let streams = remote.state.lock().streams.clone();
        streams.iter().filter(|stream| stream.orders.send(Order::Close).is_ok()).count()
    }

    fn all(&self) -> Vec<Arc<Remote>> {
        self.0.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ() {
        let longest = Duration::from_secs(300);
        let whole: Vec<_> = (0..12).map(|failures| pause(failures, longest, 1.0).as_secs()).collect();
        assert_eq!(whole, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(pause(3, longest, 0.0), Duration::from_secs(4));
        assert_eq!(pause(u32::MAX, longest, 1.0), longest);
        assert_eq!(pause(5, Duration::from_secs(1), 1.0), Duration::from_secs(1));
    }

    #[test]
    fn b15_domains_without_streams_are_forgotten() {
        let remotes = Remotes::default();
        for n in 0..3 * MOST_REMEMBERED {
            remotes.get(&BareJid::new(&format!("d{n}.example")).unwrap());
        }
        assert!(remotes.all().len() <= MOST_REMEMBERED);
    }

    fn refused() -> Failure {
        Failure {
            definite: false,
            condition: rookery_xmpp::error::Condition::RemoteServerTimeout,
            text: "connection refused".to_owned(),
        }
    }

    #[test]
    fn b15_the_oldest_failures_are_forgotten_where_there_are_too_many() {
        let remotes = Remotes::default();
        let domain = |n: usize| BareJid::new(&format!("d{n}.example")).unwrap();
        let held = remotes.get(&domain(0));
        held.failed(refused(), Duration::from_secs(300), now());
        let mut last = None;
        for n in 1..2 * MOST_REMEMBERED {
            let remote = remotes.get(&domain(n));
            remote.failed(refused(), Duration::from_secs(300), now());
            // So that each is later than the one before, however coarse the clock is.
            let at = remote.failed_at().max(last).unwrap() + Duration::from_nanos(1);
            remote.state.lock().trouble.failure = Some((refused(), at));
            last = Some(at);
            assert!(remotes.0.lock().len() <= MOST_REMEMBERED);
        }
        let is_there = |n: usize| remotes.0.lock().contains_key(&domain(n));
        assert!(is_there(0), "somebody holds it");
        assert!(!is_there(1) && !is_there(MOST_REMEMBERED / 2));
        assert!((2 * MOST_REMEMBERED - MOST_REMEMBERED / 2..2 * MOST_REMEMBERED).all(is_there));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_the_domain_shows_itself_however_soon_that_is() {
        let remote = Remote::new(BareJid::new("a.example").unwrap());
        let local = BareJid::new("b.example").unwrap();
        assert!(remote.pause(&local).is_none());
        remote.failed(refused(), Duration::from_secs(300), now());
        let began = now();
        let pause = remote.pause(&local).expect("a pause");
        // Before anybody has begun to wait.
        remote.succeeded([&local]);
        pause.await;
        assert_eq!(now(), began);
        for _ in 0..9 {
            remote.failed(refused(), Duration::from_secs(300), now());
        }
        remote.pause(&local).expect("a pause").await;
        assert!(now() >= began + Duration::from_secs(100) && remote.pause(&local).is_none());
    }

    #[test]
    fn a_failure_makes_all_wait_until_the_domain_shows_itself() {
        let remote = Remote::new(BareJid::new("a.example").unwrap());
        let (local, now) = (BareJid::new("b.example").unwrap(), Instant::now());
        assert!(remote.begin_call(&local) && !remote.begin_call(&local));
        remote.failed(refused(), Duration::from_secs(300), now);
        assert!(remote.not_before(&local).is_some_and(|until| until > now));
        assert_eq!(remote.status().failure.map(|failure| failure.text).as_deref(), Some("connection refused"));
        remote.succeeded([&local]);
        assert_eq!((remote.not_before(&local), remote.status().failure), (None, None));
        remote.end_call(&local);
        assert!(remote.is_over(now));
    }

    #[test]
    fn what_one_of_our_domains_is_refused_is_no_matter_of_another() {
        let remote = Remote::new(BareJid::new("a.example").unwrap());
        let [refused, other] = ["x.example", "y.example"].map(|domain| BareJid::new(domain).unwrap());
        let (longest, now) = (Duration::from_secs(300), Instant::now());
        let failure = || Failure {
            definite: true,
            condition: rookery_xmpp::error::Condition::RemoteServerTimeout,
            text: "a.example refuses our dialback".to_owned(),
        };
        for _ in 0..9 {
            remote.refused(&refused, failure(), longest, now);
        }
        assert!(remote.is_hopeless(&refused, now).is_some() && remote.not_before(&refused).is_some());
        assert!(remote.is_hopeless(&other, now).is_none() && remote.not_before(&other).is_none());
        assert_eq!(remote.status().failure.map(|failure| failure.text), Some(failure().text));
        remote.succeeded([&other]);
        assert!(remote.is_hopeless(&refused, now).is_some() && !remote.is_over(now));
        remote.succeeded([&refused]);
        assert!(remote.not_before(&refused).is_none() && remote.is_over(now));
    }
}
