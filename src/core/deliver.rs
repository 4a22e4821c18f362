//! What happens to a stanza inside an account: RFC 6121 §8.5, with the tail in between.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rookery_xmpp::datetime;
use rookery_xmpp::element::Element;
use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::header::Namespaces;
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;
use rookery_xmpp::parser::{self, Parsed};
use rookery_xmpp::stanza::{IqType, Kind, MessageType, PresenceType, Stanza};
use tracing::error;

use crate::account::{Account, Sessions};
use crate::host::Host;
use crate::module::{Stage, Way};
use crate::router::{InOrder, Passed, Waiting};
use crate::seen;
use crate::server::Server;
use crate::session::{Outgoing, Pushed, Session};
use crate::store::TailEntry;
use crate::tail::{Keep, Kept, Receipts, Side, Standing, Writer};

/// Entries of a tail that are read at once.
pub(crate) const PAGE: usize = 100;

/// What becomes of a message that no session can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// The modules may keep it; the sender is told when none does.
    Keep,
    /// The sender is told.
    Refuse,
    /// Nothing.
    Ignore,
}

/// How the reading of a tail goes on.
enum Page {
    /// The page is not to be trusted: read it again.
    Again,
    /// There is more.
    More,
    /// The session is up to date, or full.
    Last,
}

/// What a session that has ended leaves for nobody else.
#[derive(Default)]
pub(crate) struct Parted {
    /// Messages that nobody keeps for later after all, and why.
    refused: Vec<(Arc<Kept>, StanzaError)>,
    /// What had no place in the tail.
    unkept: Vec<Arc<Stanza>>,
}

impl Server {
    // ---- messages -------------------------------------------------------------------------------------------------

    pub(crate) async fn deliver_message(
        self: &Arc<Self>,
        host: &Arc<Host>,
        kind: MessageType,
        mut stanza: Stanza,
        waiting: Waiting,
        session: Option<&Arc<Session>>,
    ) {
        let Some(mut to) = stanza.head.to.clone() else { return };
        let account = match self.accounts.loaded(to.bare_str()) {
            Some(account) => Ok(Some(account)),
            None => self.account(&to.bare()).await,
        };
        let account = match account {
            Ok(Some(account)) => account,
            // As for an account where nobody is.
            Ok(None) if kind == MessageType::Headline => return,
            Ok(None) => return self.bounce(&stanza, StanzaError::new(Condition::ServiceUnavailable), session).await,
            Err(error) => return self.bounce(&stanza, error.into(), session).await,
        };
        if let Some(again) = account.may_send_again(&stanza)
            && to.resourcepart().is_some_and(|resource| account.session(resource).is_none())
        {
            to = again.into();
            stanza.head.to = Some(to.clone());
        }
        unforge(&account, &mut stanza);
        match self.pass(host, &account, None, &mut stanza, Way::Incoming, &[Stage::Guard, Stage::Stamp]).await {
            Ok(Passed::On) => {}
            Ok(Passed::Done) => return,
            Err(error) => return self.bounce(&stanza, error, session).await,
        }
        if let Some(first) = waiting.as_ref().and_then(|receipt| receipt.first()) {
            let digest = may_be_kept(kind, &stanza).then(|| seen::received(&stanza, true)).flatten();
            self.look_back(&account, first, digest).await;
        }
        if let Err((stanza, error)) = self.hand_out(host, &account, &to, kind, stanza, (waiting.clone(), session)) {
            if error.kind == ErrorKind::Wait
                && let Some(receipt) = &waiting
            {
                receipt.withdraw();
            }
            self.bounce(&stanza, error, session).await;
        }
    }

    /// Takes a message that an account's user sends into the account's archive and lets the other resources know of it,
    /// in the account's order.
    pub(crate) fn send_out(
        self: &Arc<Self>,
        host: &Arc<Host>,
        session: &Arc<Session>,
        kind: MessageType,
        stanza: &mut Stanza,
        waiting: &Waiting,
    ) -> Result<Passed, StanzaError> {
        let account = &session.account;
        // What users send themselves is archived, and recognised, where it comes in.
        let is_recorded = may_be_kept(kind, stanza) && !seen::is_to_self(&account.jid, stanza);
        let stream = Some(session.stream.id);
        let digest = stanza.head.to.as_ref().filter(|_| is_recorded);
        let digest =
            digest.and_then(|to| seen::digest(Side::Sender, seen::peer(stanza, to), stanza, session.has_acks()));
        let mut tail = account.tail.lock();
        if let Some(first) = tail.sent_again(digest, stream, waiting) {
            if let Some(receipt) = waiting {
                receipt.comes_again(first);
            }
            return Ok(Passed::On);
        }
        let mut order = InOrder { session: Some(session), ..InOrder::new(host, account, Way::Outgoing) };
        if is_recorded {
            if let Passed::Done = self.pass_in_order(&order, stanza, Stage::Archive)? {
                return Ok(Passed::Done);
            }
            if order.is_archived() && self.writer.is_stuck() {
                return Err(Writer::refusal());
            }
        }
        let id = self.ids.next();
        order.id = order.is_archived().then_some(id);
        for stage in [Stage::Copy, Stage::Deliver] {
            if let Passed::Done = self.pass_in_order(&order, stanza, stage)? {
                return Ok(Passed::Done);
            }
        }
        order.copies.send(None);
        if let Some(digest) = digest {
            tail.seen.insert(digest, id, stream);
        }
        if order.is_archived() {
            let stanza = Arc::new(stanza.clone());
            let keep = Keep { id, stanza, archived: true, digest, waiting: waiting.clone() };
            let record = tail.record(account, keep);
            if let Some(receipt) = waiting {
                receipt.stands_for(&record);
            }
        }
        Ok(Passed::On)
    }

    /// Stores and hands out a message in the account's order. `sender`: who waits for its fate, and the session that
    /// sent it.
    fn hand_out(
        self: &Arc<Self>,
        host: &Arc<Host>,
        account: &Arc<Account>,
        to: &Jid,
        kind: MessageType,
        mut stanza: Stanza,
        (waiting, session): (Waiting, Option<&Arc<Session>>),
    ) -> Result<(), (Box<Stanza>, StanzaError)> {
        let storable = may_be_kept(kind, &stanza);
        let stream = session.map(|session| session.stream.id).or(seen::stream(&stanza, waiting.as_deref()));
        // There are receipts on streams with acknowledgements alone, other servers' as well.
        let may_resend = waiting.is_some() || session.is_some_and(|session| session.has_acks());
        let digest = storable.then(|| seen::received(&stanza, may_resend)).flatten();
        let mut tail = account.tail.lock();
        if account.is_deleted() {
            return Err((Box::new(stanza), StanzaError::new(Condition::ServiceUnavailable)));
        }
        if tail.sent_again(digest, stream, &waiting).is_some() {
            return Ok(());
        }
        let (targets, otherwise) = targets(account, to, kind);
        let mut order = InOrder { targets: &targets, ..InOrder::new(host, account, Way::Incoming) };
        let mut refused = None;
        if targets.is_empty() {
            match otherwise {
                Otherwise::Ignore => {
                    self.copy_alone(host, account, &mut stanza);
                    return Ok(());
                }
                Otherwise::Refuse => refused = Some(StanzaError::new(Condition::ServiceUnavailable)),
                Otherwise::Keep => match self.pass_in_order(&order, &mut stanza, Stage::Undelivered) {
                    Ok(Passed::Done) if storable => {}
                    Ok(Passed::Done) => {
                        self.copy_alone(host, account, &mut stanza);
                        return Ok(());
                    }
                    // Chat states and the like are worth nothing later, and an error for each would only be noise.
                    Ok(Passed::On) if !storable && !stanza.has("body", ns::CLIENT) => {
                        self.copy_alone(host, account, &mut stanza);
                        return Ok(());
                    }
                    Ok(Passed::On) => refused = Some(StanzaError::new(Condition::ServiceUnavailable)),
                    Err(error) => refused = Some(error),
                },
            }
        }
        if refused.is_none() && storable {
            let waits = !targets.iter().any(|target| target.takes_at_once());
            let bounds = self.bounds.load();
            if waits && self.writer.is_failing() {
                refused = Some(Writer::refusal());
            } else if waits
                && (tail.size.messages >= bounds.tail_messages
                    || tail.size.bytes + stanza.size() as u64 > bounds.tail_bytes)
            {
                let text = "The recipient's mailbox is full.";
                refused =
                    Some(StanzaError::new(Condition::ServiceUnavailable).with_kind(ErrorKind::Wait).with_text(text));
            }
        }
        if let Some(error) = refused {
            return Err((Box::new(stanza), error));
        }
        let id = self.ids.next();
        if storable {
            stanza.append_leaf("stanza-id", ns::SID, &[("by", account.jid.as_str()), ("id", &id.to_string())]);
            match self.pass_in_order(&order, &mut stanza, Stage::Archive) {
                Ok(Passed::On) if order.is_archived() && self.writer.is_stuck() => {
                    return Err((Box::new(stanza), Writer::refusal()));
                }
                Ok(Passed::On) => {}
                Ok(Passed::Done) => return Ok(()),
                Err(error) => return Err((Box::new(stanza), error)),
            }
        }
        order.id = order.is_archived().then_some(id);
        for stage in [Stage::Copy, Stage::Deliver] {
            match self.pass_in_order(&order, &mut stanza, stage) {
                Ok(Passed::On) => {}
                Ok(Passed::Done) => return Ok(()),
                Err(error) => return Err((Box::new(stanza), error)),
            }
        }
        if storable && targets.is_empty() && tail.size.messages > 0 {
            order.copies.leave_to_tail(&tail);
        }
        let stanza = Arc::new(stanza);
        let kept = storable.then(|| {
            if let Some(digest) = digest {
                tail.seen.insert(digest, id, stream);
            }
            let keep = Keep { id, stanza: stanza.clone(), archived: order.is_archived(), digest, waiting };
            tail.keep(account, keep, to.resourcepart().map(Box::from))
        });
        if !hand_to(&targets, &stanza, kept.as_ref(), order.copies.is_any())
            && !storable
            && !targets.is_empty()
            && otherwise != Otherwise::Ignore
        {
            // Those who are there have more than enough to read.
            return Err((Box::new(Arc::unwrap_or_clone(stanza)), StanzaError::new(Condition::ServiceUnavailable)));
        }
        order.copies.send(kept.as_ref());
        Ok(())
    }

    /// Takes a session out of its account and gives the others what it held and what it had not read (XEP-0198 §4,
    /// RFC 6121 §8.5.2), all in the account's order: what comes later is delivered later. `connection`: only if the session
    /// still has this one. `None` when it has not, or has ended before.
    pub(crate) fn part(self: &Arc<Self>, session: &Arc<Session>, connection: Option<u64>) -> Option<Parted> {
        let account = &session.account;
        let mut tail = account.tail.lock();
        let left = session.end(connection)?;
        account.remove_session(session);
        let mut parted = Parted::default();
        let Some(host) = self.host(account.jid.domainpart()) else { return Some(parted) };
        let mut held: HashSet<u64> = account.sessions().iter().flat_map(|other| other.held_or_owed()).collect();
        let (targets, _) = targets(account, &Jid::from(account.jid.clone()), MessageType::Chat);
        let readers = || targets.iter().filter(|target| !target.collects_mail());
        let mut unread = left.unread;
        for out in left.outgoing {
            if out.is_copy() && !session.is_reachable() {
                continue;
            }
            let Some(kept) = out.kept else {
                // What is not kept leaves no trace of who has it; but that somebody has can be seen.
                if out.to.is_none() || targets.is_empty() {
                    parted.unkept.push(out.stanza);
                }
                continue;
            };
            // A session may hold a message and results of its queries that carry it as well.
            if !kept.is_waiting() || !held.insert(kept.id) {
                continue;
            }
            if targets.is_empty() {
                let mut copy = Stanza::clone(&kept.stanza);
                let error = match self.pass_in_order(
                    &InOrder::new(&host, account, Way::Incoming),
                    &mut copy,
                    Stage::Undelivered,
                ) {
                    Ok(Passed::Done) => continue,
                    Ok(Passed::On) => StanzaError::new(Condition::ServiceUnavailable),
                    Err(error) => error,
                };
                parted.refused.push((kept, error));
                continue;
            }
            // What lies in the tail before it comes before it.
            if let Some(after) = unread.take_if(|after| *after < kept.id) {
                readers().for_each(|target| target.read_on_from(after));
            }
            hand_to(&targets, &Arc::new(delayed(&kept)), Some(&kept), false);
        }
        if let Some(after) = unread {
            readers().for_each(|target| target.read_on_from(after));
        }
        tail.release_idle();
        Some(parted)
    }

    /// Tells the senders of what nobody else could be given.
    pub(crate) async fn bounce_parted(self: &Arc<Self>, account: &Arc<Account>, parted: Parted) {
        for (kept, error) in parted.refused {
            self.refuse_kept(&kept, error).await;
        }
        let Some(host) = self.host(account.jid.domainpart()) else { return };
        for stanza in parted.unkept {
            match stanza.head.kind {
                Kind::Iq(IqType::Get | IqType::Set) | Kind::Message(MessageType::Groupchat) => {
                    self.bounce(&stanza, StanzaError::new(Condition::ServiceUnavailable), None).await;
                }
                Kind::Message(kind @ (MessageType::Normal | MessageType::Chat)) if stanza.has("body", ns::CLIENT) => {
                    let to = Jid::from(account.jid.clone());
                    if let Err((stanza, error)) =
                        self.hand_out(&host, account, &to, kind, Stanza::clone(&stanza), (None, None))
                    {
                        self.bounce(&stanza, error, None).await;
                    }
                }
                _ => {}
            }
        }
    }

    /// Takes a message out of the tail for good, unless somebody else holds it. From the archive nothing is taken back: the
    /// sender has an acknowledgement and may have gone, and any of the account's clients can have what is there; so it counts
    /// as delivered. Of what is in no archive, or not there yet, the sender is told why.
    pub(crate) async fn refuse_kept(self: &Arc<Self>, kept: &Arc<Kept>, error: StanzaError) {
        // If that cannot be known, the sender is told.
        let is_archived = self.is_in_archive(kept).await.unwrap_or(false);
        let (settled, refused) = {
            let mut tail = kept.account.tail.lock();
            // It may have been read by another meanwhile.
            if kept.account.sessions().iter().any(|session| session.held_or_owed().contains(&kept.id)) {
                return;
            }
            // Or its commit has come through.
            if is_archived || (kept.is_archived() && kept.standing() == Standing::Waits) {
                (kept.delivered(&mut tail), None)
            } else {
                (Receipts::new(), kept.refuse(&mut tail))
            }
        };
        drop(settled);
        if let Some(receipts) = refused {
            self.bounce(&kept.stanza, error, receipts.last().and_then(|receipt| receipt.session())).await;
            drop(receipts);
        }
    }

    // ---- the tail of a session ------------------------------------------------------------------------------------

    /// Sends a session what waits for its account, before anything newer, if it has not read that far.
    pub fn flush_tail(self: &Arc<Self>, session: &Arc<Session>) {
        if session.is_behind() {
            self.catch_up(session);
        }
    }

    /// Reads on in the tail for a session that has room, until its outbox is full again or the tail is at its end.
    pub fn catch_up(self: &Arc<Self>, session: &Arc<Session>) {
        if session.begin_reading() {
            let (server, session) = (self.clone(), session.clone());
            tokio::spawn(async move {
                server.read_tail(&session).await;
                session.end_reading();
                // Room may have come up between the last look and the end.
                session.wake();
            });
        }
    }

    async fn read_tail(self: &Arc<Self>, session: &Arc<Session>) {
        let account = &session.account;
        while session.catching_up().is_some() {
            // To wait for a turn is not to wait for the database: no deadline runs.
            let turn = self.tail_turns.acquire().await;
            let Some(after) = session.catching_up() else { return };
            let epoch = account.tail.lock().epoch;
            let page = self.store.tail(&account.jid, after, u64::MAX, PAGE).await;
            drop(turn);
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    self.store_failed("cannot read what waits for an account; trying again", &error);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            match self.hand_over_page(session, after, epoch, page) {
                Page::Again => tokio::task::yield_now().await,
                Page::More => {}
                Page::Last => return,
            }
        }
    }

    /// Gives a session a page of its tail, with what is not on disk yet in between.
    fn hand_over_page(self: &Arc<Self>, session: &Arc<Session>, after: u64, epoch: u64, page: Vec<TailEntry>) -> Page {
        let account = &session.account;
        let mut receipts = Vec::new();
        let mut tail = account.tail.lock();
        match session.catching_up() {
            None => return Page::Last,
            // Something went to disk while we read, and may be missing from the page; or it begins too late.
            Some(now) if now != after || tail.epoch != epoch => return Page::Again,
            Some(_) => {}
        }
        let full = page.len() == PAGE;
        let last = page.last().filter(|_| full).map_or(u64::MAX, |entry| entry.id);
        let mut waiting: BTreeMap<u64, Arc<Kept>> =
            tail.live.range(after.saturating_add(1)..=last).map(|(id, kept)| (*id, kept.clone())).collect();
        for entry in page {
            if let Some(stanza) = parse(&entry) {
                waiting.insert(entry.id, tail.recall(account, entry, Arc::new(stanza)));
            }
        }
        let mut owed = HashSet::new();
        for kept in session.owed(after, last) {
            owed.insert(kept.id);
            waiting.insert(kept.id, kept);
        }
        // What a living connection is being sent needs no second one; what a detached session holds may be wanted now.
        let sessions = account.sessions();
        let others = sessions.iter().filter(|other| !Arc::ptr_eq(other, session) && !other.is_detached());
        let with_others: HashSet<u64> = others.flat_map(|other| other.held()).collect();
        let own: HashSet<u64> = session.held().into_iter().collect();
        let is_reachable = session.is_reachable();
        let mut room = true;
        for (id, kept) in waiting {
            let is_for_it = match kept.resource.as_deref() {
                Some(resource) if resource == session.jid.resource() => true,
                Some(resource) if account.session(resource).is_some() => false,
                _ => is_reachable,
            };
            if is_for_it && kept.is_waiting() && session.has_copy(id) {
                receipts.push(kept.delivered(&mut tail));
            }
            let copy = session.copy_due(id);
            let is_wanted = (is_for_it || copy.is_some())
                && !own.contains(&id)
                && if owed.contains(&id) { !kept.is_void() } else { kept.is_waiting() && !with_others.contains(&id) };
            if !room {
            } else if !is_wanted {
                session.pass_over(id);
            } else if !session.push_caught(match copy {
                Some(stanza) => Outgoing { stanza, to: Some(session.jid.clone().into()), kept: Some(kept.clone()) },
                None => Outgoing { stanza: Arc::new(delayed(&kept)), to: None, kept: Some(kept.clone()) },
            }) {
                room = false;
            }
            tail.release(&kept);
        }
        if !room {
            // The session asks again when its outbox is half empty.
            return Page::Last;
        }
        if full {
            return Page::More;
        }
        session.caught_up();
        Page::Last
    }

    // ---- presence -------------------------------------------------------------------------------------------------

    pub(crate) async fn deliver_presence(
        self: &Arc<Self>,
        host: &Arc<Host>,
        kind: PresenceType,
        mut stanza: Stanza,
        session: Option<&Arc<Session>>,
    ) {
        let Some(to) = stanza.head.to.clone() else { return };
        let plain = matches!(kind, PresenceType::Available | PresenceType::Unavailable | PresenceType::Error);
        let account = match self.accounts.loaded(to.bare_str()) {
            Some(account) => account,
            // Nobody is there to see it, and nothing is kept.
            None if plain && !self.may_be_there(to.bare_str()) => return,
            None => match self.account(&to.bare()).await {
                Ok(Some(account)) => account,
                // As for an account that has not approved the sender: nobody learns which names exist (RFC 6121 §4.3.2).
                Ok(None) => {
                    if let (PresenceType::Probe, Some(from)) = (kind, stanza.head.from) {
                        let answer = Stanza::presence(PresenceType::Unsubscribed).from(to.bare()).to(from.bare());
                        self.route(answer).await;
                    }
                    return;
                }
                Err(error) => return self.bounce(&stanza, error.into(), session).await,
            },
        };
        let stages = [Stage::Guard, Stage::Stamp, Stage::Archive, Stage::Copy, Stage::Deliver];
        match self.pass(host, &account, None, &mut stanza, Way::Incoming, &stages).await {
            Ok(Passed::On) => {}
            Ok(Passed::Done) => return,
            Err(error) => return self.bounce(&stanza, error, session).await,
        }
        if !plain {
            return;
        }
        let targets: Sessions = match to.resourcepart() {
            Some(resource) => account.session(resource).into_iter().collect(),
            None if kind == PresenceType::Error => return,
            None => account.sessions().into_iter().filter(|session| session.is_available()).collect(),
        };
        let stanza = Arc::new(stanza);
        // Presence that the user has asked for may not go missing; what a stranger directs at the user may.
        let from = stanza.head.from.as_ref().map_or("", |from| from.bare_str());
        let wanted = from == account.jid.as_str() || account.roster().subscription(from).is_to();
        for target in targets {
            let out = Outgoing { stanza: stanza.clone(), to: None, kept: None };
            if wanted {
                target.push(out)
            } else {
                target.offer(out)
            };
        }
    }

    // ---- IQs ------------------------------------------------------------------------------------------------------

    pub(crate) async fn deliver_iq(
        self: &Arc<Self>,
        host: &Arc<Host>,
        kind: IqType,
        mut stanza: Stanza,
        waiting: Waiting,
        session: Option<&Arc<Session>>,
    ) {
        let Some(to) = stanza.head.to.clone() else { return };
        let account = match self.accounts.loaded(to.bare_str()) {
            Some(account) => Some(account),
            // Without a session there is nobody behind a full JID.
            None if !to.is_bare() && !self.may_be_there(to.bare_str()) => None,
            None => match self.account(&to.bare()).await {
                Ok(account) => account,
                Err(error) => return self.bounce(&stanza, error.into(), session).await,
            },
        };
        let unavailable = || StanzaError::new(Condition::ServiceUnavailable);
        let Some(account) = account else { return self.bounce(&stanza, unavailable(), session).await };
        match self.pass(host, &account, None, &mut stanza, Way::Incoming, &[Stage::Guard, Stage::Deliver]).await {
            Ok(Passed::On) => {}
            Ok(Passed::Done) => return,
            Err(error) => return self.bounce(&stanza, error, session).await,
        }
        match to.resourcepart() {
            None => self.ask(host, Some(account), kind, stanza, waiting, session).await,
            Some(resource) => {
                let taken = account
                    .session(resource)
                    .is_some_and(|target| target.offer(Outgoing::new(stanza.clone())) == Pushed::Taken);
                if !taken {
                    self.bounce(&stanza, unavailable(), session).await;
                }
            }
        }
    }
}

/// Takes out the stanza-ids that others give in the account's name, however they write it (XEP-0359 §5, security.md C3).
fn unforge(account: &Account, stanza: &mut Stanza) {
    let is_ours = |by: &str| Jid::new(by.trim()).is_ok_and(|by| by.bare_str() == account.jid.as_str());
    if stanza.has("stanza-id", ns::SID) {
        stanza.retain_elements(|e| !(e.is("stanza-id", ns::SID) && e.get("by").is_none_or(is_ours)));
    }
}

/// Gives a message to sessions. `is_copied`: others get copies of it. `false` when none has taken it.
fn hand_to(targets: &Sessions, stanza: &Arc<Stanza>, kept: Option<&Arc<Kept>>, is_copied: bool) -> bool {
    let (mut taken, is_shared) = (false, targets.len() > 1);
    let to = stanza.head.to.as_ref().filter(|_| kept.is_none() && (is_shared || is_copied));
    for target in targets {
        let out = Outgoing { stanza: stanza.clone(), to: to.cloned(), kept: kept.cloned() };
        taken |= Pushed::Taken == if is_shared { target.offer_shared(out) } else { target.offer(out) };
    }
    taken
}

/// The sessions that a message goes to, and what else becomes of it (RFC 6121 §8.5.2.1.1, §8.5.2.2.1, §8.5.3).
fn targets(account: &Account, to: &Jid, kind: MessageType) -> (Sessions, Otherwise) {
    if let Some(resource) = to.resourcepart() {
        if let Some(session) = account.session(resource) {
            return (Sessions::from_iter([session]), Otherwise::Keep);
        }
        match kind {
            MessageType::Chat => {}
            MessageType::Normal | MessageType::Groupchat => return (Sessions::new(), Otherwise::Refuse),
            MessageType::Headline | MessageType::Error => return (Sessions::new(), Otherwise::Ignore),
        }
    }
    let reachable = || {
        account
            .sessions()
            .into_iter()
            .filter(|session| session.priority().is_some_and(|priority| priority >= 0))
            .collect()
    };
    match kind {
        MessageType::Normal | MessageType::Chat => (reachable(), Otherwise::Keep),
        MessageType::Headline => (reachable(), Otherwise::Ignore),
        MessageType::Groupchat => (Sessions::new(), Otherwise::Refuse),
        MessageType::Error => (Sessions::new(), Otherwise::Ignore),
    }
}

/// Whether a message is worth storing until it is delivered (XEP-0160 §3, XEP-0334 §4).
pub(crate) fn may_be_kept(kind: MessageType, stanza: &Stanza) -> bool {
    match kind {
        MessageType::Normal | MessageType::Chat => {}
        MessageType::Groupchat | MessageType::Headline | MessageType::Error => return false,
    }
    // What another archive sends is for the session that has asked it (security.md C1).
    if stanza.has("no-store", ns::HINTS) || stanza.has("result", ns::MAM) {
        return false;
    }
    // What goes with a chat state, and makes no more of it: ids, times, the mark of a room's private message.
    let is_state = stanza.has_such(|ns, _| ns == ns::CHATSTATES);
    let is_mark = |ns: &str, name: &str| match ns {
        ns::CHATSTATES | ns::SID | ns::OCCUPANT_ID | ns::DELAY => true,
        ns::MUC_USER => name == "x" && stanza.find("x", ns::MUC_USER).is_some_and(|x| x.elements().next().is_none()),
        _ => false,
    };
    stanza.has("store", ns::HINTS)
        || stanza.has_such(|ns, name| {
            ns != ns::HINTS && !(ns == ns::CLIENT && name == "thread") && !(is_state && is_mark(ns, name))
        })
}

/// A kept message as it is sent later: with the time at which the server took it (XEP-0203).
pub(crate) fn delayed(kept: &Kept) -> Stanza {
    let mut stanza = Stanza::clone(&kept.stanza);
    let stamp = datetime::format(kept.stamp);
    stanza.append(Element::new("delay", ns::DELAY).attr("from", kept.account.jid.domainpart()).attr("stamp", stamp));
    stanza
}

pub(crate) fn parse(entry: &TailEntry) -> Option<Stanza> {
    match parser::parse(entry.stanza.clone(), &Namespaces::none()) {
        Ok(Parsed::Stanza(stanza)) => Some(stanza),
        Ok(_) | Err(_) => {
            error!(account = %entry.account, id = entry.id, "a stored message cannot be read; it is left where it is");
            None
        }
    }
}
