//! XEP-0045 §17.4: IQs between occupants, without either learning the other's real JID; XEP-0410: the self-ping.
//!
//! The room remembers who has asked whom, and gives the question an id of its own, so that nobody can answer in another's
//! place, and an answer finds the session that has asked.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rookery_xmpp::error::{Condition, ErrorKind, StanzaError};
use rookery_xmpp::jid::{FullJid, Jid};
use rookery_xmpp::ns;
use rookery_xmpp::stanza::{Head, IqType, Kind, Stanza};

use super::leaving::error_in;
use super::outcome::{At, Outcome};
use super::private;
use super::room::Room;

/// For how long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Questions that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Queries {
    last: u64,
    open: BTreeMap<u64, Query>,
}

#[derive(Debug)]
struct Query {
    asker: FullJid,
    /// The asker's own id.
    id: Option<Box<str>>,
    /// Who was asked: a session, or its account.
    asked: Jid,
    /// The occupant JID of who was asked.
    occupant: FullJid,
    since: SystemTime,
}

impl Queries {
    /// A session is gone: it gets no answers. What it was asked, and has not answered, is given.
    fn forget(&mut self, session: &FullJid) -> Vec<Query> {
        self.open.retain(|_, query| query.asker != *session);
        self.open.extract_if(.., |_, query| query.asked == **session).map(|(_, query)| query).collect()
    }

    pub(super) fn expire(&mut self, now: SystemTime) {
        self.open.retain(|_, query| !now.duration_since(query.since).is_ok_and(|waited| waited > PATIENCE));
    }
}

fn own_id(number: u64) -> Box<str> {
    format!("room-{number}").into()
}

impl Room {
    /// An IQ request to an occupant JID.
    pub(super) fn query(
        &mut self,
        at: At,
        from: &Jid,
        to: &Jid,
        stanza: &Stanza,
        out: &mut Outcome,
    ) -> Result<(), StanzaError> {
        let (ns, name) = stanza.payload_name().ok_or(Condition::BadRequest)?;
        let Some(asker) = self.occupant_of(from) else {
            // §6.6 for disco, XEP-0410 §3.2 for the rest.
            let is_disco = matches!(ns, ns::DISCO_INFO | ns::DISCO_ITEMS);
            let error = if is_disco {
                StanzaError::new(Condition::BadRequest)
            } else {
                StanzaError::new(Condition::NotAcceptable).with_kind(ErrorKind::Cancel)
            };
            return Err(error.with_by(self.jid.clone()));
        };
        let asker = asker.jid.clone();
        let asked = self.addressed(to).ok_or(Condition::ItemNotFound)?;
        let is_get = stanza.head.kind == Kind::Iq(IqType::Get);
        if asked.jid == asker && is_get && (ns, name) == (ns::PING, "ping") {
            out.result(stanza, None);
            return Ok(());
        }
        // A vCard is the account's (XEP-0054); all else is for a client.
        let account = (is_get && ns == ns::VCARD).then(|| asked.who.clone().into_jid());
        let target = account.or_else(|| asked.first_session().map(Jid::from)).ok_or(Condition::ItemNotFound)?;
        let session = from.full().ok_or(Condition::NotAcceptable)?;
        let occupant = asked.jid.clone();
        self.queries.expire(at.now);
        if self.queries.open.values().filter(|query| query.asker == session).count() >= self.service.limits.queries {
            return Err(Condition::ResourceConstraint.into());
        }
        let mut forwarded = stanza.clone();
        self.queries.last += 1;
        forwarded.head.id = Some(own_id(self.queries.last));
        forwarded.head.from = Some(asker.into());
        forwarded.head.to = None;
        let query =
            Query { asker: session, id: stanza.head.id.clone(), asked: target.clone(), occupant, since: at.now };
        self.queries.open.insert(self.queries.last, query);
        out.send(forwarded, target);
        Ok(())
    }

    /// A session is gone; whoever has asked it is told.
    pub(super) fn forget_queries(&mut self, session: &FullJid, out: &mut Outcome) {
        for query in self.queries.forget(session) {
            let head = Head { from: Some(query.occupant.into()), id: query.id, ..Head::new(Kind::Iq(IqType::Error)) };
            let mut answer = Stanza::new(head);
            answer.append(StanzaError::new(Condition::ItemNotFound).with_by(self.jid.clone()).to_element());
            out.send(answer, query.asker);
        }
    }

    /// The answer to one.
    pub(super) fn answer(&mut self, from: &Jid, _to: &Jid, stanza: &Stanza, out: &mut Outcome) {
        let number = stanza.head.id.as_deref().and_then(|id| id.strip_prefix("room-")?.parse::<u64>().ok());
        let Some(number) = number.filter(|number| self.queries.open.get(number).is_some_and(|q| q.asked == *from))
        else {
            return;
        };
        let Some(query) = self.queries.open.remove(&number) else { return };
        let mut answer = stanza.clone();
        if stanza.head.kind.is_error() {
            answer = Stanza::new(stanza.head.clone());
            answer.append(private::anonymous(&error_in(stanza)));
        }
        answer.head = Head { from: Some(query.occupant.into()), id: query.id, ..Head::new(stanza.head.kind) };
        out.send(answer, query.asker);
    }
}
