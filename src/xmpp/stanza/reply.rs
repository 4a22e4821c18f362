//! Answers to stanzas: results and errors (RFC 6120 §8.2.3, §8.3.1).

use super::{Head, IqType, Kind, MessageType, PresenceType, Stanza};
use crate::element::Element;
use crate::error::StanzaError;
use crate::ns;

/// An error carries the stanza's payload back only up to this size in bytes: XEP-0205 advises against more.
const LARGEST_RETURNED: usize = 4096;

impl Stanza {
    /// The result of an IQ, to its sender.
    pub fn result(&self, payload: Option<Element>) -> Self {
        let mut result = Self::new(self.reply_head(Kind::Iq(IqType::Result)));
        if let Some(payload) = payload {
            result.children_mut().push(payload);
        }
        result
    }

    /// The stanza returned to its sender with `error` in it. `None` if it must not be answered: an error is never
    /// sent for an error, nor for the result of an IQ (RFC 6120 §8.3.1). What may hold a password is not sent back
    /// (XEP-0077 §3.3).
    pub fn error_reply(&self, error: &StanzaError) -> Option<Self> {
        let kind = match self.head.kind {
            kind if kind.is_error() => return None,
            Kind::Message(_) => Kind::Message(MessageType::Error),
            Kind::Presence(_) => Kind::Presence(PresenceType::Error),
            Kind::Iq(IqType::Get | IqType::Set) => Kind::Iq(IqType::Error),
            Kind::Iq(_) => return None,
        };
        let mut reply = Self::new(self.reply_head(kind));
        if self.size() <= LARGEST_RETURNED && !self.has_ns(ns::REGISTER) {
            reply.body = self.body.clone();
        }
        reply.append(error.to_element());
        Some(reply)
    }

    fn reply_head(&self, kind: Kind) -> Head {
        Head { to: self.head.from.clone(), from: self.head.to.clone(), id: self.head.id.clone(), ..Head::new(kind) }
    }
}
