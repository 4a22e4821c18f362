//! The start tag of a stanza: kind, type, addresses, id and language (RFC 6120 §8.1, §8.2).

use crate::escape::{self, Sink};
use crate::jid::Jid;
use crate::ns;

/// The start tag of a stanza. Attributes that RFC 6120 does not define are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Message, presence or IQ, with its type.
    pub kind: Kind,
    /// The intended recipient.
    pub to: Option<Jid>,
    /// The sender.
    pub from: Option<Jid>,
    /// The sender's identifier.
    pub id: Option<Box<str>>,
    /// `xml:lang`, taken from the stream if the stanza had none.
    pub lang: Option<Box<str>>,
}

/// The three kinds of stanzas; the type is part of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RFC 6121 §5.
    Message(MessageType),
    /// RFC 6121 §4.
    Presence(PresenceType),
    /// RFC 6120 §8.2.3.
    Iq(IqType),
}

macro_rules! types {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $wire:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// The value of the `type` attribute.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }

            /// The type of this name, if the RFC defines it.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

types! {
    /// RFC 6121 §5.2.2.
    MessageType {
        /// A message outside of a conversation; also what an unknown type means.
        Normal "normal",
        /// Part of a conversation between two.
        Chat "chat",
        /// To or from a room.
        Groupchat "groupchat",
        /// An alert to which no reply is expected.
        Headline "headline",
        /// A report that a message was not processed.
        Error "error",
    }
}

types! {
    /// RFC 6121 §4.7.1. Available presence has no `type` attribute.
    PresenceType {
        /// The sender is available for communication.
        Available "",
        /// The sender is no longer available.
        Unavailable "unavailable",
        /// The sender wishes to subscribe to the recipient's presence.
        Subscribe "subscribe",
        /// The sender has allowed the recipient to receive its presence.
        Subscribed "subscribed",
        /// The sender ends its subscription.
        Unsubscribe "unsubscribe",
        /// The sender ends or denies the recipient's subscription.
        Unsubscribed "unsubscribed",
        /// A request for the recipient's current presence, made by a server.
        Probe "probe",
        /// A report that a presence stanza was not processed.
        Error "error",
    }
}

types! {
    /// RFC 6120 §8.2.3.
    IqType {
        /// Asks for information.
        Get "get",
        /// Provides data or asks for a change.
        Set "set",
        /// Answers a get or set.
        Result "result",
        /// Reports that a get or set was not processed.
        Error "error",
    }
}

impl Kind {
    /// The name of the element.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message(_) => "message",
            Self::Presence(_) => "presence",
            Self::Iq(_) => "iq",
        }
    }

    /// The value of the `type` attribute, if one is to be written.
    pub const fn type_name(self) -> Option<&'static str> {
        match self {
            Self::Message(MessageType::Normal) | Self::Presence(PresenceType::Available) => None,
            Self::Message(kind) => Some(kind.name()),
            Self::Presence(kind) => Some(kind.name()),
            Self::Iq(kind) => Some(kind.name()),
        }
    }

    /// Whether the type is "error", in each of the three.
    pub const fn is_error(self) -> bool {
        matches!(
            self,
            Self::Message(MessageType::Error) | Self::Presence(PresenceType::Error) | Self::Iq(IqType::Error)
        )
    }
}

impl Head {
    /// A start tag without attributes.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, to: None, from: None, id: None, lang: None }
    }

    /// Writes the start tag up to, not including, its `>` or `/>`.
    pub(super) fn write(&self, out: &mut impl Sink, to: Option<&Jid>, declare: bool) {
        self.write_begin(out, declare);
        if let Some(to) = to.or(self.to.as_ref()) {
            write_to(out, to);
        }
        self.write_rest(out);
    }

    /// What comes before `to`.
    pub(super) fn write_begin(&self, out: &mut impl Sink, declare: bool) {
        out.put(b"<");
        out.put(self.kind.name().as_bytes());
        if declare {
            escape::attr_pair(out, "xmlns", ns::CLIENT);
        }
        if let Some(kind) = self.kind.type_name() {
            escape::attr_pair(out, "type", kind);
        }
    }

    /// What comes behind `to`.
    pub(super) fn write_rest(&self, out: &mut impl Sink) {
        if let Some(from) = &self.from {
            escape::attr_pair(out, "from", from.as_str());
        }
        if let Some(id) = &self.id {
            escape::attr_pair(out, "id", id);
        }
        if let Some(lang) = &self.lang {
            escape::attr_pair(out, "xml:lang", lang);
        }
    }
}

pub(super) fn write_to(out: &mut impl Sink, to: &Jid) {
    escape::attr_pair(out, "to", to.as_str());
}
