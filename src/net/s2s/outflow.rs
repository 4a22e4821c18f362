//! What goes out by one stream: the links that it carries, and what of them the peer has for certain.
//!
//! With stream management (XEP-0198) the peer's count says it. Without, a ping (XEP-0199) goes behind the last stanza: its
//! answer, whatever it says, shows that all before it was read. Some servers answer no pings, or cannot reach us to do so:
//! then what the socket has taken counts after a while, on a stream that lives; TCP gives up sooner than that on a peer that
//! does not confirm its bytes ([`PATIENCE_OF_TCP`](crate::patience::PATIENCE_OF_TCP)).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_core::remote::{Carrier, Due, Link, Pair};
use rookery_xmpp::ack::{self, BadResume, HandledTooHigh};
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, StanzaError};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{IqType, Stanza};

use crate::patience::SILENT;

/// How long the peer may take to acknowledge when it is asked; then it is taken to be gone. Shorter than core's patience
/// with what has been handed out, so that a resumption comes in time.
const ACK_PATIENCE: Duration = Duration::from_secs(45);

/// When a peer has acknowledged less than was sent, it is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// After so many connections that the peer has dropped with the same stanza in front, and none acknowledged, it is given up.
const MOST_DEATHS: u32 = 3;

/// A link and how far it is on this stream.
struct Carried {
    link: Arc<Link>,
    carrier: Carrier,
    /// The last ticket that was written.
    written: u64,
    /// The last that was confirmed.
    confirmed: u64,
}

/// A stanza that was written and is not acknowledged.
#[derive(Clone)]
struct Sent {
    place: usize,
    ticket: u64,
    stanza: Arc<Stanza>,
}

/// The ping that is under way.
struct Ping {
    id: Box<str>,
    /// When the socket had taken all of it: before, silence says nothing.
    out: Option<Instant>,
    /// What had been written of each link when it was sent.
    up_to: Vec<u64>,
}

/// What goes out by one stream.
#[derive(Default)]
pub(super) struct Outflow {
    carried: Vec<Carried>,
    /// The link whose turn it is.
    turn: usize,
    acks: Option<ack::Outgoing<Sent>>,
    /// The links and tickets of what was written without a count and is not confirmed, in order.
    uncounted: VecDeque<(usize, u64)>,
    /// To be sent again after a resumption, first.
    again: VecDeque<Sent>,
    asked: Option<Instant>,
    ask_at: Option<Instant>,
    ping: Option<Ping>,
    /// The peer has dropped the connection, perhaps over what it was sent.
    dropped: bool,
    /// Connections in a row that it has dropped with the same stanza in front.
    deaths: u32,
    /// The largest stanza that the peer takes (XEP-0478).
    pub(super) max_bytes: Option<usize>,
}

/// What [`Outflow::fill`] came to.
#[derive(Default)]
pub(super) struct Filled {
    /// Stanzas were written.
    pub(super) wrote: bool,
    /// There may be more.
    pub(super) more: bool,
}

impl Outflow {
    /// Takes a link that no other stream carries; `false` if one does.
    pub(super) fn carry(&mut self, link: Arc<Link>) -> bool {
        let Some(carrier) = link.carry_if_free() else { return false };
        self.carried.push(Carried { link, carrier, written: 0, confirmed: 0 });
        true
    }

    /// Whether it carries nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.carried.is_empty()
    }

    /// Whether it carries this pair's link.
    pub(super) fn carries(&self, pair: &Pair) -> bool {
        self.carried.iter().any(|carried| carried.link.pair() == pair)
    }

    /// Whether a link has been taken away, by another stream or since it was too slow.
    pub(super) fn is_past(&self) -> bool {
        self.carried.iter().any(|carried| !carried.link.is_current(carried.carrier))
    }

    /// Whether the peer has all that was written.
    pub(super) fn is_settled(&self) -> bool {
        self.again.is_empty() && self.uncounted.is_empty() && self.acks.as_ref().is_none_or(ack::Outgoing::is_empty)
    }

    /// From here on stanzas are counted. What went before is not: to have acknowledged anything is to have read that.
    pub(super) fn enable_acks(&mut self) {
        self.acks.get_or_insert_with(|| ack::Outgoing::new(0));
    }

    /// The same, from where another one that carried nothing any more has come to.
    pub(super) fn count_on(&mut self, before: &mut Self) {
        self.acks = before.acks.take();
    }

    /// Whether they are.
    pub(super) fn has_acks(&self) -> bool {
        self.acks.is_some()
    }

    /// Returns when there may be something to write, or a link is past. Safe to drop at any await.
    pub(super) async fn woken(&self) {
        match &*self.carried {
            [] => std::future::pending().await,
            [one] => one.link.woken(one.carrier).await,
            many => {
                let mut woken: Vec<_> =
                    many.iter().map(|carried| Box::pin(carried.link.woken(carried.carrier))).collect();
                std::future::poll_fn(|context| {
                    let ready = woken.iter_mut().any(|woken| woken.as_mut().poll(context).is_ready());
                    if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
                })
                .await;
            }
        }
    }

    /// Writes what waits to `out`, until `budget` bytes are there.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, budget: usize, now: Instant) -> Filled {
        let mut filled = Filled::default();
        // While the stanzas of one link go one by one, all do: what the peer ends the stream over would else be another's.
        let one_by_one = self.carried.len() > 1 && self.carried.iter().any(|carried| carried.link.is_careful());
        while out.len() < budget {
            if let Some(sent) = self.again.pop_front() {
                sent.stanza.write(out, None);
                if let Some(acks) = &mut self.acks {
                    acks.push(sent);
                }
                filled.wrote = true;
                continue;
            }
            if one_by_one && self.unconfirmed().next().is_some() {
                break;
            }
            let Some((place, due)) = self.next() else { break };
            let Some(carried) = self.carried.get_mut(place) else { break };
            let before = out.len();
            due.stanza.write(out, None);
            if let Some(most) = self.max_bytes.filter(|most| out.len() - before > *most) {
                // It goes back to its sender at once (XEP-0478 §4), and no later stream has it again.
                out.truncate(before);
                carried.link.refuse(carried.carrier, due.ticket, &too_large(most));
                continue;
            }
            carried.written = due.ticket;
            match &mut self.acks {
                Some(acks) => acks.push(Sent { place, ticket: due.ticket, stanza: due.stanza }),
                None => self.uncounted.push_back((place, due.ticket)),
            }
            filled.wrote = true;
        }
        filled.more = out.len() >= budget;
        if self.acks.is_some() && (filled.wrote || !self.uncounted.is_empty()) {
            self.ask_at.get_or_insert(now);
        }
        self.write_request(out, now);
        filled
    }

    /// The next stanza, of the links in turn: none waits until another has nothing left.
    fn next(&mut self) -> Option<(usize, Due)> {
        let count = self.carried.len();
        for place in (self.turn..count).chain(0..self.turn.min(count)) {
            let Some(carried) = self.carried.get(place) else { continue };
            if let Some(due) = carried.link.next(carried.carrier) {
                self.turn = place + 1;
                return Some((place, due));
            }
        }
        None
    }

    /// The links of what is not confirmed, in the order in which it was written.
    fn unconfirmed(&self) -> impl Iterator<Item = usize> {
        let counted = self.acks.iter().flat_map(ack::Outgoing::iter).map(|sent| sent.place);
        self.uncounted.iter().map(|(place, _)| *place).chain(counted)
    }

    /// Asks for an acknowledgement if one is due.
    fn write_request(&mut self, out: &mut Vec<u8>, now: Instant) {
        if self.asked.is_none() && self.ask_at.is_some_and(|at| at <= now) {
            Element::new("r", ns::SM).write(out, ns::SERVER);
            self.asked = Some(now);
            self.ask_at = None;
        }
    }

    /// Asks now, to see whether the peer is there. `false` without stream management.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        if self.acks.is_some() && self.asked.is_none() {
            self.ask_at = Some(now);
        }
        self.acks.is_some()
    }

    /// The ping that should go behind what was written, from ours to theirs, when one should.
    pub(super) fn ping(&mut self, new_id: impl FnOnce() -> Option<Box<str>>) -> Option<Stanza> {
        let due = self.acks.is_none() && self.ping.is_none() && !self.uncounted.is_empty();
        let pair = self.carried.first().filter(|_| due)?.link.pair();
        let id = new_id()?;
        let ping = Stanza::iq(IqType::Get, id.clone())
            .from(pair.local.clone())
            .to(pair.remote.clone())
            .child(Element::new("ping", ns::PING));
        let up_to = self.carried.iter().map(|carried| carried.written).collect();
        self.ping = Some(Ping { id, out: None, up_to });
        Some(ping)
    }

    /// The id of the ping that is under way.
    pub(super) fn ping_id(&self) -> Option<&str> {
        self.ping.as_ref().map(|ping| &*ping.id)
    }

    /// A ping was answered: all before it is confirmed. `false` if it is not the one under way.
    pub(super) fn answered(&mut self, id: &str) -> bool {
        let Some(ping) = self.ping.take_if(|ping| &*ping.id == id) else { return false };
        for (carried, up_to) in self.carried.iter_mut().zip(ping.up_to) {
            carried.confirm(up_to);
        }
        while let Some((place, ticket)) = self.uncounted.front()
            && self.carried.get(*place).is_none_or(|carried| *ticket <= carried.confirmed)
        {
            self.uncounted.pop_front();
        }
        true
    }

    /// The peer has handled our stanzas up to `h`.
    pub(super) fn acknowledged(&mut self, h: u32, now: Instant) -> Result<(), HandledTooHigh> {
        let Some(acks) = &mut self.acks else { return Ok(()) };
        let acked: Vec<Sent> = acks.ack(h)?.collect();
        self.asked = None;
        self.ask_at = if acks.is_empty() { None } else { Some(now + ASK_AGAIN) };
        self.confirm(&acked);
        Ok(())
    }

    /// The peer goes on after a lost connection, and has handled our stanzas up to `h`: the rest goes out again, but for one
    /// that was the first of it time after time (security.md B9).
    pub(super) fn resume(&mut self, h: u32) -> Result<(), BadResume> {
        let Some(acks) = &mut self.acks else { return Ok(()) };
        let acked: Vec<Sent> = acks.resume(h)?.collect();
        // A network that is silent says nothing about what was sent.
        let is_suspect = self.dropped && !acks.is_empty();
        self.deaths = if acked.is_empty() { self.deaths + u32::from(is_suspect) } else { 0 };
        let deadly = if self.deaths >= MOST_DEATHS { acks.park() } else { None };
        if deadly.is_some() {
            self.deaths = 0;
        }
        // What had not come to be sent again the last time comes behind.
        let mut again = acks.take_all();
        again.append(&mut self.again);
        self.again = again;
        self.asked = None;
        self.ask_at = None;
        self.dropped = false;
        self.confirm(&acked);
        if let Some(Sent { place, ticket, .. }) = deadly
            && let Some(carried) = self.carried.get(place)
        {
            carried.link.abandon(carried.carrier, ticket);
        }
        Ok(())
    }

    /// The peer has handled those, and read what went before the first of all that count.
    fn confirm(&mut self, acked: &[Sent]) {
        for (place, ticket) in std::mem::take(&mut self.uncounted) {
            if let Some(carried) = self.carried.get_mut(place) {
                carried.confirm(ticket);
            }
        }
        for (place, carried) in self.carried.iter_mut().enumerate() {
            if let Some(last) = acked.iter().rfind(|sent| sent.place == place) {
                carried.confirm(last.ticket);
            }
        }
    }

    /// The socket has taken all that was written. A ping that it has had for long counts as answered, and all before it as
    /// read: then `true`.
    pub(super) fn flushed(&mut self, now: Instant) -> bool {
        let Some(ping) = &mut self.ping else { return false };
        if now < *ping.out.get_or_insert(now) + SILENT {
            return false;
        }
        let id = ping.id.clone();
        self.answered(&id)
    }

    /// When to look at [`Self::is_overdue`], or, if the peer can be written to, to call [`flushed`](Self::flushed) and
    /// [`fill`](Self::fill).
    pub(super) fn due(&self, writes: bool) -> Option<Instant> {
        let asked = self.asked.map(|at| at + ACK_PATIENCE);
        let ask = self.ask_at.filter(|_| writes && self.asked.is_none());
        let ping = self.ping.as_ref().filter(|_| writes).and_then(|ping| ping.out).map(|out| out + SILENT);
        [asked, ask, ping].into_iter().flatten().min()
    }

    /// The peer has not been listened to until now: what it was asked for could not come.
    pub(super) fn was_deaf(&mut self, now: Instant) {
        if let Some(asked) = &mut self.asked {
            *asked = now;
        }
    }

    /// Whether the peer has not acknowledged for too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.asked.is_some_and(|at| at + ACK_PATIENCE <= now)
    }

    /// The peer has ended the stream, and may have done so over what it was sent.
    pub(super) fn blame(&self) {
        self.carried.iter().for_each(|carried| carried.link.blame(carried.carrier));
    }

    /// The peer has dropped the connection without a word. If it does not go on with the stream either, that counts against
    /// what it was sent.
    pub(super) fn note_drop(&mut self) {
        self.dropped = true;
    }

    /// The stream will not go on: what is not confirmed waits again, for another one. The connection must be cut off.
    pub(super) fn let_go(&mut self) {
        // Of several links, only the one whose stanza was the first: the others may be well.
        if self.dropped
            && let Some(first) = self.unconfirmed().next()
            && let Some(carried) = self.carried.get(first)
        {
            carried.link.dropped(carried.carrier);
        }
        for carried in &self.carried {
            carried.link.let_go(carried.carrier);
        }
        *self = Self::default();
    }
}

/// What the senders of stanzas are told that the peer does not take.
fn too_large(most: usize) -> StanzaError {
    StanzaError::new(Condition::PolicyViolation)
        .with_text(format!("The other server takes no stanza of more than {most} bytes."))
}

impl Carried {
    fn confirm(&mut self, up_to: u64) {
        if up_to > self.confirmed {
            self.confirmed = up_to;
            self.link.confirm(self.carrier, up_to);
        }
    }
}

#[cfg(test)]
mod tests {
    use rookery_core::config::Conf;
    use rookery_core::remote::{Federation, RemoteStatus};
    use rookery_core::server::Server;
    use rookery_store::MemoryStore;
    use rookery_xmpp::jid::{BareJid, Jid};

    use super::*;

    /// Where links are only asked for.
    struct Nowhere;

    impl Federation for Nowhere {
        fn wanted(&self, _: Arc<Link>) {}
        fn list(&self) -> Vec<RemoteStatus> {
            Vec::new()
        }
        fn show(&self, _: &BareJid) -> Option<RemoteStatus> {
            None
        }
        fn close(&self, _: &BareJid) -> usize {
            0
        }
    }

    async fn server() -> Arc<Server> {
        let conf = Conf::parse("[host.'a.example']\n[host.'z.example']\n", "test").unwrap();
        let server = Server::start(conf, Arc::new(MemoryStore::new()), &[]).await.unwrap();
        server.federate(Arc::new(Nowhere));
        server
    }

    /// The link from one of our domains to b.example, with so many messages in it.
    async fn link(server: &Arc<Server>, from: &str, messages: usize) -> Arc<Link> {
        let (local, remote) = (BareJid::new(from).unwrap(), BareJid::new("b.example").unwrap());
        for n in 0..messages {
            let stanza = Stanza::message(rookery_xmpp::stanza::MessageType::Headline)
                .from(Jid::new(from).unwrap())
                .to(Jid::new("b.example").unwrap())
                .child(Element::new("body", ns::CLIENT).text(format!("{from} {n}")));
            assert!(server.offer(stanza).await);
        }
        server.link(Pair { local, remote })
    }

    fn bodies(written: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(written).unwrap();
        text.split("<body>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn links_take_turns_where_the_socket_is_slow() {
        let server = server().await;
        let mut outflow = Outflow::default();
        for from in ["a.example", "z.example"] {
            assert!(outflow.carry(link(&server, from, 3).await));
        }
        let mut order = Vec::new();
        loop {
            let mut out = Vec::new();
            // Room for one stanza.
            outflow.fill(&mut out, 1, Instant::now());
            match bodies(&out) {
                one if one.is_empty() => break,
                mut one => order.append(&mut one),
            }
        }
        let expected: Vec<_> = (0..3).flat_map(|n| [format!("a.example {n}"), format!("z.example {n}")]).collect();
        assert_eq!(order, expected);
    }

    #[tokio::test]
    async fn b9_what_the_peer_dies_of_costs_nothing_of_another_link() {
        for (has_acks, complains) in [(true, false), (true, true), (false, false), (false, true)] {
            let server = server().await;
            let links = [link(&server, "z.example", 2).await, link(&server, "a.example", 2).await];
            let (mut had, mut connections) = (Vec::new(), 0);
            while links.iter().any(|link| link.waiting().stanzas > 0) {
                connections += 1;
                assert!(connections < 9, "{had:?}");
                let mut outflow = Outflow::default();
                assert!(links.iter().all(|link| outflow.carry(link.clone())));
                if has_acks {
                    outflow.enable_acks();
                }
                let mut handled = 0;
                loop {
                    let mut out = Vec::new();
                    outflow.fill(&mut out, usize::MAX, Instant::now());
                    let written = bodies(&out);
                    if written.iter().any(|body| body == "a.example 0") {
                        if complains {
                            outflow.blame();
                        } else {
                            outflow.note_drop();
                        }
                        break;
                    }
                    if written.is_empty() {
                        break;
                    }
                    handled += u32::try_from(written.len()).unwrap();
                    had.extend(written);
                    outflow.acknowledged(handled, Instant::now()).unwrap();
                    if !has_acks {
                        outflow.ping(|| Some("p".into())).unwrap();
                        assert!(outflow.answered("p"));
                    }
                }
                outflow.let_go();
                if !complains && connections == 2 {
                    assert!(links[0].is_careful() && !links[1].is_careful(), "only the first is suspected");
                }
            }
            had.sort_unstable();
            assert_eq!(had, ["a.example 1", "z.example 0", "z.example 1"], "{has_acks} {complains}");
        }
    }

    #[tokio::test]
    async fn b9_what_the_peer_dies_of_at_each_resumption_is_given_up_and_the_rest_goes_on() {
        let server = server().await;
        let link = link(&server, "a.example", 3).await;
        let mut outflow = Outflow::default();
        assert!(outflow.carry(link.clone()));
        outflow.enable_acks();
        let written = |outflow: &mut Outflow| {
            let mut out = Vec::new();
            outflow.fill(&mut out, usize::MAX, Instant::now());
            bodies(&out)
        };
        assert_eq!(written(&mut outflow), ["a.example 0", "a.example 1", "a.example 2"]);
        // A connection that was only silent, however often, says nothing about what was sent.
        for _ in 0..2 * MOST_DEATHS {
            outflow.resume(0).unwrap();
            assert_eq!(written(&mut outflow), ["a.example 0", "a.example 1", "a.example 2"]);
        }
        // It bears the first, and dies of the second.
        outflow.note_drop();
        outflow.resume(1).unwrap();
        for _ in 0..2 {
            assert_eq!(written(&mut outflow), ["a.example 1", "a.example 2"]);
            outflow.note_drop();
            outflow.resume(1).unwrap();
        }
        assert_eq!(written(&mut outflow), ["a.example 1", "a.example 2"]);
        assert_eq!(link.waiting().stanzas, 2);
        outflow.note_drop();
        outflow.resume(1).unwrap();
        assert_eq!(link.waiting().stanzas, 1);
        assert_eq!(written(&mut outflow), ["a.example 2"]);
        outflow.acknowledged(2, Instant::now()).unwrap();
        assert!(outflow.is_settled() && link.waiting().stanzas == 0);
        outflow.let_go();
    }
}
